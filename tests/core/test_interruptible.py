"""An exception may strike anywhere in a call, and no byte is lost, doubled or moved.

A signal handler, `KeyboardInterrupt` above all, may raise wherever the interpreter looks for
signals in the thread that calls. Here each operation that callers' threads run is struck at every
one of these points in turn, until it gets through. An operation without a call has none, where the
interpreter looks after calls only.
"""

from pathlib import Path
from typing import Callable, TypeVar

import pytest

import process.core
from process.core._buffer import Buffer
from process.core._flow import Flow, Wait
from process.core._inbound import Collection, Inbound
from process.core._outbound import Outbound
from tests.support import Injector

T = TypeVar("T")

CORE = str(Path(process.core.__file__).parent)


def strike_everywhere(
    make: Callable[[], T], operate: Callable[[T], object], check: Callable[[T], object]
) -> None:
    """Run `operate` on a new object, struck at every point in turn; `check` each time."""
    point = 0
    struck = True
    while struck:
        point += 1
        thing = make()
        injector = Injector(point, root=CORE, between_instructions=True)
        injector.call(lambda: operate(thing))  # noqa: B023 - called at once
        check(thing)
        struck = injector.struck


LARGE = bytes(range(256)) * 32
CHUNKS = [b"ab", LARGE, b"cd", LARGE, b"efg"]
EVERYTHING = b"".join(CHUNKS)


def _buffer(skipped: int = 0) -> Buffer:
    buffer = Buffer()
    for chunk in CHUNKS:
        buffer.append(chunk)
    if skipped:
        buffer.skip(skipped)
    return buffer


def _is_sound(buffer: Buffer, content: bytes) -> None:
    """The buffer holds what it should, and goes on working."""
    assert len(buffer) == len(content)
    assert buffer.peek(1 << 20) == content
    buffer.append(b"more")
    buffer.unread(b"less")
    assert buffer.find(b"more") == len(content) + 8
    assert buffer.take(1 << 20) == b"less" + content + b"more"
    assert len(buffer) == 0


def _is_what_was_not_taken(buffer: Buffer) -> None:
    _is_sound(buffer, EVERYTHING[buffer.position :])


@pytest.mark.parametrize("data", [b"x", LARGE])
@pytest.mark.parametrize("skipped", [0, 1, len(EVERYTHING)])
def test_append_happens_or_not(data: bytes, skipped: int) -> None:
    """A chunk that is being appended is there once, or not at all."""

    def check(buffer: Buffer) -> None:
        before = EVERYTHING[skipped:]
        appended = len(buffer) != len(before)
        _is_sound(buffer, before + data if appended else before)

    strike_everywhere(lambda: _buffer(skipped), lambda buffer: buffer.append(data), check)


@pytest.mark.parametrize("size", [1, 2, 3, 9000, 1 << 20])
def test_take_happens_or_not(size: int) -> None:
    """Bytes being taken are gone if the position says so, else all of them are still there."""

    def check(buffer: Buffer) -> None:
        assert buffer.position in (0, min(size, len(EVERYTHING)))
        _is_what_was_not_taken(buffer)

    strike_everywhere(_buffer, lambda buffer: buffer.take(size), check)


def test_skip_happens_or_not() -> None:
    """Letting go of bytes does so at once or not at all."""

    def check(buffer: Buffer) -> None:
        assert buffer.position in (2, 9002)
        _is_what_was_not_taken(buffer)

    strike_everywhere(lambda: _buffer(2), lambda buffer: buffer.skip(9000), check)


@pytest.mark.parametrize("size", [1, 3, len(EVERYTHING)])
def test_unread_happens_or_not(size: int) -> None:
    """Bytes being put back are there once, or not at all."""

    def check(buffer: Buffer) -> None:
        assert buffer.position in (0, size)
        _is_what_was_not_taken(buffer)

    strike_everywhere(lambda: _buffer(size), lambda buffer: buffer.unread(EVERYTHING[:size]), check)


def test_unread_can_be_done_again() -> None:
    """A caller that is struck while it puts bytes back may try again, if they are not there."""

    def check(buffer: Buffer) -> None:
        if buffer.position:
            buffer.unread(EVERYTHING[:3])
        _is_sound(buffer, EVERYTHING)

    strike_everywhere(lambda: _buffer(3), lambda buffer: buffer.unread(EVERYTHING[:3]), check)


