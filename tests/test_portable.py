"""The platform of Windows, on whatever platform this is: the promises without `poll`.

Blocking reads and writes cannot be woken: a pump in one ends when the other end of its pipe closes.
What Windows has to be asked is answered by a stand-in.
"""

import ctypes
import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Tuple

import pytest

from process import PIPE, Process, ProcessTimeoutError, _platform
from process._descriptor import Descriptor
from process._platform import _portable, _windows
from tests.support import (
    FLOOD_BOTH,
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    descriptors,
    is_alive,
    pattern,
    python,
    run_without_thread,
)

if sys.platform != "win32":
    import fcntl
    import select
    import termios

    class StandIn:
        """What is used of `msvcrt` and of `ctypes.windll`."""

        @property
        def kernel32(self) -> "StandIn":
            return self

        def get_osfhandle(self, descriptor: int) -> int:
            """The handle behind a descriptor: here they are the same."""
            return descriptor

        def PeekNamedPipe(self, handle: Any, *arguments: Any) -> int:  # noqa: N802
            """Says how many bytes a pipe holds; fails if it is empty and the other end closed."""
            assert arguments[:3] == (None, 0, None)
            assert arguments[4] is None
            poll = select.poll()
            poll.register(handle.value, select.POLLIN)
            held = bytearray(4)
            fcntl.ioctl(handle.value, termios.FIONREAD, held)
            arguments[3]._obj.value = int.from_bytes(held, sys.byteorder)
            return 0 if poll.poll(0) == [(handle.value, select.POLLHUP)] else 1

    @pytest.fixture(autouse=True)
    def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
        """The modules that only Windows has."""
        monkeypatch.setitem(sys.modules, "msvcrt", StandIn())
        monkeypatch.setattr(ctypes, "windll", StandIn(), raising=False)


@pytest.fixture(autouse=True)
def _as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways of Windows for everything but the options of the child."""
    for name in _platform.__all__:
        if name != "spawn_options":
            monkeypatch.setattr(_platform, name, getattr(_windows, name))


def test_megabytes_through_an_echo() -> None:
    """Input and output of any size, given, read and kept."""
    data = pattern(2 * LARGE)
    with Process(["cat"], stdin=data) as process:
        assert process.stdout.read(MIB) == data[:MIB]
        assert process.output() == data[MIB:]
    assert process.exit_code == 0


def test_everything_is_written_before_anything_is_read() -> None:
    """A write moves the output it has to wait for."""
    data = pattern(LARGE)
    with Process(["cat"], stdin=PIPE) as process:
        process.stdin.write(data)
        process.stdin.flush()
        process.stdin.close()
        process.join()
        assert process.stdout.read() == data


def test_both_outputs_flood() -> None:
    """Joined first and read later, in any order."""
    with Process(python(FLOOD_BOTH, LARGE)) as process:
        process.join()
        assert process.stderr.read() == pattern(LARGE, 2)
        assert process.output() == pattern(LARGE, 1)


def test_lines_there_and_back() -> None:
    """Round trips, with pumps that block in their reads."""
    with Process(["cat"], stdin=PIPE) as process:
        for number in range(200):
            line = b"%d\n" % number
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line


def test_polling_ends() -> None:
    """A loop of polls sees the end of a flooding child."""
    with Process(python(FLOOD_BOTH, MIB)) as process:
        while process.running:
            pass
        assert process.exit_code == 0
        assert process.output() == pattern(MIB, 1)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_timeout_loses_nothing(timeout: float, tmp_path: Path) -> None:
    """`join(timeout)` against a child that floods and does not end."""
    gate = Gate(tmp_path)
    with Process(python(f"put(1, pattern({LARGE})); {Gate.WAIT}", gate)) as process:
        with pytest.raises(ProcessTimeoutError):
            process.join(timeout)
        thread = threading.Thread(target=gate.open)  # waits until the child has got there
        thread.start()
        assert process.output() == pattern(LARGE)
        thread.join()


def test_overflow() -> None:
    """What waiting obliges to hold comes back from the temporary file."""
    data = pattern(3 * LARGE)
    with Process(["cat"], stdin=data) as process:
        process.join()
        assert b"".join(iter(lambda: process.stdout.read(MIB), b"")) == data


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it matters that silence ends a stream, and not how long it lasts."""
    monkeypatch.setattr("process.core._ending.SILENCE", 0.3)


