"""Who waits decides how much a stream may hold."""

import gc
import sys
import weakref
from typing import Any, Dict, Optional, Set, Tuple

import pytest
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
    """For a caller that waits for the end of the process every stream moves without bound."""
    flow = Flow()
    wait = Wait()
    flow.enter(wait)
    assert flow.limit(FakeStream()) == UNBOUNDED


def test_connected_from_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes when the first one has looked at what is there: both are known."""
    first, second, third = Flow(), Flow(), Flow()
    real: Any = weakref.ref

    def interfering(target: Any) -> Any:
        monkeypatch.setattr(weakref, "ref", real)
        first.connect(third)
        return real(target)

    monkeypatch.setattr(weakref, "ref", interfering)
    first.connect(second)
    assert second in first.connected
    assert third in first.connected


def test_a_reader_frees_the_streams_he_does_not_read() -> None:
    """A stream that is read holds what is needed, the other one what comes."""
    flow = Flow()
    mine, other = FakeStream(), FakeStream()
    wait = Wait()
    flow.enter(wait, mine, 10)
    assert flow.limit(mine) == 10
    assert flow.limit(other) == UNBOUNDED


def test_the_largest_need_counts() -> None:
    """Of several readers of one stream the one that needs most decides."""
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
    """A caller that enters again with the same wait has changed what it waits for."""
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
    """A caller that was interrupted in its wait, and did not leave it, waits no more."""
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


class FakeShell:
    """What surrounds a flow, and counts what it is told."""

    def __init__(self) -> None:
        self.flow = Flow(self)
        self.woken = 0
        self.polled = 0

    def wake(self) -> None:
        """Count the waits for connected processes."""
        self.woken += 1

    def poll(self) -> None:
        """Count the polls of connected processes."""
        self.polled += 1


def test_a_wait_for_a_connected_process_frees_every_stream() -> None:
    """A wait for one of three stages is a wait for all, whichever it is."""
    flows = [Flow(), Flow(), Flow()]
    flows[0].connect(flows[1])
    flows[1].connect(flows[2])
    mine = FakeStream()
    for waited in flows:
        wait = Wait()
        waited.enter(wait, mine, 3)
        assert all(flow.busy for flow in flows)
        for flow in flows:
            assert flow.limit(FakeStream()) == UNBOUNDED
            assert flow.limit(mine) == (3 if flow is waited else UNBOUNDED)
        waited.leave(wait)
        assert not any(flow.busy for flow in flows)
        assert not any(flow.limit(mine) for flow in flows)


def test_connected_processes_are_woken() -> None:
    """The streams of a connected process move for a wait that they do not see."""
    first, second, third = FakeShell(), FakeShell(), FakeShell()
    first.flow.connect(second.flow)
    second.flow.connect(third.flow)
    wait = Wait()
    third.flow.enter(wait)
    assert (first.woken, second.woken, third.woken) == (1, 1, 0)
    assert set(first.flow.shells) == {second, third}


def test_a_connection_does_not_keep_a_process() -> None:
    """A process that is gone takes nothing with it but the connection through it."""
    first, middle, last = FakeShell(), FakeShell(), Flow()
    first.flow.connect(middle.flow)
    middle.flow.connect(last)
    assert first.flow.connected == [middle.flow, last]
    assert first.flow.shells == [middle]
    del middle
    gc.collect()
    assert first.flow.connected == []
    assert first.flow.shells == []


def test_a_shell_may_be_gone_before_its_flow() -> None:
    """It is not woken."""
    first, second = FakeShell(), FakeShell()
    flow = second.flow
    first.flow.connect(flow)
    del second
    gc.collect()
    assert first.flow.connected == [flow]
    assert first.flow.shells == []


def test_one_process_read_by_itself() -> None:
    """Connected with itself, or twice with another one, a process is found once."""
    one, other = Flow(), Flow()
    one.connect(one)
    one.connect(other)
    one.connect(other)
    assert one.connected == [other]


def test_the_need_of_a_stream_is_that_of_its_readers() -> None:
    """A wait for something else, or one that is over, needs nothing of it."""
    flow = Flow()
    mine = FakeStream()
    waits = [Wait(), Wait(), Wait()]
    flow.enter(waits[0], mine, 3)
    flow.enter(waits[1])
    flow.enter(waits[2], mine, 5)
    assert flow.need(mine) == 5
    waits.pop()
    gc.collect()
    assert flow.need(mine) == 3
    assert flow.need(FakeStream()) == 0


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


class ConnectionMachine(RuleBasedStateMachine):
    """Connected flows against the definition: busy are those of a group in which a caller waits."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = [Flow() for _ in range(4)]
        self.waits = [Wait() for _ in range(4)]
        self.groups = [{number} for number in range(4)]
        self.waited: Set[int] = set()

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def connect(self, one: int, other: int) -> None:
        self.flows[one].connect(self.flows[other])
        together = self.groups[one] | self.groups[other]
        for number in together:
            self.groups[number] = together

    @rule(number=st.integers(0, 3))
    def enter(self, number: int) -> None:
        self.flows[number].enter(self.waits[number])
        self.waited.add(number)

    @rule(number=st.integers(0, 3))
    def leave(self, number: int) -> None:
        self.flows[number].leave(self.waits[number])
        self.waited.discard(number)

    @rule(number=st.integers(0, 3))
    def drop(self, number: int) -> None:
        self.waits[number] = Wait()
        gc.collect(0)
        self.waited.discard(number)

    @invariant()
    def a_wait_for_one_is_a_wait_for_all(self) -> None:
        for number, flow in enumerate(self.flows):
            busy = bool(self.groups[number] & self.waited)
            assert flow.busy == busy
            assert flow.limit(FakeStream()) == (UNBOUNDED if busy else 0)
            connected = {self.flows.index(other) for other in flow.connected}
            assert connected == self.groups[number] - {number}


#: Where references are not counted each drop takes a whole collection.
_EXAMPLES = 50 if hasattr(sys, "getrefcount") else 5

TestConnections = ConnectionMachine.TestCase
TestConnections.settings = settings(max_examples=_EXAMPLES, deadline=None, derandomize=True)
TestFlow = FlowMachine.TestCase
TestFlow.settings = settings(max_examples=_EXAMPLES, deadline=None, derandomize=True)


def test_a_poll_of_what_is_gone() -> None:
    """A flow does not keep its streams alive, and skips those that are gone."""
    flow = Flow()
    stream = FakeStream()
    flow.add(FakeStream())
    flow.add(stream)
    gc.collect()
    flow.poll()
    assert stream.grants == 1
