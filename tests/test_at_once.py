"""A reader thread reads without waiting first, as long as the pipe is full each time."""

import os
import sys
from typing import Iterator, List

import pytest

from process._descriptor import Descriptor
from process.core._inbound import Inbound
from process.threads._monitor import Monitor
from process.threads._reader import ReaderThread
from tests.support import KIB, pattern

if sys.platform == "win32":
    pytest.skip("POSIX only: elsewhere the read waits", allow_module_level=True)

from process._platform._posix import PipeEnd

#: What a pipe holds.
FULL = 64 * KIB


class _Reader:
    """A reader thread that has not been started, and whose steps are made here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read, self.write = Descriptor.pipe()
        self.monitor = Monitor()
        self.inbound = Inbound(self.monitor.flow)
        end = PipeEnd(read, writing=False)
        self.thread = ReaderThread(self.monitor, end, "process-0-stdout", self.inbound)
        self.waits: List[object] = []
        real = end.wait

        def wait(*arguments: object) -> bool:
            self.waits.append(arguments)
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(end, "wait", wait)

    def put(self, size: int) -> None:
        """Write to the pipe, as the child."""
        assert os.write(self.write.fileno(), pattern(size)) == size

    def step(self) -> int:
        """Let the thread do one thing; how many times it has waited meanwhile."""
        before = len(self.waits)
        self.thread._move()
        return len(self.waits) - before


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Reader]:
    """One that has waited for its first bytes."""
    reader = _Reader(monkeypatch)
    reader.put(FULL)
    assert reader.step() == 1
    yield reader
    reader.thread.end.close()
    reader.write.close()


def test_a_pipe_that_is_full_each_time(reader: _Reader) -> None:
    """It is read again at once."""
    assert reader.step() == 0
    reader.put(FULL)
    assert reader.step() == 0
    assert reader.inbound.held == 2 * FULL


def test_a_pipe_that_holds_less(reader: _Reader) -> None:
    """It has been emptied, and is waited for before it is read again."""
    assert reader.step() == 0
    reader.put(10)
    assert reader.step() == 0
    reader.put(20)
    assert reader.step() == 1
    assert reader.inbound.held == FULL + 10
    assert reader.step() == 0
    assert reader.inbound.held == FULL + 30


def test_a_pipe_that_holds_nothing(reader: _Reader) -> None:
    """The read finds that out, and the thread waits."""
    assert reader.step() == reader.step() == 0
    assert reader.inbound.held == FULL
    reader.write.close()
    assert reader.step() == 1
    assert reader.step() == 0
    assert reader.inbound.at_eof


def test_a_buffer_that_is_full(reader: _Reader) -> None:
    """Nothing is read, and nothing is waited for."""
    while reader.inbound.room():
        assert reader.step() == 0
        reader.put(FULL)
    held = reader.inbound.held
    assert reader.step() == 0
    assert reader.inbound.held == held
