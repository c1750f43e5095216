"""The wake-up descriptor that the pumps of a process share."""

import os
import select
import sys
import threading
from typing import Any

import pytest

from process._descriptor import Descriptor
from tests.support import FOREVER

if sys.platform == "win32":
    pytest.skip("POSIX only: elsewhere a pump parks on a lock", allow_module_level=True)

from process._platform._posix import Hub, Port, Wakeup


class _NoWatch:
    """The watch of a process that does not end."""

    def fileno(self) -> int:
        return -1


def _port(wakeup: Wakeup) -> Port:
    read, write = Descriptor.pipe()
    write.close()
    watch: Any = _NoWatch()
    return Port(read, wakeup, watch, writing=False)


def _readable(wakeup: Wakeup) -> bool:
    poll = select.poll()
    poll.register(wakeup.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_a_ring_is_heard_by_the_next_wait() -> None:
    """Rung before it waits, a port does not wait."""
    wakeup = Wakeup()
    port = _port(wakeup)
    wakeup.ring(port)
    assert port.wait(ready=False) is False
    assert not _readable(wakeup)


def test_a_ring_lasts_until_the_port_that_was_rung_has_answered() -> None:
    """One port that wakes up does not take the ring of another one away."""
    wakeup = Wakeup()
    first, second = _port(wakeup), _port(wakeup)
    wakeup.ring(first)
    wakeup.ring(second)
    wakeup.answer(first)
    assert _readable(wakeup)
    wakeup.answer(second)
    assert not _readable(wakeup)


def test_a_ring_between_clearing_and_looking_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """`answer` finds a port that was rung while it cleared the descriptor."""
    wakeup = Wakeup()
    first, second = _port(wakeup), _port(wakeup)
    wakeup.ring(first)
    real_read = os.read

    def ring_then_read(descriptor: int, size: int) -> bytes:
        wakeup.ring(second)
        return real_read(descriptor, size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", ring_then_read)
        wakeup.answer(first)
    assert _readable(wakeup)
    second.wait(ready=False)
    assert not _readable(wakeup)


@pytest.mark.parametrize("late", [False, True])
def test_a_port_that_has_been_released_makes_nobody_spin(late: bool) -> None:
    """Nobody answers for a pump that has ended: rung all the same, it would wake the others."""
    wakeup = Wakeup()
    port, other = _port(wakeup), _port(wakeup)
    if not late:
        wakeup.ring(port)
    port.release()
    if late:
        wakeup.ring(port)
    assert not _readable(wakeup)
    wakeup.ring(other)
    other.wait(ready=False)
    assert not _readable(wakeup)


def test_a_caller_who_has_no_pipe_to_wait_for_is_rung() -> None:
    """Not even once prepared, a hub is woken: by a ring that came before, or comes later."""
    hub = Hub()
    hub.ring()
    assert hub.wait((), FOREVER, None) == ([], False)
    later = threading.Timer(0, hub.ring)
    later.start()
    assert hub.wait((), FOREVER, None) == ([], False)
    later.join()