@pytest.mark.usefixtures("short_silence")
def test_silence_ends_output(tmp_path: Path) -> None:
    """A grandchild that holds the pipes open, while the pumps are stuck in their reads."""
    gate = Gate(tmp_path)
    script = f"put(1, b'x')\nif os.fork(): os._exit(0)\n{Gate.WAIT}"
    process = Process(python(script, gate)).run()
    try:
        with pytest.warns(RuntimeWarning, match="stdout was taken as finished"):
            assert process.output() == b"x"
        with pytest.warns(RuntimeWarning, match="stdout.*|stderr.*"):
            process.close()
    finally:
        gate.open()


_LEAVE: Tuple[Callable[[Any], object], ...] = (
    lambda process: process.close(),
    lambda process: process.__del__(),
)


@pytest.mark.parametrize("leave", _LEAVE, ids=["close", "del"])
@pytest.mark.parametrize("given", [PIPE, pattern(LARGE)], ids=["pipe", "bytes"])
def test_left_with_pumps_that_block(leave: Callable[[Any], object], given: Any) -> None:
    """A child that neither reads nor writes is ended, and its pumps with it."""
    process = Process(["sleep", "1000"], stdin=given).run()
    pid = process.id
    leave(process)
    del process
    gc.collect()
    assert not is_alive(pid)


def test_the_descriptor_has_the_bytes() -> None:
    """`fileno()` of both directions."""
    data = pattern(MIB)
    with Process(["cat"], stdin=PIPE) as process:
        thread = threading.Thread(target=_write, args=(process.stdin.fileno(), data))
        thread.start()
        number = process.stdout.fileno()
        got = b""
        while len(got) < MIB:
            got += os.read(number, MIB)
        thread.join()
        assert got == data
    assert process.output() == b""


def _write(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]


def test_a_pipeline() -> None:
    """The output of one process is the input of the next, which may leave early."""
    with Process(["yes"]) as first, Process(["head", "-c", "5"], stdin=first.stdout) as second:
        assert second.output() == b"y\ny\ny"
        first.stdout.close()
        first.join()
    data = pattern(LARGE)
    with Process(["cat"], stdin=data) as first, Process(["cat"], stdin=first.stdout) as second:
        assert second.output() == data


def test_a_failed_start() -> None:
    """Nothing is left of it."""
    before = descriptors()
    with pytest.raises(Exception, match="Failed to run process"):
        Process(["/does/not/exist"], stdin=b"x").run()
    assert descriptors() == before


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whichever of the four is the one too many: nothing is left, and the next run works."""
    assert run_without_thread(monkeypatch, number).startswith("process-")


@pytest.mark.usefixtures("short_silence")
def test_silence_ends_the_output_of_an_exposed_stream(tmp_path: Path) -> None:
    """The same once `fileno()` was asked for: the second pipe is asked, and holds nothing."""
    gate = Gate(tmp_path)
    script = f"put(1, b'early')\nif os.fork(): os._exit(0)\n{Gate.WAIT}put(1, b' late')"
    process = Process(python(script, gate), stderr=None).run()
    process.stdout.fileno()
    with pytest.warns(RuntimeWarning, match="stdout was taken as finished"):
        assert process.output() == b"early"
    gate.open()
    assert process.stdout.read() == b" late"
    process.close()


def test_a_pipe_is_asked_whether_it_can_be_read() -> None:
    """Whether a read would block, after some time at the latest."""
    ready = _platform.wait_readable
    read, write = os.pipe()
    assert not ready(read, 0)
    assert not ready(read, 0.01)
    thread = threading.Thread(target=os.write, args=(write, b"x"))
    thread.start()
    assert ready(read, PROMPT)
    thread.join()
    assert ready(read, 0)
    assert os.read(read, 1) == b"x"
    assert not ready(read, 0)
    os.close(write)
    assert ready(read, 0)
    assert os.read(read, 1) == b""
    os.close(read)


async def test_a_loop_is_asked_for_everything(loops: Kit) -> None:
    """An asyncio process without the means to look at its child itself."""
    async with loops.opened(["cat"], stdin=PIPE) as process:
        assert process.running
        process.kill()
        assert process.exit_code is None
        await process.join()
        assert process.exit_code == -9


def test_a_ring_lasts_until_it_is_heard() -> None:
    """A port that is rung twice before it waits wakes up once."""
    read, write = Descriptor.pipe()
    watch: Any = None
    port = _portable.Port(read, _portable.Wakeup(), watch, writing=False)
    port.ring()
    port.ring()
    assert port.wait(ready=False) is False
    assert port.wait(ready=True) is False  # to be found out by trying
    read.close()
    write.close()


def test_an_end_is_looked_for_again_and_again() -> None:
    """Where nothing can wake anybody: until it is there, or it is time."""
    looks = iter((False, False, True))
    assert _portable.await_end(os.getpid(), lambda: next(looks), 10)
    assert not _portable.await_end(os.getpid(), lambda: False, 0)
