"""POSIX without pidfd, eventfd and `waitid`, and what the pieces of it do at their ends.

macOS is such a platform, and so is Linux in a sandbox that forbids what is new.
"""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Deque, List, Tuple

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError, _platform
from process._descriptor import Descriptor
from process.core._buffer import Buffer
from process.threads import _reader
from process.threads._monitor import Waiter
from process.threads._relay import Relay
from tests.support import (
    CAT,
    FLOOD_BOTH,
    FOREVER,
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    descriptors,
    is_alive,
    needs_waitid,
    pattern,
    python,
    run_without_thread,
    start_library,
    until,
)

if sys.platform == "win32":
    pytest.skip("POSIX only", allow_module_level=True)
if sys.implementation.name == "pypy":
    pytest.skip(
        "these look at how the exit code is asked for, which takes os.waitid, and at what is freed",
        allow_module_level=True,
    )

from process._platform import _posix
from process._platform._posix import ExitWatch, PipeEnd


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that has what POSIX has, and nothing else."""
    other = SimpleNamespace(platform="darwin", version_info=sys.version_info)
    monkeypatch.setattr(_posix, "sys", other)
    for name in ("waitid", "eventfd", "splice"):
        monkeypatch.delattr(os, name, raising=False)

    def no_pidfd(_: int) -> Descriptor:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    # Not `os.pidfd_open`: a loop that has seen it before would miss it.
    monkeypatch.setattr(_posix, "_make_pidfd", no_pidfd)
    monkeypatch.setattr(_reader, "_splice", None)


@pytest.mark.usefixtures("plain")
async def test_megabytes_both_ways(kit: Kit) -> None:
    """Written before anything is read, and then read in parts."""
    data = pattern(2 * LARGE)
    async with kit.opened(["cat"], stdin=PIPE) as process:
        await kit.write(process.stdin, data)
        await kit.close(process.stdin)
        await kit.get(process.join())
        first = await kit.read(process.stdout, MIB)
        assert first + await kit.get(process.output()) == data


@pytest.mark.usefixtures("plain")
async def test_both_outputs_flood(kit: Kit) -> None:
    """Joined first, read later."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        await kit.get(process.join())
        assert await kit.get(process.error()) == pattern(LARGE, 2)
        assert await kit.get(process.output()) == pattern(LARGE, 1)
    assert process.exit_code == 0


@pytest.mark.usefixtures("plain")
async def test_a_timeout_and_an_end(kit: Kit, tmp_path: Path) -> None:
    """`join` returns when the timeout is over, and when the process is."""
    gate = Gate(tmp_path)
    async with kit.opened(python(Gate.WAIT + "sys.exit(3)", gate)) as process:
        with pytest.raises(ProcessTimeoutError):
            await kit.get(process.join(0.01))
        assert process.running
        with gate.opening():
            await kit.get(process.join(1000))
    assert process.exit_code == 3


@pytest.mark.usefixtures("plain")
async def test_a_signal_and_the_exit_code(kit: Kit) -> None:
    """A child is killed, and it is seen that it was."""
    async with kit.opened(["cat"], stdin=PIPE) as process:
        process.kill()
        await kit.get(process.join())
        process.kill()
    assert process.exit_code == -9


@pytest.mark.usefixtures("plain")
def test_a_child_that_the_thread_has_reaped_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing it takes no time: nothing else is going to reap it."""
    monkeypatch.setattr(_posix, "_REAPING", FOREVER)
    with Process(["echo", "x"]) as process:
        assert process.output() == b"x\n"


@needs_waitid
def test_one_caller_sees_the_end_for_which_another_one_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lets go of the watch, whose thread has not come to say so, and nobody else will."""
    await_end, go_on = ExitWatch._await_end, threading.Event()

    def await_end_late(self: Any) -> None:
        await_end(self)
        go_on.wait()

    monkeypatch.setattr(_posix, "_make_pidfd", _refuse(errno.ENOSYS))
    monkeypatch.setattr(ExitWatch, "_await_end", await_end_late)
    with Process(["sleep", "1000"], stdout=None, stderr=None) as process:
        other = threading.Thread(target=process.join)
        other.start()
        until(lambda: process._child.monitor.flow.busy)  # type: ignore[union-attr]
        process.kill()
        until(lambda: process.exit_code is not None)
        process.join()
        other.join()
    go_on.set()


