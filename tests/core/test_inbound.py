"""Bytes from the child: how many may be held, where they are, and which call gets them."""

import gc
import io
import math
from functools import partial
from typing import Any, Callable, List, Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from process.core._flow import BOUND, Flow, Wait
from process.core._inbound import CHUNK, MEMORY, Collection, Inbound
from process.core._overflow import File, Overflow


def _inbound(data: bytes = b"", bound: int = 8, memory: int = 16) -> Inbound:
    inbound = Inbound(Flow(), bound, memory)
    inbound.feed(data)
    return inbound


def _flowing(bound: int = 8, memory: int = 16) -> "tuple[Flow, Inbound]":
    flow = Flow()
    return flow, Inbound(flow, bound, memory)


#: The wait of a caller that never goes away.
WAIT = Wait()


# How much may be held.


def test_while_nobody_waits_the_bound_holds() -> None:
    """A child whose output is not read fills the bound, and no more."""
    inbound = Inbound(Flow())
    read = 0
    while inbound.room():
        inbound.feed(bytes(inbound.room()))
        read += 1
    assert inbound.held == BOUND
    assert read == BOUND // CHUNK


def test_between_the_marks_the_thread_rests() -> None:
    """It is not woken for every few bytes that are taken, but for a quarter of the bound."""
    inbound = _inbound(b"12345678")
    inbound.buffer.skip(1)
    assert inbound.room() == 0
    inbound.buffer.skip(1)
    assert inbound.room() == 2


def test_who_waits_for_something_else_makes_room_without_bound() -> None:
    """While a caller joins, the stream is read on whatever it holds."""
    flow, inbound = _flowing()
    wait = Wait()
    flow.enter(wait)
    inbound.feed(bytes(100 * CHUNK))
    assert inbound.room() == CHUNK
    flow.leave(wait)
    assert inbound.room() == 0


def test_a_reader_makes_room_for_what_he_needs() -> None:
    """A stream is read until it holds what its reader needs, and then to the bound."""
    flow, inbound = _flowing()
    wait = Wait()
    flow.enter(wait, inbound, 20)
    assert inbound.room() == 20
    inbound.feed(bytes(19))
    assert inbound.room() == 1
    inbound.feed(b"x")
    assert inbound.room() == 0
    flow.enter(wait, inbound, 3)
    inbound.buffer.skip(19)
    assert inbound.room() == 7


def test_a_poll_makes_room_for_one_more_bound() -> None:
    """Polls let a stream grow step by step; what is taken uses the permission up."""
    flow, inbound = _flowing()
    inbound.feed(bytes(8))
    assert inbound.room() == 0
    flow.poll()
    flow.poll()
    assert inbound.room() == 8
    inbound.feed(bytes(8))
    assert inbound.room() == 0
    flow.poll()
    assert inbound.room() == 8
    inbound.taken()
    assert inbound.room() == 0


def test_a_poll_after_a_read_begins_anew() -> None:
    """What earlier polls have granted is used up, and so is that there were any."""
    flow, inbound = _flowing()
    inbound.feed(bytes(8))
    flow.poll()
    flow.poll()
    inbound.feed(bytes(8))
    inbound.buffer.skip(1)
    inbound.taken()
    flow.poll()
    assert inbound.room() == 0


def test_a_collection_makes_room_until_it_has_what_it_wants() -> None:
    """A caller that collects waits; one that has enough, or has left, does not."""
    inbound = _inbound()
    collection = Collection(100)
    inbound.collect(collection, WAIT)
    assert inbound.room() == CHUNK
    inbound.feed(bytes(99))
    assert inbound.room() == CHUNK
    inbound.feed(bytes(2))
    assert inbound.room() == 0
    assert inbound.held == 101
    assert inbound.collected(collection)


def test_an_abandoned_collection_makes_no_room() -> None:
    """What an interrupted caller has gathered counts as held."""
    inbound = _inbound()
    collection = Collection()
    inbound.collect(collection, WAIT)
    inbound.feed(bytes(9))
    collection.abandon()
    assert inbound.held == 9
    assert inbound.room() == 0


def test_there_is_no_room_after_the_end() -> None:
    """Nothing is read after end of file, nor from a stream that was closed."""
    ended = _inbound()
    ended.feed_eof()
    closed = _inbound()
    closed.close()
    for inbound in (ended, closed):
        inbound.grant()
        assert inbound.room() == 0


# Where it lies.


