"""The platform of Windows, on whatever platform this is: the promises without `poll`.

Blocking reads and writes cannot be woken: a thread in one ends when the other end of its pipe is
closed. What Windows has to be asked is answered by a stand-in.
"""

import ctypes
import errno
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, List, Set, Tuple

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError, _platform
from process._descriptor import Descriptor
from process._platform import _windows
from process.threads._thread import StreamThread
from tests.support import (
    FLOOD_BOTH,
    FOREVER,
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
    until,
)

if sys.platform != "win32":
    import fcntl
    import select
    import termios

    class StandIn:
        """What is used of `msvcrt`, `_winapi` and `ctypes.windll`."""

        #: Handles that another process has, too.
        shared: ClassVar[Set[int]] = set()

        @property
        def ntdll(self) -> "StandIn":
            return self

        @property
        def kernel32(self) -> "StandIn":
            return self

        def CancelIoEx(self, handle: Any, request: None) -> int:  # noqa: N802
            """Cancels the reads of other threads: here it cannot."""
            return 0

        def open_osfhandle(self, handle: int, flags: int) -> int:
            """A descriptor for a handle: here they are the same."""
            return handle

        def CreatePipe(self, attributes: None, size: int) -> Tuple[int, int]:  # noqa: N802
            """Makes a pipe that holds as much, if the system allows that."""
            read, write = os.pipe()
            fcntl.fcntl(write, 1031, max(4096, min(size, MIB)))  # F_SETPIPE_SZ
            return read, write

        def SetNamedPipeHandleState(  # noqa: N802
            self, handle: int, mode: int, *arguments: None
        ) -> None:
            """Makes reads and writes of a pipe return at once."""
            assert mode == 1
            os.set_blocking(handle, False)

        def WriteFile(self, handle: int, data: memoryview) -> Tuple[int, int]:  # noqa: N802
            """Writes all or nothing."""
            try:
                return os.write(handle, data), 0
            except BlockingIOError:
                return 0, 0

        def NtQueryObject(self, handle: Any, kind: int, answer: Any, *_: Any) -> int:  # noqa: N802
            """Says how many handles there are."""
            assert kind == 0
            answer._obj[2] = 2 if handle.value in self.shared else 1
            return 0

        def get_osfhandle(self, descriptor: int) -> int:
            """The handle behind a descriptor: here they are the same."""
            return descriptor

        def PeekNamedPipe(self, handle: int, size: int) -> Tuple[int, int]:  # noqa: N802
            """Says how many bytes a pipe holds; fails if it is empty and the other end closed."""
            assert size == 0
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if poll.poll(0) == [(handle, select.POLLHUP)]:
                raise BrokenPipeError
            held = bytearray(4)
            fcntl.ioctl(handle, termios.FIONREAD, held)
            return int.from_bytes(held, sys.byteorder), 0

    @pytest.fixture(autouse=True)
    def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
        """The modules that only Windows has."""
        monkeypatch.setitem(sys.modules, "msvcrt", StandIn())
        monkeypatch.setitem(sys.modules, "_winapi", StandIn())
        monkeypatch.setattr(ctypes, "windll", StandIn(), raising=False)
        monkeypatch.setattr(_windows, "PATIENCE", 0.1)  # no read is cancelled


@pytest.fixture(autouse=True)
def _as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways of Windows for everything but the options of the child."""
    for name, value in vars(_windows).items():
        if not name.startswith("_") and name != "spawn_options":
            monkeypatch.setattr(_platform, name, value, raising=False)


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
    """Round trips, with threads that block in their reads."""
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
    """A grandchild that holds the pipes open, while the threads are stuck in their reads."""
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
def test_left_with_threads_that_block(leave: Callable[[Any], object], given: Any) -> None:
    """A child that neither reads nor writes is ended, and its threads with it."""
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
def test_a_thread_cannot_be_started(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whichever of the four is one too many: nothing is left, and the next run works."""
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


def test_an_end_that_blocks_is_not_waited_for() -> None:
    """The read or the write does that; neither is known to be possible."""
    read, write = Descriptor.pipe()
    reader = _windows.PipeEnd(read, writing=False)
    assert reader.wait(None, None) is False
    assert not reader.pollable
    assert not reader.can_write_directly()
    assert not reader.pending()
    assert not reader.broken()
    write.close()
    read.close()


