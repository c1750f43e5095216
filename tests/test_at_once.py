"""Where the pipe was full, what has been written since is read without waiting for it first."""

import array
import fcntl
import io
import itertools
import termios
from typing import Any, Iterator

import pytest

from process import PIPE, Process, _platform
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
    """A process whose pipe was full, and is so again; whoever waits for it fails."""
    process = Process(python(f"put(1, pattern({2 * FULL})); get_all()"), PIPE, stderr=None)
    with process:
        _await_full(process)
        assert process.stdout.read(FULL) == pattern(2 * FULL)[:FULL]
        _await_full(process)
        with monkeypatch.context() as patch:
            patch.setattr(_platform.Hub, "wait", _fail)
            yield process


def _fail(*arguments: object) -> None:
    raise AssertionError("waits")


@pytest.mark.parametrize("size", [1, 1000, FULL])
def test_read(full: Process, size: int) -> None:
    """So much as is asked for, once; the rest stays."""
    assert full.stdout.read(size) == pattern(2 * FULL)[FULL : FULL + size]


def test_lines(full: Process) -> None:
    """All the lines there are."""
    data = pattern(2 * FULL)[FULL:]
    whole = io.BytesIO(data[: data.rindex(b"\n") + 1]).readlines()
    assert list(itertools.islice(full.stdout, len(whole))) == whole


def test_output(full: Process) -> None:
    """All of it, once the process has ended."""
    full.stdin.close()
    full.process.wait()
    assert full.output() == pattern(2 * FULL)[FULL:]


def test_read_too_far(full: Process) -> None:
    """When the pipe is empty, it has to be waited for again."""
    with pytest.raises(AssertionError, match="waits"):
        full.stdout.read(FULL + 1)
    assert full.stdout.read(FULL) == pattern(2 * FULL)[FULL:]