@pytest.mark.parametrize(
    "look",
    [
        lambda buffer: buffer.find(b"\n"),
        lambda buffer: buffer.find(b"\r\n"),
        lambda buffer: buffer.find(b"efg"),
        lambda buffer: buffer.peek(9000, 1),
        lambda buffer: buffer.front(9),
    ],
)
def test_looking_changes_nothing(look: Callable[[Buffer], object]) -> None:
    """Looking changes nothing."""
    strike_everywhere(lambda: _buffer(1), look, lambda buffer: _is_sound(buffer, EVERYTHING[1:]))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_search_that_was_struck_misses_nothing(end: bytes) -> None:
    """A line end is found however often the search for it was cut off."""
    line = b"x" * 9000 + end

    def make() -> Buffer:
        buffer = Buffer()
        for start in range(0, len(line), 5000):
            buffer.append(line[start : start + 5000])
        buffer.append(b"the next line")
        return buffer

    def check(buffer: Buffer) -> None:
        assert buffer.find(end) == len(line)
        assert buffer.take(len(line)) == line

    strike_everywhere(make, lambda buffer: buffer.find(end), check)


class Stage:
    """A stream in the state in which an operation finds it."""

    def __init__(self, fed: bytes = EVERYTHING) -> None:
        self.flow = Flow()
        self.inbound = Inbound(self.flow, 8, 1 << 20)
        self.inbound.feed(fed)
        self.collection = Collection()
        self.wait = Wait()

    def collecting(self, kept: bytes = b"") -> "Stage":
        """The same with a collection under way, which has something, and more to come."""
        if kept:
            self.inbound.keep(self._collect(Collection()))
            self.inbound.feed(kept)
        self._collect(self.collection)
        self.inbound.feed(b"xyz")
        return self

    def abandoned(self) -> "Stage":
        """The same with a collection that was left behind, and something behind it."""
        self.collecting()
        self.collection.abandon()
        self.inbound.feed(b"123")
        return self

    def _collect(self, collection: Collection) -> Collection:
        self.inbound.collect(collection, self.wait)
        return collection

    def ends(self, content: bytes, kept: bytes = b"") -> None:
        """All callers have gone, the thread goes on: `content` is there, and `kept` was kept."""
        self.collection.abandon()
        assert not self.inbound.busy
        self.inbound.feed(b"more")
        assert self.inbound.held == len(content) + 4
        assert self.inbound.kept == kept
        following = Collection()
        self.inbound.collect(following, self.wait)
        self.inbound.feed(b"last")
        assert self.inbound.finish(following) == content + b"morelast"
        assert self.inbound.held == 0


@pytest.mark.parametrize("goal", [3, 9000, float("inf")])
def test_collect_moves_every_byte_once(goal: float) -> None:
    """Struck while a collection begins, every byte is still there for the next caller."""

    def operate(stage: Stage) -> None:
        stage.collection = Collection(goal)
        stage.inbound.collect(stage.collection, stage.wait)

    strike_everywhere(Stage, operate, lambda stage: stage.ends(EVERYTHING))


def test_collect_after_an_abandoned_collection() -> None:
    """Struck while one collection follows another, no byte gets lost between the two."""

    def operate(stage: Stage) -> None:
        stage.collection = Collection()
        stage.inbound.collect(stage.collection, stage.wait)

    strike_everywhere(
        lambda: Stage().abandoned(), operate, lambda stage: stage.ends(EVERYTHING + b"xyz123")
    )


def test_collect_while_the_thread_goes_on() -> None:
    """What arrives after the strike, before the next call, comes in order."""

    def operate(stage: Stage) -> None:
        stage.collection = Collection(9000)
        stage.inbound.collect(stage.collection, stage.wait)

    def check(stage: Stage) -> None:
        stage.inbound.feed(b"now")
        stage.ends(EVERYTHING + b"now")

    strike_everywhere(Stage, operate, check)


def test_the_buffer_of_an_abandoned_collection() -> None:
    """Struck while abandoned bytes go back, the next caller finds them all, in order."""
    strike_everywhere(
        lambda: Stage().abandoned(),
        lambda stage: stage.inbound.buffer,
        lambda stage: stage.ends(EVERYTHING + b"xyz123"),
    )


@pytest.mark.parametrize("taken", [0, 3, 9000])
def test_recalling_a_front_moves_every_byte_once(taken: int) -> None:
    """Struck while a front is recalled, what it has handed out is gone, and nothing else."""

    def make() -> Stage:
        stage = Stage()
        stage.inbound.buffer.skip(2)
        assert len(stage.inbound.open_front(5000).read(taken)) == min(taken, 5000)
        return stage

    def check(stage: Stage) -> None:
        assert stage.inbound.buffer.position == 2 + min(taken, 5000)  # recalled once more
        stage.ends(EVERYTHING[2 + min(taken, 5000) :])

    strike_everywhere(make, lambda stage: stage.inbound.buffer, check)


