"""Who waits decides how much a stream may hold."""

import gc
from typing import Dict, Optional, Tuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from process.core._flow import UNBOUNDED, Flow, Wait


class FakeStream:
    """A stream that counts what polls grant it."""

    def __init__(self) -> None:
        self.grants = 0

    def grant(self) -> None:
        """Count the poll."""
        self.grants += 1


def test_nobody_waits() -> None:
    """While nobody waits, no stream has to hold anything."""
    flow = Flow()
    assert flow.limit(FakeStream()) == 0


def test_a_wait_for_something_else_frees_every_stream() -> None:
    """For one who waits for the end of the process every stream moves without bound."""
    flow = Flow()
    wait = Wait()
    flow.enter(wait)
    assert flow.limit(FakeStream()) == UNBOUNDED


def test_a_reader_frees_the_streams_he_does_not_read() -> None:
    """A stream that is read holds what is needed, the other one what comes."""
    flow = Flow()
    mine, other = FakeStream(), FakeStream()
    wait = Wait()
    flow.enter(wait, mine, 10)
    assert flow.limit(mine) == 10
    assert flow.limit(other) == UNBOUNDED


def test_the_largest_need_counts() -> None:
    """Of several readers of one stream the one who needs most decides."""
    flow = Flow()
    mine = FakeStream()
    waits = [Wait() for _ in range(3)]
    for wait, need in zip(waits, (10, 30, 20)):
        flow.enter(wait, mine, need)
    assert flow.limit(mine) == 30


def test_readers_of_both_streams_free_both() -> None:
    """Each of two readers frees the stream of the other."""
    flow = Flow()
    streams = [FakeStream(), FakeStream()]
    waits = [Wait(), Wait()]
    for wait, stream in zip(waits, streams):
        flow.enter(wait, stream, 1)
    assert [flow.limit(stream) for stream in streams] == [UNBOUNDED, UNBOUNDED]


def test_a_wait_may_change() -> None:
    """One who enters again with the same wait has changed what he waits for."""
    flow = Flow()
    mine = FakeStream()
    wait = Wait()
    flow.enter(wait)
    flow.enter(wait, mine, 3)
    assert flow.limit(mine) == 3


def test_leaving_is_always_possible() -> None:
    """Leaving ends the wait; leaving twice, or without having entered, does nothing."""
    flow = Flow()
    wait = Wait()
    flow.leave(wait)
    flow.enter(wait)
    flow.leave(wait)
    flow.leave(wait)
    assert flow.limit(FakeStream()) == 0


def test_a_wait_that_nobody_refers_to_is_over() -> None:
    """Who was torn out of his wait without leaving it waits no more."""
    flow = Flow()
    lost, wait = Wait(), Wait()
    mine = FakeStream()
    flow.enter(lost)
    flow.enter(wait, mine, 3)
    del lost
    gc.collect()  # for interpreters that do not count references
    assert flow.limit(mine) == 3
    del wait
    gc.collect()
    assert flow.limit(mine) == 0


def test_a_poll_grants_every_stream() -> None:
    """A poll allows each stream of the process a little more, once."""
    flow = Flow()
    one, two = FakeStream(), FakeStream()
    flow.add(one)
    flow.add(two)
    flow.poll()
    flow.poll()
    assert (one.grants, two.grants) == (2, 2)
    assert flow.limit(one) == 0


class FlowMachine(RuleBasedStateMachine):
    """A flow against the definition of what it decides."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow()
        self.streams = [FakeStream(), FakeStream()]
        self.tokens = [Wait() for _ in range(4)]
        self.waits: Dict[int, Tuple[Optional[int], int]] = {}

    @rule(token=st.integers(0, 3), own=st.sampled_from([None, 0, 1]), need=st.integers(1, 5))
    def enter(self, token: int, own: Optional[int], need: int) -> None:
        self.flow.enter(self.tokens[token], None if own is None else self.streams[own], need)
        self.waits[token] = own, need

    @rule(token=st.integers(0, 3))
    def leave(self, token: int) -> None:
        self.flow.leave(self.tokens[token])
        self.waits.pop(token, None)

    @rule(token=st.integers(0, 3))
    def drop(self, token: int) -> None:
        self.tokens[token] = Wait()
        gc.collect(0)
        self.waits.pop(token, None)

    @invariant()
    def limits_follow_from_the_waits(self) -> None:
        for number, stream in enumerate(self.streams):
            waits = self.waits.values()
            if any(own != number for own, _ in waits):
                assert self.flow.limit(stream) == UNBOUNDED
            else:
                assert self.flow.limit(stream) == max((need for _, need in waits), default=0)


TestFlow = FlowMachine.TestCase
TestFlow.settings = settings(max_examples=50, deadline=None, derandomize=True)


def test_a_poll_of_what_is_gone() -> None:
    """A flow does not keep its streams, and looks past those that nobody has any more."""
    flow = Flow()
    stream = FakeStream()
    flow.add(FakeStream())
    flow.add(stream)
    gc.collect()
    flow.poll()
    assert stream.grants == 1