@pytest.mark.usefixtures("plain")
def test_nothing_is_left_of_a_dropped_process() -> None:
    """No descriptor, no thread and no child, though a thread had to wait for its end."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["yes"], stdin=pattern(LARGE)).run()
    pid = process.id
    assert process.stdout.readline() == b"y\n"
    del process
    assert not is_alive(pid)
    assert descriptors() == before
    assert threading.active_count() == threads


def _ends() -> Tuple[PipeEnd, PipeEnd]:
    """Both ends of a pipe."""
    read, write = Descriptor.pipe()
    return PipeEnd(read, writing=False), PipeEnd(write, writing=True)


@pytest.fixture(params=["all", "plain"])
def abilities(request: pytest.FixtureRequest) -> str:
    """What this platform has, and what POSIX has."""
    name: str = request.param
    if name == "plain":
        request.getfixturevalue("plain")
    return name


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pipe can be opened anew."""
    monkeypatch.setattr(_posix, "reopen", lambda *_: None)


@pytest.mark.usefixtures("abilities")
def test_more_wake_ups_than_a_pipe_holds() -> None:
    """Woken again and again before it waits, a thread is woken, and then it waits."""
    read, _ = _ends()
    for _ in range(10_000):
        read.wake()
    event: Any = read.event
    assert read.wait(None, FOREVER) is False
    while _posix.wait_readable(event.fileno(), 0):  # cleared in pieces
        read.wait(None, FOREVER)
    assert read.wait(None, 0) is False


@pytest.mark.usefixtures("abilities")
def test_who_is_evicted_takes_no_wake_up_from_its_successor() -> None:
    """All waits for the event that was there before end, those of interrupted calls included."""
    read, _ = _ends()
    before = read.event
    read.evict()
    read.wake()
    for _ in range(2):
        assert read.wait(None, FOREVER, event=before) is False
    event: Any = read.event
    assert _posix.wait_readable(event.fileno(), 0)


@pytest.mark.usefixtures("abilities")
def test_a_wait_ends_when_the_pipe_is_ready() -> None:
    """Or when it is woken; `read` and `write` say which."""
    read, write = _ends()
    assert write.wait(None, None) is False
    assert read.read(10) is None
    assert not read.pending()
    assert write.write(memoryview(b"data")) == 4
    assert read.wait(None, FOREVER) is False
    assert read.pending()
    assert read.read(10) == b"data"
    later = threading.Timer(0, read.wake)
    later.start()
    assert read.wait(None, FOREVER) is False
    later.join()
    write.close()
    assert read.wait(None, FOREVER) is False
    assert read.hung_up
    assert read.read(10) == b""


def test_a_wait_ends_with_the_child() -> None:
    """The pipe holds nothing, and yet it is over."""
    popen = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    watch = ExitWatch(popen)
    read, _ = _ends()
    popen.communicate()
    if watch.fileno() < 0:
        watch.release()
        pytest.skip("the end of a child cannot be polled (no os.pidfd_open)")
    assert read.wait(watch, FOREVER)
    watch.release()


def test_a_pipe_that_is_closed_during_a_wait() -> None:
    """The thread in it is woken, and the number is not free before that."""
    read, _ = _ends()
    descriptor = read.descriptor  # that this refers to it keeps it from being freed
    number = descriptor.fileno()
    waiting, inside = threading.Thread(target=read.wait, args=(None, None)), threading.Event()
    real = _posix._poll

    def poll(*arguments: Any) -> Any:
        inside.set()
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_posix, "_poll", poll)
        waiting.start()
        inside.wait()
    read.close(in_use=True)
    waiting.join()
    assert read.descriptor.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)  # the last wait has closed it
    assert descriptor.fileno() == -1
    read.close(in_use=True)  # once more, by a thread that has failed while it closed it
    read.evict()
    assert read.wait(None, 0) is False


def test_a_wake_up_that_has_not_been_freed_is_used_again() -> None:
    """As it was when it was new; unless a fork has closed it."""
    read, _ = _ends()
    event: Any = read.event
    read.wake()
    read.close()
    again = PipeEnd(Descriptor(), writing=False)
    taken: Any = again.event
    assert taken is event
    assert not _posix.wait_readable(event.fileno(), 0)
    again.close()
    event._read.close()
    assert PipeEnd(Descriptor(), writing=False).event is not event


