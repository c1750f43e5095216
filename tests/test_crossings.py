"""Rule 10: what another thread does to a process in the middle of a call."""

import os
import signal
import threading
from typing import Any, Callable, List

import pytest

from process import PIPE, Process
from process._descriptor import Descriptor
from process.core._flow import Flow
from tests.support import CAT, pattern, until

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGPIPE"), reason="a pipe without a reader raises no signal"
)


def _pass_on(process: Any) -> Descriptor:
    """Give the stream to a receiver."""
    offer = process.stdout.source.offer()
    offer.accept(Flow())
    return offer.descriptor  # type: ignore[no-any-return]


def _close(process: Any) -> Descriptor:
    """Close the stream, which a receiver has, too."""
    receiver = Descriptor.own(os.dup, process.stdout.fileno())
    process.stdout.close()
    return receiver


def _reclaim(process: Any) -> Descriptor:
    """The same when it is the block that is left."""
    receiver = Descriptor.own(os.dup, process.stdout.fileno())
    assert not process.stdout.source.reclaim()
    return receiver


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("leave", [_pass_on, _close, _reclaim])
def test_left_to_a_receiver_while_a_caller_collects(
    leave: Callable[[Any], Descriptor], join: bool
) -> None:
    """The receiver gets what the caller has collected, and what is written from then on."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert source.peek(4) == b"one\n"
        offer = source.offer()  # of the second pipe; the receiver cannot be started
        offer.withdraw()
        offer.descriptor.close()
        results: List[bytes] = []
        caller = threading.Thread(target=lambda: results.append(process.output(join)))
        caller.start()
        until(lambda: source.inbound.busy and source.inbound.held == 4)
        receiver = leave(process)
        if not join:
            caller.join()
            assert results == [b""]
        process.stdin.write(b"two\n")
        process.stdin.flush()
        data = b""
        while len(data) < 8:
            data += os.read(receiver.fileno(), 8)
        assert data == b"one\ntwo\n"
        process.stdin.close()
        assert os.read(receiver.fileno(), 8) == b""
        caller.join()
        assert results == [b""]


def test_passed_on_before_what_is_left_is_kept() -> None:
    """The rest of a stream that another thread has given away is not for `output()`."""
    data = pattern(200_000)  # more than the second pipe holds
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        process.stdin.write(data)
        process.stdin.close()
        until(lambda: source.inbound.held == len(data))
        receiver = _pass_on(process)
        source.keep_rest()  # as `finish` does
        received = b"".join(iter(lambda: os.read(receiver.fileno(), 65536), b""))
        assert received == data
    assert process.output() == b""
