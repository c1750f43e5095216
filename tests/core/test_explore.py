"""Every interleaving of small worlds is fine, and the search would notice if it were not."""

import math
from typing import Dict

import pytest

from process.core._flow import UNBOUNDED, Flow, Stream
from process.core._inbound import Inbound
from process.core._outbound import Outbound
from stress import explore as explorer
from stress.explore import STDOUT, Shell, World, explore
from stress.explore.worlds import READS

WORLDS: Dict[str, World] = {
    "every way to read": World(calls=READS, stdout=1),
    "join, then read": World(calls=(("join",), ("poll",), ("read", STDOUT, 1)), closes=True),
    "join, then output": World(calls=(("join",), ("output", STDOUT, False)), stdout=4),
    "lines longer than memory": World(calls=(("read line", STDOUT, -1), ("join",)), stdout=4),
    "one output while the other floods": World(
        calls=(("read", STDOUT, 1),), length=1, stdout=0, stderr=3
    ),
    "flush, join and close stdin": World(
        calls=(("write", 2), ("flush",), ("close stdin",), ("join",)),
        stdout=None,
        stdin=True,
        closes=True,
    ),
    "write more than fits": World(
        calls=(("write", 2), ("leave",)), stdout=None, stdin=True, closes=True
    ),
    "bytes given for stdin": World(calls=(("leave",),), length=1, stdout=0, given=2),
    "closed under a signal": World(calls=(("close",),), length=1),
    "a stream closed early": World(calls=(("read", STDOUT, 1), ("close stream", STDOUT))),
    "a grandchild holds the pipe": World(calls=(("output", STDOUT, True),), grandchild=True),
    "two callers": World(
        calls=(("read", STDOUT, 1), ("output", STDOUT, False)), length=1, callers=2, stdout=1
    ),
    "small writes": World(
        calls=(("write", 1), ("flush",), ("join",)), length=3, stdout=None, stdin=True, buffer=3
    ),
    "a front and another reader": World(
        calls=(("read", STDOUT, 1), ("read available", STDOUT, 1)),
        length=1,
        callers=2,
        capacity=2,
        bound=2,
    ),
    "handed over": World(
        calls=(("hand over", STDOUT), ("read", STDOUT, 1)), callers=2, length=1, stdout=2
    ),
    "a connected process": World(
        calls=(("join receiver",), ("poll",)), stdout=None, stderr=3, receiver=True
    ),
    "the marks of hysteresis": World(
        calls=(("read", STDOUT, 1), ("read", STDOUT, 5)), stdout=9, bound=8, memory=16
    ),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_interleaving_is_fine(name: str) -> None:
    """No interleaving of a small world stalls, overfills, loses, doubles or reorders."""
    result = explore(WORLDS[name])
    assert result.violation is None, str(result.violation)
    assert result.complete


def _finds(kind: str, world: World) -> None:
    violation = explore(world).violation
    assert violation is not None
    assert violation.kind == kind, str(violation)
    assert violation.trace


def test_finds_a_front_that_is_not_recalled() -> None:
    """Bytes that another reader takes, and that a front still hands out, are seen."""

    class Forgetful(Inbound):
        def _recall(self) -> None:
            front = self._front
            if front is not None:
                self._buffer.skip_to(front._begin + front.chunk.tell())
                self._front = None

    _finds("order", WORLDS["a front and another reader"]._replace(length=2, inbound=Forgetful))


def test_finds_processes_that_are_not_connected() -> None:
    """A wait for one process that leaves the streams of another one without room is seen."""

    class Alone(Flow):
        __slots__ = ()

        def connect(self, other: Flow) -> None:
            pass

    _finds("stuck", WORLDS["a connected process"]._replace(flow=Alone))


def test_finds_overflow_while_nobody_waits() -> None:
    """A flow that lets a stream hold without bound though no caller waits is seen."""

    class Generous(Flow):
        __slots__ = ()

        def limit(self, stream: Stream) -> float:
            return UNBOUNDED

    _finds("bound", World(calls=(("join",),), length=1, flow=Generous))


def test_finds_end_of_stream_before_the_last_chunk() -> None:
    """A stream that counts as ended while bytes lie in the overflow is seen."""

    class Hasty(Inbound):
        @property
        def at_eof(self) -> bool:
            return self.ending.eof

    world = World(calls=(("join",), ("read", STDOUT, 4)), stdout=3, inbound=Hasty)
    _finds("end", world)


def test_finds_bytes_that_overtake_the_overflow() -> None:
    """A stream that puts new bytes before spilled ones is seen."""

    class Overtaking(Inbound):
        def spills(self, size: int) -> bool:
            return not self.spilled and super().spills(size)

    world = World(calls=(("join",), ("gather", STDOUT, math.inf)), stdout=4, inbound=Overtaking)
    _finds("order", world)


def test_finds_bytes_dropped_at_close_of_stdin() -> None:
    """A writer that ends as soon as stdin is to be closed loses bytes, and the search sees it."""

    class Impatient(Outbound):
        @property
        def finished(self) -> bool:
            return self.broken or self.closing

    world = World(calls=(("join",),), length=1, stdout=None, given=1, outbound=Impatient)
    _finds("end", world)


def test_finds_a_poll_that_grants_nothing() -> None:
    """A poll loop that gives the streams no room never ends, and the search sees it."""

    class Mean(Inbound):
        def grant(self) -> None:
            pass

    _finds("stuck", World(calls=(("poll loop",),), length=1, stdout=3, inbound=Mean))


def test_finds_a_byte_that_is_dropped() -> None:
    """A stream that drops a byte is seen as soon as it has done so."""

    class Leaky(Inbound):
        def feed(self, data: bytes) -> None:
            super().feed(data[1:])

    _finds("lost", World(calls=(("join",),), length=1, inbound=Leaky))


SHELLS = {
    "the claim is given to two": (
        "end",
        Shell.ONE_CLAIM,
        World(calls=(("read", STDOUT, 2),), length=1),
    ),
    "a caller has the claim and cannot read": (
        "stuck",
        Shell.CLAIM_TO_READ,
        WORLDS["lines longer than memory"],
    ),
    "a caller has the claim while it waits for its turn": (
        "stuck",
        Shell.TURN_RELEASES,
        WORLDS["two callers"],
    ),
    "the claim is given up and the thread sleeps on": (
        "asleep",
        Shell.RELEASE_TOUCHES | Shell.TAKE_TOUCHES,
        World(calls=(("read", STDOUT, 1),), length=1, capacity=2, bound=2),
    ),
    "the claim is given up and the caller that wants it sleeps on": (
        "stuck",
        Shell.RELEASE_NOTIFIES,
        WORLDS["handed over"],
    ),
    "the claim is lost and the thread sleeps on": (
        "asleep",
        Shell.ABANDON_WAKES,
        World(calls=(("read", STDOUT, 1),), length=1),
    ),
    "the stand-by never ends": (
        "asleep",
        Shell.STAND_BY_ENDS,
        World(calls=(("join",),), length=1),
    ),
    "a caller that begins to wait does not wake the threads": (
        "stuck",
        Shell.ENTER_WAKES,
        World(calls=(("join",),), length=1, stdout=3),
    ),
    "a caller that waits for a connected process does not wake the threads": (
        "stuck",
        Shell.ENTER_NUDGES,
        WORLDS["a connected process"],
    ),
    "bytes are recorded and the caller sleeps on": (
        "stuck",
        Shell.RECORD_NOTIFIES,
        World(calls=(("read", STDOUT, 1),), length=1),
    ),
    "the caller needs more than it has said": (
        "stuck",
        Shell.MORE_NEEDED,
        WORLDS["lines longer than memory"],
    ),
    "a caller that waits for the end is not known to the flow": (
        "stuck",
        Shell.COMPLETE_ENTERS,
        World(calls=(("output", STDOUT, False),), length=1, stdout=0, stderr=3),
    ),
    "a caller that has put bytes does not wake the thread": (
        "asleep",
        Shell.PUT_TOUCHES | Shell.RELEASE_TOUCHES,
        World(calls=(("write", 2),), length=1, stdout=None, stdin=True),
    ),
    "bytes in flight count as silence": (
        "end",
        Shell.BUSY,
        World(calls=(("output", STDOUT, True),), length=1, grandchild=True),
    ),
    "bytes on their way into the overflow count as silence": (
        "end",
        Shell.SPILL_BUSY,
        World(calls=(("output", STDOUT, False),), length=1, stdout=3, bound=3, grandchild=True),
    ),
    "bytes in the overflow count as silence": (
        "end",
        Shell.SPILLED,
        World(calls=(("join",), ("output", STDOUT, False)), stdout=4),
    ),
}


@pytest.mark.parametrize("name", SHELLS)
def test_finds_what_the_shells_may_forget(name: str) -> None:
    """Each duty of threads and callers is missed when it is neglected."""
    kind, forgotten, world = SHELLS[name]
    _finds(kind, world._replace(shell=Shell.all() & ~forgotten))


def test_every_duty_is_neglected_once() -> None:
    """The search is known to notice each of them."""
    neglected = Shell.NOTHING
    for _, forgotten, _ in SHELLS.values():
        neglected |= forgotten
    assert neglected == Shell.all()


def test_a_trap_in_circles_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that moves only lead round in circles counts as stuck, though something moves."""

    def restless(core: explorer._Core, stream: int) -> "tuple[int, int]":
        return 1, 0

    def movable(core: explorer._Core, stream: int) -> bool:
        return True

    monkeypatch.setattr(explorer._Core, "reader_decides", restless)
    monkeypatch.setattr(explorer._Core, "movable", movable)
    _finds("stuck", World(calls=(("read", STDOUT, 1),), length=1))


def test_a_search_may_be_limited_and_watched() -> None:
    """A search that reaches its limit says so, and reports how it gets on."""
    seen = []

    def progress(known: int, left: int) -> None:
        seen.append((known, left))

    result = explore(World(calls=(("join",),), stderr=1), 500, progress)
    assert result.violation is None
    assert not result.complete
    assert result.states >= 500
    assert seen