@pytest.mark.usefixtures("abilities")
def test_a_wake_up_is_cleared_that_was_not_set() -> None:
    """That takes nothing away from the next one, and does not wait for it."""
    event = _posix._Event()
    event.clear()
    assert not _posix.wait_readable(event.fileno(), 0)
    event.set()
    assert _posix.wait_readable(event.fileno(), 0)


def test_a_pipe_that_is_closed_at_once() -> None:
    """Without a wait under way; later waits return, and wake-ups are harmless."""
    read, write = _ends()
    number = write.descriptor.fileno()
    write.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    write.wake()
    write.close()
    assert write.wait(None, None) is False
    assert write.wait_relay(read.descriptor, True, True, None) == (False, False, False, False)


def test_a_relay_waits_for_either_pipe() -> None:
    """And is told when there is no reader any more, whatever it waits for."""
    read, write = _ends()
    inlet, outlet = _posix.make_pipe(1)
    assert read.wait_relay(outlet, True, True, None) == (False, True, False, False)
    write.write(memoryview(b"x"))
    assert read.wait_relay(outlet, True, False, None) == (True, False, False, False)
    read.wake()
    assert read.wait_relay(outlet, False, False, None) == (False, False, False, False)
    popen = subprocess.Popen(["true"])
    watch = ExitWatch(popen)
    if watch.fileno() >= 0:
        assert read.wait_relay(outlet, False, False, watch) == (False, False, False, True)
    until(lambda: watch.look() is not None)
    watch.release()
    inlet.close()
    assert read.wait_relay(outlet, False, False, None)[2]
    outlet.close()  # as a caller may that takes the stream back
    assert read.wait_relay(outlet, True, True, None) == (False, False, False, False)


def test_a_second_pipe_is_written_to_without_blocking() -> None:
    """As much as there is room for."""
    inlet, outlet = _posix.make_pipe(1)
    assert _posix.has_reader(outlet)
    assert _posix.is_blocking(inlet.fileno())
    assert list(_posix.relay_write(outlet, memoryview(b"data"))) == [4]
    (count,) = _posix.relay_write(outlet, memoryview(bytes(LARGE)))
    assert count < LARGE
    with pytest.raises(BlockingIOError):
        list(_posix.relay_write(outlet, memoryview(b"x")))
    inlet.close()
    assert not _posix.has_reader(outlet)
    with pytest.raises(BrokenPipeError):
        list(_posix.relay_write(outlet, memoryview(b"x")))


def test_a_pipe_that_cannot_be_opened_anew() -> None:
    """It is closed, or there is no file system of processes: the library does without."""
    inlet, _ = _posix.make_pipe(1)
    number = inlet.fileno()
    inlet.close()
    assert _posix.reopen(number, os.O_RDONLY) is None


def _reads_pipes_at_once() -> bool:
    read, _write = Descriptor.pipe()
    try:
        os.preadv(read.fileno(), [bytearray(1)], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except (AttributeError, OSError):
        pass
    return False


@pytest.mark.skipif(not _reads_pipes_at_once(), reason="no read of a pipe without waiting")
def test_another_reader_is_quicker_than_the_read_that_follows_a_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The poll has said that there are bytes, and they are gone: the read does not wait."""
    monkeypatch.setattr(_posix, "wait_readable", lambda *_: True)
    read, write = Descriptor.pipe()
    pieces: Deque[bytes] = deque()
    with pytest.raises(BlockingIOError):
        _posix.read_at_once(read.fileno(), MIB, pieces)
    os.write(write.fileno(), b"data")
    _posix.read_at_once(read.fileno(), 3, pieces)
    write.close()
    for _ in range(2):
        _posix.read_at_once(read.fileno(), MIB, pieces)
    assert list(pieces) == [b"dat", b"a", b""]


def test_a_read_at_once_where_only_a_poll_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on other systems, and on Linux before 6.4."""
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    read, write = Descriptor.pipe()
    pieces: Deque[bytes] = deque()
    with pytest.raises(BlockingIOError):
        _posix.read_at_once(read.fileno(), MIB, pieces)
    os.write(write.fileno(), b"data")
    _posix.read_at_once(read.fileno(), MIB, pieces)
    assert list(pieces) == [b"data"]


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="it cannot fail")
def test_a_read_at_once_where_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the flag, but not for pipes."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    monkeypatch.setattr(os, "preadv", refuse)
    read, write = Descriptor.pipe()
    pieces: Deque[bytes] = deque()
    os.write(write.fileno(), b"data")
    _posix.read_at_once(read.fileno(), MIB, pieces)
    assert list(pieces) == [b"data"]