def test_what_does_not_fit_into_memory_spills() -> None:
    """A stream keeps a few MiB in memory, and everything behind the first spilled byte spills."""
    inbound = Inbound(Flow())
    inbound.feed(bytes(MEMORY - 10))
    assert not inbound.spills(10)
    assert inbound.spills(11)
    inbound.spilled = 11
    assert inbound.spills(1)
    assert inbound.held == MEMORY + 1


def test_what_was_spilled_comes_back_when_there_is_room() -> None:
    """Memory is refilled below half, a chunk at a time."""
    inbound = _inbound(bytes(8))
    assert inbound.refill() == 0
    inbound.spilled = 5
    assert inbound.refill() == 0
    inbound.buffer.skip(1)
    assert inbound.refill() == 5
    inbound.spilled = 10 * CHUNK
    assert inbound.refill() == CHUNK


def test_a_collection_takes_everything_into_memory() -> None:
    """What is asked for as `bytes` neither spills nor stays spilled."""
    inbound = _inbound(bytes(16))
    inbound.spilled = 1
    inbound.collect(Collection(), WAIT)
    assert inbound.refill() == 1
    inbound.spilled = 0
    assert not inbound.spills(CHUNK)


def test_a_reader_who_needs_more_than_memory_gets_it() -> None:
    """A line may be longer than what a stream keeps in memory: it still comes together."""
    flow, inbound = _flowing()
    inbound.feed(bytes(16))
    inbound.spilled = 5
    wait = Wait()
    flow.enter(wait, inbound, inbound.held + BOUND)
    assert inbound.refill() == 5


def test_a_closed_stream_holds_nothing_and_spills_nothing() -> None:
    """After closing, what still arrives is thrown away."""
    inbound = _inbound(b"abc")
    inbound.spilled = 1
    inbound.close()
    inbound.spilled = 0
    inbound.feed(b"def")
    assert not inbound.spills(100)
    assert inbound.refill() == 0
    assert inbound.held == 0
    assert inbound.closed
    assert inbound.at_eof
    inbound.spilled = 1
    assert inbound.refill() == 0


def test_the_end_comes_after_what_was_spilled() -> None:
    """End of file counts once nothing is left that is not in memory."""
    inbound = _inbound(b"abc")
    inbound.spilled = 1
    inbound.feed_eof()
    assert not inbound.at_eof
    inbound.spilled = 0
    assert inbound.at_eof


# Who gets it.


def test_a_collection_begins_with_what_is_held() -> None:
    """Collecting takes what lies there first, up to its goal, and leaves the rest."""
    inbound = _inbound(b"abcdef")
    collection = Collection(8)
    assert not inbound.busy
    inbound.collect(collection, WAIT)
    assert inbound.busy
    assert collection.missing == 2
    assert not inbound.collected(collection)
    inbound.feed(b"ghij")
    assert inbound.collected(collection)
    assert inbound.finish(collection) == b"abcdefgh"
    assert not inbound.busy
    assert inbound.buffer.take(9) == b"ij"


def test_a_collection_may_find_more_than_it_wants() -> None:
    """A goal already reached leaves the rest where it is."""
    inbound = _inbound(b"abcdef")
    collection = Collection(4)
    inbound.collect(collection, WAIT)
    assert inbound.finish(collection) == b"abcd"
    assert inbound.buffer.take(9) == b"ef"


def test_a_collection_ends_at_end_of_file() -> None:
    """At the end a collection has all it can get."""
    inbound = _inbound()
    collection = Collection()
    inbound.collect(collection, WAIT)
    inbound.feed(b"abc")
    assert not inbound.collected(collection)
    inbound.feed_eof()
    assert inbound.collected(collection)
    inbound.keep(collection)
    assert inbound.kept == b"abc"


def test_what_an_interrupted_caller_has_gathered_comes_first() -> None:
    """The next reader gets abandoned bytes in front of those that came afterwards."""
    inbound = _inbound(b"ab")
    collection = Collection()
    inbound.collect(collection, WAIT)
    inbound.feed(b"cd")
    collection.abandon()
    assert not inbound.busy
    inbound.feed(b"ef")
    assert inbound.held == 6
    assert inbound.buffer.take(9) == b"abcdef"