def test_a_cancelled_read_has_found_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins again. Other errors are raised."""
    read, write = Descriptor.pipe()
    end = _windows.PipeEnd(read, writing=False)
    faults = [errno.EBADF, errno.EINVAL, errno.EINVAL]

    def fail(*_: int) -> bytes:
        raise OSError(faults.pop(), "an error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(OSError, match="an error"):
        end.read(10)  # nobody has cancelled it
    assert len(faults) == 2
    assert not end.found_empty()
    with pytest.raises(OSError, match="an error"):
        end.read(10)
    assert faults == []
    assert end.found_empty()
    assert not end.found_empty()  # asked anew
    write.close()
    read.close()


def test_an_end_that_does_not_block_asks() -> None:
    """Its waits are pauses that grow, until there are bytes, or it is woken."""
    read, write = Descriptor.pipe()
    end = _windows.PipeEnd(read, writing=False)
    end.stop_blocking()
    pauses = []
    for _ in range(10):
        assert end.read(10) is None
        pauses.append(end._pause)
        end.wait(None, None)
    assert pauses == sorted(pauses)
    assert pauses[0] == 0
    assert pauses[-1] <= 0.1
    os.write(write.fileno(), b"x")
    assert end.wait_relay(write, True, False, None) == (True, False, False, False)
    assert end.read(10) == b"x"
    assert end._pause == 0
    end.wait(None, None)
    end.relayed()
    assert end._pause == 0
    end._pause = FOREVER
    later = threading.Timer(0.01, end.wake)
    later.start()
    end.wait(None, None)
    later.join()
    write.close()
    assert end.read(10) == b""
    end.close()


def _cat_and_gate(tmp_path: Path, size: int) -> Tuple[Process, Gate]:
    """A child that writes, waits at the gate, writes a byte, and ends."""
    gate = Gate(tmp_path)
    script = f"put(1, pattern({size})); {Gate.WAIT}put(1, b'x')"
    return Process(python(script, gate), stderr=None).run(), gate


def _read(number: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(number, size - len(data))
        assert more
        data += more
    return data


def test_what_was_read_ahead_is_passed_on_at_once(tmp_path: Path) -> None:
    """Though the thread is in a read, which goes on until there are more bytes."""
    process, gate = _cat_and_gate(tmp_path, 200_000)
    reader = process.stdout.source.reader  # type: ignore[union-attr]
    until(lambda: reader.inbound.held == 200_000)
    number = process.stdout.fileno()
    assert _read(number, 200_000) == pattern(200_000)
    gate.open()
    assert _read(number, 1) == b"x"
    assert os.read(number, 1) == b""
    process.close()


def test_lines_and_descriptor_by_turns(tmp_path: Path) -> None:
    """A read of the stream object takes what the descriptor has not been asked for, and back."""
    with Process(["cat"], stdin=PIPE) as process:
        number = process.stdout.fileno()
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line + b"rest")
            process.stdin.flush()
            assert process.stdout.readline() == line
            assert _read(number, 4) == b"rest"
        process.stdin.write(bytes(100_000))
        process.stdin.flush()
        assert process.stdout.read(1) == b"\0"
        assert _read(number, 99_999) == bytes(99_999)


def test_a_second_pipe_that_nobody_reads_holds_up_nobody() -> None:
    """It is full: the thread is not stuck in a write, and the rest is kept."""
    with Process(["cat"], stdin=pattern(LARGE)) as process:
        process.stdout.fileno()
        process.join()
        assert process.output() == pattern(LARGE)


def test_a_second_pipe_with_another_owner_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has a handle: what is left is passed on, whatever becomes of ours."""
    with Process(["cat"], stdin=pattern(MIB)) as process:
        copy = os.dup(process.stdout.fileno())
        monkeypatch.setattr(StandIn, "shared", {process.stdout.fileno()})
        first = process.stdout.read(10)
        got: List[bytes] = []
        thread = threading.Thread(target=lambda: got.append(_read(copy, MIB - 10)))
        thread.start()
    thread.join()
    assert first + got[0] == pattern(MIB)
    assert os.read(copy, 1) == b""
    os.close(copy)
    assert process.output() == b""


def test_a_second_pipe_that_nobody_can_read_ends_the_child() -> None:
    """The write finds out, and the child is told by its own pipe."""
    with Process(["yes"]) as process:
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        process.join()


def test_an_idle_relay_costs_little(tmp_path: Path) -> None:
    """The pauses between two looks grow."""
    process, gate = _cat_and_gate(tmp_path, 1)
    assert os.read(process.stdout.fileno(), 1) == pattern(1)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
    gate.open()
    process.close()


@pytest.mark.parametrize("name", ["-exit", "-stdin", "-stdout", "-stderr"])
def test_a_start_that_fails_half_way_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The threads that run already are in reads and writes, which the end of the child ends."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["cat"], stdin=pattern(LARGE))
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.endswith(name):
            raise RuntimeError("can't start new thread")
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(ProcessError):
            process.run()
    until(lambda: threading.active_count() == threads)
    assert descriptors() == before
    assert process.run().output() == pattern(LARGE)
    process.close()


def test_a_start_that_fails_while_others_hold_the_pipes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A read that does not end keeps its descriptor open."""
    gate = Gate(tmp_path)
    script = f"if os.fork(): os._exit(0)\n{Gate.WAIT}"
    process = Process(python(script, gate))
    threads = threading.active_count()
    real = StreamThread.start
    readers = []

    def start(self: StreamThread) -> None:
        if self.name.endswith("-stderr"):
            self.monitor.watch._popen.wait()  # type: ignore[union-attr]
            raise RuntimeError("can't start new thread")
        readers.append(self)
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(StreamThread, "start", start)
        with pytest.raises(ProcessError):
            process.run()
    assert os.fstat(readers[0].end.descriptor.fileno())
    gate.open()
    until(lambda: threading.active_count() == threads)


def test_an_end_is_looked_for_again_and_again() -> None:
    """Where nothing can wake a wait: until the event, or the timeout."""
    looks = iter((False, False, True))
    assert _windows.await_end(os.getpid(), lambda: next(looks), 10)
    assert not _windows.await_end(os.getpid(), lambda: False, 0)