@pytest.mark.usefixtures("without_proc")
@pytest.mark.parametrize("lines", [1, 1000])
def test_lines_after_fileno_where_no_pipe_can_be_opened_anew(lines: int) -> None:
    """What the second pipe holds is taken back by the caller's own descriptor."""
    data = b"".join(b"%d\n" % number for number in range(lines))
    with Process(CAT, stdin=data) as process:
        process.stdout.fileno()
        assert [process.stdout.readline() for _ in range(lines + 1)] == [
            *data.splitlines(keepends=True),
            b"",
        ]


@pytest.mark.usefixtures("without_proc")
def test_a_shared_end_is_written_to_only_while_it_has_room() -> None:
    """It blocks, for the caller's sake, but it does not block the thread."""
    read, write = _ends()
    assert os.get_blocking(write.share())
    assert not write.can_write_directly()
    written = 0
    while True:
        count = write.write(memoryview(bytes(100_000)))
        if count is None:
            break
        assert 0 < count <= _posix._ATOMIC_WRITE
        written += count
    assert len(os.read(read.descriptor.fileno(), MIB)) == written
    assert write.write(memoryview(b"again")) == 5
    assert write.share() == write.descriptor.fileno()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a pipe cannot be opened anew")
def test_a_shared_end_has_a_description_of_its_own() -> None:
    """The caller's blocks, and the thread's does not; both are closed together."""
    read, write = _ends()
    number = write.share()
    assert write.share() == number
    assert number != write.descriptor.fileno()
    assert os.get_blocking(number)
    assert not os.get_blocking(write.descriptor.fileno())
    os.write(number, b"one ")
    assert write.write(memoryview(b"two")) == 3
    assert read.read(100) == b"one two"
    assert not write.broken()
    write.close()
    assert read.read(100) == b""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a pipe cannot be opened anew")
def test_a_finalizer_lets_go_while_a_caller_takes_bytes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may run in any thread. The caller does not read from a number that is closed."""
    relay, buffer = Relay(), Buffer()

    class LetGo(Descriptor):
        """A descriptor that the finalizer lets go of just before it is used."""

        __slots__ = ()

        def fileno(self) -> int:
            number = super().fileno()
            relay.close()  # which is what a finalizer calls
            return number

    def reopen(number: int, flags: int) -> Descriptor:
        return LetGo.own(os.open, f"/proc/self/fd/{number}", flags | os.O_NONBLOCK)

    monkeypatch.setattr(_platform, "reopen", reopen)
    os.write(relay.outlet.fileno(), b"bytes")
    relay.recall(buffer)
    assert buffer.take(100) == b"bytes"
    relay.close()
    relay.outlet.close()  # its class refers to the relay, and is never freed on CPython 3.13t


def test_a_second_pipe_that_cannot_be_opened_anew_is_left_to_its_receiver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A write of the caller's might raise SIGPIPE, so the thread puts back what was taken out."""
    monkeypatch.setattr(_platform, "reopen", lambda *_: None)
    data = pattern(LARGE)
    with Process(["cat"], stdin=data) as process:
        copy = os.dup(process.stdout.fileno())
        process.join()
    assert b"".join(iter(lambda: os.read(copy, 65_536), b"")) == data
    os.close(copy)
    assert process.output() == b""


@pytest.mark.parametrize("struck", [False, True])
def test_bytes_are_taken_back_twice(monkeypatch: pytest.MonkeyPatch, struck: bool) -> None:
    """An exception strikes just before they are in the buffer again, or just after."""
    relay, buffer = Relay(), Buffer()
    real = Buffer.unread

    def unread(self: Buffer, data: bytes) -> None:
        if struck:
            real(self, data)
        raise KeyboardInterrupt

    os.write(relay.outlet.fileno(), b"bytes")
    buffer.append(b" and more")
    with monkeypatch.context() as patch:
        patch.setattr(Buffer, "unread", unread)
        with pytest.raises(KeyboardInterrupt):
            relay.recall(buffer)
    relay.recall(buffer)
    assert buffer.take(100) == b"bytes and more"
    relay.close()
    relay.outlet.close()