def test_the_next_collection_goes_on_with_an_abandoned_one() -> None:
    """Bytes pass from an interrupted collection to the next one, once."""
    inbound = _inbound(b"ab")
    first, second = Collection(), Collection()
    inbound.collect(first, WAIT)
    inbound.feed(b"cd")
    first.abandon()
    inbound.collect(second, WAIT)
    inbound.feed(b"ef")
    assert inbound.finish(second) == b"abcdef"
    assert inbound.held == 0


def test_a_collection_ends_with_its_wait() -> None:
    """A collection whose caller was interrupted in its wait is abandoned."""
    inbound = _inbound(b"ab")
    wait = Wait()
    inbound.collect(Collection(), wait)
    inbound.feed(b"cd")
    assert inbound.busy
    del wait
    gc.collect()  # for interpreters that do not count references
    assert not inbound.busy
    assert inbound.buffer.take(9) == b"abcd"


def test_an_abandoned_collection_is_adopted() -> None:
    """A caller that collects after an interrupted one goes on with it, and copies nothing."""
    inbound = _inbound(bytes(100_000))
    first, second, third = Collection(), Collection(), Collection(3)
    wait = Wait()
    inbound.collect(first, wait)
    del wait
    gc.collect()  # for interpreters that do not count references
    inbound.collect(second, WAIT)
    assert second._data is first._data
    inbound.feed(b"x")
    assert len(second) == 100_001
    assert not inbound.collecting(first)
    second.abandon()
    inbound.collect(third, WAIT)  # wants less than there is
    assert inbound.finish(third) == bytes(3)
    inbound.collect(first, WAIT)
    assert inbound.finish(first) == bytes(99_997) + b"x"


def test_what_is_held_is_gathered_piece_by_piece() -> None:
    """What comes meanwhile comes behind it, and until it is all nothing is complete."""
    inbound = _inbound(bytes(50_000))
    collection = Collection()
    inbound.begin(collection, WAIT)
    assert not inbound.gather(20_000)
    inbound.feed(b"x")
    inbound.feed_eof()
    assert len(collection) == 20_000
    assert not inbound.collected(collection)
    assert not inbound.gather(30_000)
    assert inbound.gather(30_000)
    assert inbound.collected(collection)
    assert inbound.finish(collection) == bytes(50_000) + b"x"
    assert inbound.gather(1)


def test_no_more_room_than_a_collection_wants() -> None:
    """What lies in the buffer and is still to be gathered is not read once more."""
    inbound = Inbound(Flow(), bound=8)
    inbound.feed(b"x" * 8)
    inbound.begin(Collection(4), WAIT)
    assert inbound.room() == 0


def test_too_little_memory_to_gather_in() -> None:
    """What was gathered is gone, which can be seen; what was not is still there."""

    class Small(io.BytesIO):
        def write(self, data: Any) -> int:
            self.close()  # as one that cannot grow does
            raise MemoryError

    inbound = _inbound(b"abc")
    collection = Collection()
    inbound.begin(collection, WAIT)
    assert not inbound.lost
    collection._data = Small()
    with pytest.raises(MemoryError):
        inbound.gather(math.inf)
    assert inbound.lost
    inbound.close()
    assert not inbound.lost


def test_a_write_that_was_cut_off_is_done_again() -> None:
    """What an exception has kept from being recorded is written over, not written twice."""
    inbound = Inbound(Flow())
    collection = Collection()
    inbound.collect(collection, WAIT)
    collection._write(b"ab")
    inbound.feed(b"abc")
    assert collection.getvalue() == b"abc"


def test_kept_bytes_grow() -> None:
    """What is kept by one collection after another comes in order, without what was read."""
    inbound = Inbound(Flow())
    for data in (b"1", b"23", b"", b"4"):
        inbound.feed(data)
        collection = Collection()
        inbound.collect(collection, WAIT)
        inbound.keep(collection)
    assert inbound.kept == b"1234"
    inbound.feed(b"56")
    assert inbound.buffer.take(2) == b"56"
    assert inbound.kept == b"1234"


def test_a_front_is_taken_by_calls_into_c() -> None:
    """The bytes stay in the buffer until the front is recalled, and are held once."""
    inbound = _inbound(b"abcdef")
    chunk = inbound.open_front(4)
    assert inbound.front is chunk
    assert chunk.read(1) == b"a"
    assert inbound.held == 6
    assert inbound.uncollected.peek(9) == b"bcdef"
    assert inbound.front is None
    assert chunk.read() == b""


