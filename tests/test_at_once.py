"""Who wants everything reads without waiting first, as long as the pipe is full each time."""

import array
import fcntl
import termios
from typing import Any, Iterator

import pytest

from process import PIPE, Process, _platform
from process.core._flow import Wait
from process.core._inbound import Collection
from tests.support import KIB, pattern, python

#: What a pipe holds.
FULL = 64 * KIB

pytestmark = pytest.mark.skipif(
    _platform.make_hub() is None, reason="without `poll` each pipe has its thread"
)


def _pending(process: Process) -> int:
    """How many bytes are in the pipe of stdout."""
    pump: Any = process.stdout.source.pump  # type: ignore[union-attr]
    size = array.array("i", [0])
    fcntl.ioctl(pump.port.descriptor.fileno(), termios.FIONREAD, size)
    return size[0]


def _await_full(process: Process) -> None:
    while _pending(process) < FULL:
        pass


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A process of which all output is wanted.

    The pipe was full, and is so again; whoever waits for it fails.
    """
    process = Process(python(f"put(1, pattern({2 * FULL})); get_all()"), PIPE, stderr=None)
    with process:
        _await_full(process)
        pump: Any = process.stdout.source.pump  # type: ignore[union-attr]
        wait = Wait()
        with pump.plumbing.lock:
            pump.inbound.collect(Collection(), wait)
            assert pump.move()
        del wait
        _await_full(process)
        with monkeypatch.context() as patch:
            patch.setattr(_platform.Hub, "wait", _fail)
            yield process


def _fail(*arguments: object) -> None:
    raise AssertionError("waits")


def test_all_of_it(full: Process) -> None:
    """Up to the end of the stream."""
    full.stdin.close()
    full.process.wait()
    assert full.output() == pattern(2 * FULL)


def test_more_than_there_is(full: Process) -> None:
    """When the pipe is empty, it has to be waited for again."""
    with pytest.raises(AssertionError, match="waits"):
        full.output(join=False)
    with pytest.raises(AssertionError, match="waits"):
        full.stdout.read(2 * FULL + 1)
    assert full.stdout.read(2 * FULL) == pattern(2 * FULL)