@pytest.mark.parametrize("way", ["push", "recall"])
def test_bytes_are_put_back_twice(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """An exception strikes when they are in the pipe and still in the buffer, too."""
    relay, buffer = Relay(), Buffer()

    def skip_to(self: Buffer, position: int) -> None:
        raise KeyboardInterrupt

    buffer.append(b"bytes")
    with monkeypatch.context() as patch:
        patch.setattr(Buffer, "skip_to", skip_to)
        with pytest.raises(KeyboardInterrupt):
            relay.push(buffer)
    buffer.append(b" and more")
    getattr(relay, way)(buffer)
    if way == "push":
        assert os.read(relay.descriptor.fileno(), 100) == b"bytes and more"
    else:
        assert buffer.take(100) == b"bytes and more"
    relay.close()
    relay.outlet.close()


@pytest.mark.parametrize("name", ["sigtimedwait", ""], ids=["macOS", "all"])
def test_a_write_to_a_pipe_without_a_reader_leaves_no_signal(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not even one that is pending, and ends the program when it is unblocked."""
    if name:
        monkeypatch.delattr(signal, name, raising=False)
    inlet, outlet = _posix.make_pipe(1)
    counts: List[int] = []
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        _posix.write_without_signal(outlet.fileno(), memoryview(b"data"), counts)
        inlet.close()
        with pytest.raises(BrokenPipeError):
            _posix.write_without_signal(outlet.fileno(), memoryview(b"lost"), counts)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert counts == [4]
    assert signal.SIGPIPE not in signal.sigpending()
    assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_no_descriptor_to_evict_a_caller_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the pipe, rather than that two move its bytes."""
    with Process(["cat"], stdin=PIPE) as process:
        thread: Any = process.stdout.source.reader  # type: ignore[union-attr]
        waiter = Waiter()
        with thread.monitor.lock:
            thread.request(waiter)
        until(lambda: thread.claimable)
        with thread.monitor.lock, monkeypatch.context() as patch:
            assert thread.claim(waiter)
            patch.setattr(_posix._Event, "take", _refuse(errno.EMFILE))
            thread._revoke()
            assert thread.claimed
            thread.release(waiter)
            assert not thread.claimed


def test_a_caller_does_not_write_where_a_signal_would_end_the_program() -> None:
    """SIGPIPE is blocked in the thread only."""
    _, write = _ends()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert not write.can_write_directly()
        signal.signal(signal.SIGPIPE, lambda *_: None)  # nor where it would be called
        assert not write.can_write_directly()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        assert write.can_write_directly()
    finally:
        signal.signal(signal.SIGPIPE, before)


def _write_and_flush(stdin: Any) -> None:
    while True:
        stdin.write(b"x")
        stdin.flush()


@pytest.mark.parametrize("buffer_size", [None, 0])
def test_a_handler_of_sigpipe_is_not_called_for_a_child_that_does_not_read(
    buffer_size: Any,
) -> None:
    """The caller learns of it by `BrokenPipeError`, as where the signal is ignored."""
    calls: List[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: calls.append(number))
    try:
        with Process(["true"], stdin=PIPE, buffer_size=buffer_size) as process:
            process.join()
            with pytest.raises(BrokenPipeError):
                _write_and_flush(process.stdin)
        assert calls == []
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_no_signal_is_delivered_to_the_threads() -> None:
    """Every signal that can be blocked is blocked in them, and in them only."""
    with Process(["cat"], stdin=PIPE) as process:
        masks: List[Any] = []
        for source in process._child.sources:  # type: ignore[union-attr]
            real = source.reader._choose

            def choose(real: Any = real) -> Any:
                masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
                return real()

            source.reader._choose = choose  # type: ignore[method-assign]
        process.stdin.write(b"x")
        process.stdin.close()
        assert process.output() == b"x"
    blockable = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    assert masks
    for mask in masks:
        assert blockable - set(mask) <= {32, 33, 34}  # of the C library
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _ended(code: int = 3) -> "subprocess.Popen[bytes]":
    """A child that has ended and has not been reaped."""
    popen = subprocess.Popen(["sh", "-c", f"exit {code}"])
    os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    return popen


def _reaped(popen: "subprocess.Popen[bytes]") -> bool:
    try:
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return True
    return False


@pytest.fixture(params=["pidfd", "thread"])
def watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the end of a child is waited for."""
    name: str = request.param
    if name == "thread":
        monkeypatch.setattr(_posix, "_make_pidfd", _refuse(errno.ENOSYS))
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("there is no pidfd")
    return name


def _watch(popen: Any) -> ExitWatch:
    watch = ExitWatch(popen)
    watch.start()
    return watch


@pytest.mark.usefixtures("watching")
def test_a_child_is_reaped_once_its_code_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """So `Popen` never looks for a child that is gone."""
    popen = _ended()
    watch = _watch(popen)
    codes: List[Any] = []
    real = watch._reap

    def reap() -> None:
        codes.append((popen.returncode, _reaped(popen)))
        real()

    monkeypatch.setattr(watch, "_reap", reap)
    assert watch.look() == 3
    assert codes == [(3, False)]
    assert _reaped(popen)
    assert popen.poll() == popen.wait() == 3
    assert watch.look() == 3
    watch.release()
    watch.release()
    assert codes == [(3, False)]


@pytest.mark.usefixtures("watching")
def test_a_look_that_is_interrupted_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is still there for the next one."""
    popen = _ended(5)
    watch = _watch(popen)
    real = os.waitid

    def interrupted(*arguments: Any) -> Any:
        result = real(*arguments)
        if threading.current_thread() is not threading.main_thread():
            return result  # that of the watch may only come to this now
        raise ZeroDivisionError  # of a signal handler, before the result arrives

    with monkeypatch.context() as patch:
        patch.setattr(os, "waitid", interrupted)
        with pytest.raises(ZeroDivisionError):
            watch.look()
    assert watch.look() == 5
    watch.release()
    assert _reaped(popen)


@pytest.mark.usefixtures("watching")
def test_the_lock_of_popen_is_left_locked() -> None:
    """By a signal handler that raised inside `Popen.poll`: the code is known, the child reaped."""
    popen = _ended()
    watch = _watch(popen)
    lock: Any = popen._waitpid_lock  # type: ignore[attr-defined]
    lock.acquire()
    assert watch.look() == 3
    assert not _reaped(popen)  # a thread inside `Popen.wait` would be about to do that
    watch.release()
    assert _reaped(popen)
    assert popen.wait() == 3


@pytest.mark.usefixtures("watching")
def test_popen_reaps_the_child_itself() -> None:
    """What it has found is what is said, and nothing is reaped twice."""
    popen = _ended()
    watch = _watch(popen)
    assert popen.wait() == 3
    assert watch.look() == 3
    watch.release()


@pytest.mark.usefixtures("watching")
def test_a_signal_for_a_child_that_has_ended() -> None:
    """None is sent."""
    popen = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    watch = _watch(popen)
    assert watch.look() is None
    watch.wait(0)
    watch.send_signal(signal.SIGTERM)
    watch.wait(FOREVER)
    assert watch.look() == -signal.SIGTERM
    watch.send_signal(signal.SIGTERM)
    watch.release()
    popen.communicate()


@pytest.mark.usefixtures("watching")
def test_a_signal_just_when_the_child_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such process, and that is no error."""
    popen = _ended()
    watch = _watch(popen)
    os.waitpid(popen.pid, 0)
    with monkeypatch.context() as patch:
        patch.setattr(watch, "look", lambda: None)
        watch.send_signal(signal.SIGTERM)
    popen.returncode = 3
    watch.release()


@pytest.mark.parametrize("waitid", [True, False])
def test_a_watch_without_a_pidfd(monkeypatch: pytest.MonkeyPatch, waitid: bool) -> None:
    """A kernel or a sandbox without it: a thread waits, and says so."""
    monkeypatch.setattr(_posix, "_make_pidfd", _refuse(errno.ENOSYS))
    if not waitid:
        monkeypatch.delattr(os, "waitid")
    popen = subprocess.Popen(["sh", "-c", "read _; exit 3"], stdin=subprocess.PIPE)
    told: List[bool] = []
    watch = ExitWatch(popen)
    assert watch.fileno() == -1
    watch.start()
    watch.notify(lambda: told.append(True))
    watch.wait(0)
    assert watch.look() is None
    assert told == []
    assert popen.stdin is not None
    popen.stdin.close()
    watch.wait(FOREVER)
    assert watch.look() == 3
    for thread in threading.enumerate():
        if thread.name == f"process-{popen.pid}-exit":
            thread.join()
    assert told == [True]
    watch.release()
    if waitid:
        assert _reaped(popen)
    assert popen.poll() == 3


@pytest.mark.usefixtures("plain")
def test_a_child_ends_just_before_a_join_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that waits for the end has told everybody, and will wake nobody again."""
    real, this = ExitWatch.fileno, threading.get_ident()

    def fileno(self: ExitWatch) -> int:
        if threading.get_ident() == this:
            os.kill(process.id, signal.SIGKILL)
            until(lambda: process._child.monitor.ended)  # type: ignore[union-attr]
        return real(self)

    with Process(["cat"], stdin=PIPE) as process:
        with monkeypatch.context() as patch:
            patch.setattr(ExitWatch, "fileno", fileno)
            process.join()
        assert process.exit_code == -signal.SIGKILL


def _refuse(number: int) -> Any:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_descriptor_for_the_watch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A shortage is no reason to do without: the start fails, and is taken back."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["cat"], stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        patch.setattr(_posix, "_make_pidfd", _refuse(number))
        with pytest.raises(ProcessError) as caught:
            process.run()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number
    assert descriptors() == before
    assert threading.active_count() == threads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    with process:
        assert process.output() == pattern(LARGE)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("number", [1, 2])
def test_a_thread_cannot_be_started(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Neither the one that watches nor the one that feeds: nothing is left, the next run works."""
    assert run_without_thread(monkeypatch, number).endswith(("-exit", "-stdin")[number - 1])


def test_a_child_that_was_gone_before_it_could_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SIGCHLD is ignored the kernel reaps by itself, as early as it likes."""
    popen = _ended()
    os.waitpid(popen.pid, 0)
    monkeypatch.setattr(_posix, "_make_pidfd", _refuse(errno.ESRCH))
    watch = _watch(popen)
    told: List[bool] = []
    watch.notify(lambda: told.append(True))
    assert told == [True]
    assert watch.fileno() == -1
    watch.wait(FOREVER)  # there is nothing to wait for
    assert watch.look() == 0
    watch.release()


def test_where_the_kernel_reaps_by_itself() -> None:
    """With SIGCHLD ignored a child may be gone before it is watched; its output is all there."""
    script = """
import os, signal
from process import Process
from process._platform import _posix
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
real = _posix._make_pidfd
def late(pid):
    try:
        while True:
            os.kill(pid, 0)
    except ProcessLookupError:
        return real(pid)
for make in (real, late):
    _posix._make_pidfd = make
    with Process(["echo", "x"]) as process:
        process.join()
        assert process.output() == b"x\\n"
    assert process.exit_code == 0
"""
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr, done.returncode) == (b"", 0)


def test_where_the_kernel_reaps_and_a_grandchild_holds_the_pipe(tmp_path: Path) -> None:
    """A child gone before it was watched has ended all the same: silence ends its output."""
    script = """
import os, signal, sys, warnings
from process import DEVNULL, Process
from process._platform import _posix
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
real = _posix._make_pidfd
def late(pid):
    try:
        while True:
            os.kill(pid, 0)
    except ProcessLookupError:
        return real(pid)
_posix._make_pidfd = late
family = 'exec 3<"$0"; echo x; cat <&3 & exit 0'
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    process = Process(["sh", "-c", family, sys.argv[1]], stderr=DEVNULL).run()
    assert process.output() == b"x\\n"
    process.close()
assert "silence" in str(caught[0].message)
"""
    gate = Gate(tmp_path)
    command = [*start_library(script), str(gate)]
    held = os.open(gate.path, os.O_RDWR)  # the grandchild reads as long as this is open
    try:
        done = subprocess.run(command, capture_output=True, timeout=10 * PROMPT, check=False)
    finally:
        os.close(held)
    assert (done.stderr, done.returncode) == (b"", 0)