def test_a_front_ends_with_its_bytes() -> None:
    """One that has been taken is none, whether it was recalled or not."""
    inbound = _inbound(b"abcdef")
    chunk = inbound.open_front(4)
    assert chunk.read(9) == b"abcd"
    assert inbound.front is None
    assert inbound.buffer.take(9) == b"ef"
    assert inbound.front is None


@pytest.mark.parametrize(
    "use",
    [
        lambda inbound: inbound.buffer,
        lambda inbound: inbound.uncollected,
        lambda inbound: inbound.open_front(2),
        lambda inbound: inbound.collect(Collection(), WAIT),
        lambda inbound: inbound.close(),
    ],
)
def test_any_other_use_recalls_the_front(use: Callable[[Inbound], object]) -> None:
    """What a front has not handed out is the next caller's: iterators over it are at their end."""
    inbound = _inbound(b"abcdef")
    blocks = iter(partial(inbound.open_front(4).read, 1), b"")
    assert next(blocks) == b"a"
    use(inbound)
    assert next(blocks, None) is None
    assert inbound.held in (0, 5)


def test_a_front_counts_as_read_when_it_is_recalled() -> None:
    """What was granted for polls is over as soon as bytes were taken."""
    inbound = _inbound(b"abcdef")
    inbound.grant()
    room = inbound.room()
    inbound.open_front(4).read(1)
    assert inbound.buffer
    assert inbound.room() < room


def test_offsets_and_extremes() -> None:
    """Where the stream has got to, and whether the caller wants all there is."""
    inbound = _inbound(b"abcdef", memory=MEMORY)
    assert inbound.end == 6
    assert not inbound.bulk
    assert not inbound.crowded
    collection = Collection()
    inbound.collect(collection, WAIT)
    assert inbound.bulk
    inbound.feed(b"gh")
    assert inbound.end == 8
    inbound.finish(collection)
    inbound.spilled = 1
    assert inbound.crowded


def test_before_the_memory_is_full_it_is_crowded() -> None:
    """The next chunk may belong in the overflow."""
    inbound = _inbound(b"", memory=2 * CHUNK)
    inbound.feed(bytes(CHUNK))
    assert not inbound.crowded
    inbound.feed(b"x")
    assert inbound.crowded


def test_what_is_discarded_has_room_and_leaves_nothing() -> None:
    """Without a caller that could want it, what comes is read and discarded."""
    inbound = _inbound(b"abc", bound=4)
    inbound.discard()
    assert inbound.room() == CHUNK
    assert not inbound.spills(CHUNK)
    inbound.feed(b"def")
    assert inbound.held == 3


def test_a_handler_takes_from_the_collection_of_its_own_thread() -> None:
    """Waiting for its turn it would wait for ever; other threads wait for theirs."""
    inbound = _inbound(b"abc")
    assert not inbound.taken_by_other("one")
    collection = Collection(thread="one")
    inbound.collect(collection, WAIT)
    assert inbound.taken_by_other("other")
    assert not inbound.taken_by_other("one")
    collection.abandon()
    assert not inbound.taken_by_other("other")


def test_an_abandoned_caller_is_reported() -> None:
    """When the frame of a caller goes, the callback is called."""
    inbound = _inbound(b"abc")
    seen: List[object] = []
    wait = Wait()
    inbound.collect(Collection(), wait, seen.append)
    assert not seen
    del wait
    gc.collect()
    assert len(seen) == 1
    assert not inbound.busy


def test_what_is_kept_survives_closing() -> None:
    """`output()` goes on working after the stream is closed, and after it was closed under it."""
    inbound = _inbound(b"ab")
    collection = Collection()
    inbound.collect(collection, WAIT)
    inbound.keep(collection)
    inbound.feed(b"cd")
    collection = Collection()
    inbound.collect(collection, WAIT)
    inbound.close()
    assert inbound.collected(collection)
    assert inbound.kept == b"ab"


def test_kept_bytes_are_not_copied_when_first_kept() -> None:
    """What is asked for as `bytes` is in memory once."""
    inbound = _inbound(bytes(100000), bound=BOUND, memory=MEMORY)
    collection = Collection()
    inbound.collect(collection, WAIT)
    inbound.keep(collection)
    assert inbound.kept is inbound.kept
    assert inbound.kept == bytes(100000)


def _no_file() -> File:
    raise OSError


