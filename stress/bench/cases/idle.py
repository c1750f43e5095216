"""What a process costs while nothing happens."""

import time

from process import PIPE, Process
from stress.bench.case import Case, Times
from stress.bench.clock import processor_seconds


def _idle(milliseconds: int, reads: bool) -> Times:
    """All streams are open, and the child is silent; a caller waits for a line, or does not."""
    seconds = milliseconds / 1000
    with Process(["sleep", str(seconds if reads else 1000)], stdin=PIPE) as child:
        processor, begin = processor_seconds(), time.perf_counter()
        if reads:
            child.stdout.readline()
        else:
            time.sleep(seconds)
        # The child has not been waited for yet, so it does not count.
        times = Times(time.perf_counter() - begin, processor_seconds() - processor)
        child.kill()
    return times


def _unread(milliseconds: int) -> Times:
    return _idle(milliseconds, reads=False)


def _read(milliseconds: int) -> Times:
    return _idle(milliseconds, reads=True)


def _long_enough(milliseconds: int, times: Times) -> bool:
    # The child's clock begins a little before ours.
    return times.seconds > milliseconds / 1000 - 0.1


def _itself(times: Times) -> Times:
    return times


CASES = tuple(
    Case(
        name=name,
        module=__name__,
        job=job,
        amounts=(10_000,),
        unit="ms",
        prepare=int,
        ours=ours,
        intact=_long_enough,
        times=_itself,
        rounds=1,
        group="idle",
        pinned=True,
    )
    for name, job, ours in (
        ("idle", "a child that is silent, and nobody reads", _unread),
        ("idle-readline", "a child that is silent, and a caller inside readline()", _read),
    )
)