def test_opening_a_front_moves_nothing() -> None:
    """Struck while a front is opened, every byte is in the buffer, in the front or not."""
    strike_everywhere(
        Stage, lambda stage: stage.inbound.open_front(5000), lambda stage: stage.ends(EVERYTHING)
    )


def test_take_through_the_stream() -> None:
    """Struck while it is taken, a byte is gone if the position says so, and only then."""

    def operate(stage: Stage) -> None:
        buffer = stage.inbound.buffer
        stage.inbound.taken()
        buffer.take(5)

    def check(stage: Stage) -> None:
        stage.ends((EVERYTHING + b"xyz123")[stage.inbound.buffer.position :])

    strike_everywhere(lambda: Stage().abandoned(), operate, check)


def test_finish_happens_or_not() -> None:
    """Struck while it is handed out, a collection is gone as a whole or is all there."""

    def operate(stage: Stage) -> None:
        stage.inbound.finish(stage.collection)

    def check(stage: Stage) -> None:
        gathered = EVERYTHING + b"xyz"
        assert stage.inbound.held in (0, len(gathered))
        stage.ends(gathered[len(gathered) - stage.inbound.held :])

    strike_everywhere(lambda: Stage().collecting(), operate, check)


@pytest.mark.parametrize("kept", [b"", b"later"])
def test_keep_happens_or_not(kept: bytes) -> None:
    """Struck while it is kept, a byte is among those kept or among those still to come."""

    def operate(stage: Stage) -> None:
        stage.inbound.keep(stage.collection)

    def check(stage: Stage) -> None:
        before = EVERYTHING if kept else b""
        now = kept + b"xyz" if kept else EVERYTHING + b"xyz"
        if stage.inbound.held:
            stage.ends(now, before)
        else:
            stage.ends(b"", before + now)

    strike_everywhere(lambda: Stage().collecting(kept), operate, check)


@pytest.mark.parametrize(
    "operate",
    [
        lambda stage: stage.inbound.grant(),
        lambda stage: stage.inbound.taken(),
        lambda stage: stage.flow.poll(),
        lambda stage: stage.inbound.busy,
        lambda stage: stage.inbound.held,
        lambda stage: stage.inbound.room(),
        lambda stage: stage.inbound.collected(stage.collection),
    ],
)
def test_looking_and_polling_move_nothing(operate: Callable[[Stage], object]) -> None:
    """What moves no bytes moves none when it is struck, either."""
    strike_everywhere(
        lambda: Stage().collecting(), operate, lambda stage: stage.ends(EVERYTHING + b"xyz")
    )


def test_close_leaves_nothing_or_everything() -> None:
    """Struck while it is closed, a stream can be closed again, and keeps what was kept."""

    def check(stage: Stage) -> None:
        stage.inbound.close()
        assert stage.inbound.held == 0
        assert stage.inbound.kept == EVERYTHING

    strike_everywhere(
        lambda: Stage().collecting(b"later"), lambda stage: stage.inbound.close(), check
    )


def test_enter_and_leave_can_always_be_undone() -> None:
    """A caller that leaves afterwards, struck or not, leaves no other waiting."""
    waits = [Wait(), Wait()]

    def operate(stage: Stage) -> None:
        stage.flow.enter(waits[0], stage.inbound, 3)
        stage.flow.leave(waits[0])
        stage.flow.enter(waits[1])

    def check(stage: Stage) -> None:
        for wait in waits:
            stage.flow.leave(wait)
        assert stage.flow.limit(stage.inbound) == 0

    strike_everywhere(Stage, operate, check)


def test_put_happens_or_not() -> None:
    """Bytes handed over for stdin are on their way as a whole, or not at all."""

    def make() -> Outbound:
        outbound = Outbound()
        outbound.put(LARGE)
        return outbound

    def check(outbound: Outbound) -> None:
        sent = b""
        while len(outbound):
            view = outbound.front(5000)
            sent += view
            outbound.sent(len(view))
        assert sent in (LARGE, LARGE + b"xyz")

    strike_everywhere(make, lambda outbound: outbound.put(b"xyz"), check)
    strike_everywhere(make, lambda outbound: outbound.open_tail(b"xyz"), check)