class InboundMachine(RuleBasedStateMachine):
    """A thread and callers, against everything the child has written so far."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow()
        self.inbound = Inbound(self.flow, 4, 8)
        self.overflow = Overflow(_no_file)
        self.collection: Optional[Collection] = None
        self.waits = {"join": Wait(), "read": Wait()}
        self.front = io.BytesIO()
        self.written = b""
        self.got = 0
        self.kept = b""

    def _deliver(self, data: bytes) -> None:
        assert data == self.written[self.got : self.got + len(data)]
        self.got += len(data)

    @rule(size=st.integers(1, 9))
    def move(self, size: int) -> None:
        refill = self.inbound.refill()
        room = self.inbound.room()
        if refill:
            data = self.overflow.take(min(refill, size))
            self.inbound.spilled -= len(data)
            self.inbound.feed(data)
        elif room:
            size = min(room, size)
            begin = len(self.written)
            data = bytes(number % 251 for number in range(begin, begin + size))
            self.written += data
            if self.inbound.spills(len(data)):
                self.overflow.append(data)
                self.inbound.spilled += len(data)
            else:
                self.inbound.feed(data)

    @precondition(lambda self: not self.inbound.busy)
    @rule(size=st.integers(1, 9))
    def take(self, size: int) -> None:
        buffer = self.inbound.buffer
        self.inbound.taken()
        self._deliver(buffer.take(size))

    @precondition(lambda self: not self.inbound.busy)
    @rule(size=st.integers(1, 9))
    def open_front(self, size: int) -> None:
        self.front = self.inbound.open_front(min(size, len(self.inbound.buffer)))

    @rule(size=st.integers(1, 9))
    def take_front(self, size: int) -> None:
        self._deliver(self.front.read(size))

    @precondition(lambda self: not self.inbound.busy)
    @rule(goal=st.integers(1, 20) | st.just(math.inf))
    def collect(self, goal: float) -> None:
        self.collection = Collection(goal)
        self.inbound.collect(self.collection, WAIT)

    @precondition(lambda self: self.collection is not None)
    @rule()
    def abandon(self) -> None:
        assert self.collection is not None
        self.collection.abandon()
        self.collection = None

    @precondition(lambda self: self.collection is not None)
    @rule(keep=st.booleans())
    def end_collection(self, keep: bool) -> None:
        assert self.collection is not None
        if keep:
            self.inbound.keep(self.collection)
            self._deliver(self.inbound.kept[len(self.kept) :])
            self.kept = self.inbound.kept
        else:
            self._deliver(self.inbound.finish(self.collection))
        self.collection = None

    @rule()
    def join(self) -> None:
        self.flow.enter(self.waits["join"])

    @rule(need=st.integers(1, 20))
    def read(self, need: int) -> None:
        self.flow.enter(self.waits["read"], self.inbound, need)

    @rule(name=st.sampled_from(["join", "read"]))
    def leave(self, name: str) -> None:
        self.flow.leave(self.waits[name])

    @rule()
    def poll(self) -> None:
        self.flow.poll()

    @invariant()
    def nothing_is_lost(self) -> None:
        taken = 0 if self.inbound._front is None else self.front.tell()  # and not recorded yet
        assert self.inbound.held - taken == len(self.written) - self.got
        assert self.inbound.spilled == len(self.overflow)

    @invariant()
    def who_waits_has_room(self) -> None:
        limit = self.flow.limit(self.inbound)
        if self.inbound.held < limit:
            assert self.inbound.room() > 0 or self.inbound.refill() > 0

    def teardown(self) -> None:
        if self.collection is not None:
            self.collection.abandon()
        while len(self.overflow):
            self._deliver(self.inbound.buffer.take(1000))
            data = self.overflow.take(1000)
            self.inbound.spilled -= len(data)
            self.inbound.feed(data)
        self._deliver(self.inbound.buffer.take(1000000))
        assert self.got == len(self.written)


TestInbound = InboundMachine.TestCase
TestInbound.settings = settings(max_examples=100, deadline=None, derandomize=True)


def test_abandoned_while_the_thread_asks_whether_it_is_active() -> None:
    """The thread asks without the lock; the caller leaves between its look and its question."""

    class Abandoned(Collection):
        """A collection whose caller leaves as soon as anybody has looked at it."""

        __slots__ = ("_owners",)

        def _look(self) -> Any:
            return self._owners.pop(0)

        def _enter(self, owner: Any) -> None:
            self._owners = [owner, None, None]

        _owner: Any = property(_look, _enter)

    collection = Abandoned()
    collection.activate(WAIT, None)
    assert collection.active
    assert not collection.active
