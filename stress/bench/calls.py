"""What one call costs, in a loop of the same calls on two different objects.

A *session* sets up what a call needs, gives a *block* that makes the call as many times as it is
told, and checks what the calls have given. A case of calls is a session with this library and one
without it.
"""

import time
from functools import partial
from typing import Callable, ContextManager, NamedTuple, Optional

from stress.bench.case import Case, Times
from stress.bench.clock import processor_seconds

Block = Callable[[int], None]
Session = Callable[[], ContextManager[Block]]

#: Milliseconds of calls in each round.
_ROUND = 300

#: A block takes at least this part of a round, so that the code around the calls does not count.
_PART = 1 / 30


class Repeated(NamedTuple):
    """The result of `repeat`."""

    #: Wall time of the calls that count, and their number.
    seconds: float
    counted: int
    #: All calls, including those of the warm-up.
    calls: int


def repeat(
    block: Block, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Repeated:
    """Make calls for about that many seconds, after a warm-up that finds the size of a block."""
    size, calls, took = 1, 0, 0.0
    while True:
        begin = clock()
        block(size)
        took = clock() - begin
        calls += size
        if took >= seconds * _PART:
            break
        size *= 2
    counted, took = 0, 0.0
    while took < seconds:
        begin = clock()
        block(size)
        took += clock() - begin
        counted += size
    return Repeated(took, counted, calls + counted)


def per_call(session: Session, milliseconds: int) -> Times:
    """The times of one call.

    The processor time of the children is known when they have been waited for, so it includes
    their start and end: a few milliseconds for each round.
    """
    before = processor_seconds()
    with session() as block:
        done = repeat(block, milliseconds / 1000)
    processor = processor_seconds() - before
    return Times(done.seconds / done.counted, processor / done.calls)


def case(
    *,
    name: str,
    module: str,
    group: str,
    job: str,
    ours: Session,
    theirs: Session,
    against: str,
    allowed: Optional[float],
    needs: str = "",
) -> Case[int, Times]:
    """A case of calls; the sessions raise `ValueError` if a result is wrong."""
    return Case(
        name=name,
        module=module,
        job=job,
        amounts=(_ROUND,),
        unit="ms",
        prepare=int,
        ours=partial(per_call, ours),
        theirs=partial(per_call, theirs),
        against=against,
        intact=_checked_already,
        times=_of_the_call,
        allowed=allowed,
        group=group,
        pinned=True,
        limit=20.0,
        needs=needs,
    )


def check_amount(read: int, written: int) -> None:
    """Check that a child has read all of what it was given.

    Raises:
        ValueError: it has not.
    """
    if read != written:
        raise ValueError(f"the child has read {read:,} of {written:,} bytes")


def _checked_already(milliseconds: int, times: Times) -> bool:
    return True


def _of_the_call(times: Times) -> Times:
    return times
