"""Bytes on their way to stdin: each is sent once, in order."""

from typing import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from process.core._flow import BOUND
from process.core._outbound import Outbound


def test_a_caller_waits_only_beyond_the_bound() -> None:
    """Up to the bound a caller goes on at once; one byte more, and it waits."""
    outbound = Outbound()
    outbound.put(bytes(BOUND))
    assert not outbound.full
    outbound.put(b"x")
    assert outbound.full
    outbound.sent(1)
    assert not outbound.full
    assert len(outbound) == BOUND


def test_bytes_are_held_by_reference() -> None:
    """What is handed over is not copied to be sent."""
    data = bytes(1000000)
    outbound = Outbound()
    outbound.put(data)
    assert outbound.front(len(data)).obj is data


def test_the_pipe_closes_once_the_rest_is_sent() -> None:
    """Closing waits for what is left."""
    outbound = Outbound(4)
    outbound.put(b"abc")
    outbound.closing = True
    assert not outbound.finished
    outbound.sent(2)
    assert not outbound.finished
    outbound.sent(1)
    assert outbound.finished


def test_the_pipe_stays_open_while_more_may_come() -> None:
    """Nothing left to send is no reason to close."""
    assert not Outbound().finished


def test_a_child_that_closes_its_end_gets_no_more() -> None:
    """Once the other end is closed the rest goes, and what is put afterwards as well."""
    outbound = Outbound(1)
    outbound.put(b"abc")
    outbound.break_off()
    outbound.put(b"def")
    assert outbound.broken
    assert outbound.finished
    assert not outbound.full
    assert len(outbound) == 0


def test_small_writes_grow_the_tail() -> None:
    """What is appended to the tail follows in place, until the bytes are used."""
    outbound = Outbound()
    outbound.put(b"ab")
    outbound.open_tail(b"c")
    assert outbound.tail is not None
    outbound.tail += b"d"
    assert len(outbound) == 4
    assert bytes(outbound.front(9)) == b"ab"
    assert outbound.tail is None


@pytest.mark.parametrize(
    "seal",
    [
        lambda outbound: outbound.put(b"c"),
        lambda outbound: outbound.open_tail(b"c"),
        lambda outbound: outbound.front(1),
        lambda outbound: outbound.close(),
        lambda outbound: outbound.break_off(),
    ],
)
def test_the_tail_is_sealed(seal: Callable[[Outbound], object]) -> None:
    """Nothing is appended to bytes that another chunk follows, or that are being sent."""
    outbound = Outbound()
    outbound.open_tail(b"ab")
    tail = outbound.tail
    seal(outbound)
    assert outbound.tail is not tail


def test_an_empty_tail_is_nothing_to_send() -> None:
    """It is there for the small writes that may follow."""
    outbound = Outbound()
    outbound.open_tail(b"")
    assert not len(outbound)
    assert outbound.tail is not None
    outbound.tail += b"ab"
    assert len(outbound) == 2
    assert bytes(outbound.front(9)) == b"ab"


def test_no_tail_where_nothing_is_to_be_sent() -> None:
    """Nobody reads that of a broken pipe."""
    outbound = Outbound()
    outbound.break_off()
    outbound.open_tail(b"x")
    assert outbound.tail is None
    assert not outbound


def test_the_position_is_that_of_the_next_byte() -> None:
    """It follows what was sent."""
    outbound = Outbound()
    outbound.put(b"abc")
    outbound.sent(2)
    assert outbound.buffer.position == 2


class OutboundMachine(RuleBasedStateMachine):
    """A writer that sends some of what it sees, against what was put."""

    def __init__(self) -> None:
        super().__init__()
        self.outbound = Outbound(8)
        self.put_in = b""
        self.sent = b""

    @rule(data=st.binary(max_size=12))
    def put(self, data: bytes) -> None:
        self.outbound.put(data)
        self.put_in += data

    @rule(data=st.binary(max_size=4))
    def write(self, data: bytes) -> None:
        if self.outbound.tail is None:
            self.outbound.open_tail(data)
        else:
            self.outbound.tail += data
        self.put_in += data

    @rule(size=st.integers(1, 12), share=st.integers(0, 12))
    def send(self, size: int, share: int) -> None:
        view = self.outbound.front(size)
        assert len(view) <= size
        assert view or not len(self.outbound)
        written = bytes(view[:share])
        self.outbound.sent(len(written))
        self.sent += written

    @invariant()
    def nothing_is_lost(self) -> None:
        left = len(self.put_in) - len(self.sent)
        assert self.put_in.startswith(self.sent)
        assert len(self.outbound) == left
        assert self.outbound.full == (left > 8)


TestOutbound = OutboundMachine.TestCase
TestOutbound.settings = settings(max_examples=50, deadline=None, derandomize=True)
