"""Rule 9: what goes wrong at a start has a name, leaves nothing, and the next run works."""

import _thread
import asyncio
import errno
import io
import os
import select
import signal
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List

import pytest

from process import DEVNULL, PIPE, Process, ProcessAlreadyRunError, ProcessError, _interpreter
from process.asyncio import _protocol
from process.asyncio._child import Child
from process.asyncio._monitor import LoopMonitor
from process.core._buffer import Buffer
from process.core._inbound import Collection, Inbound
from process.core._outbound import Outbound
from process.core._overflow import Overflow
from process.threads import _child
from process.threads._monitor import Waiter
from process.threads._relay import Relay
from tests.support import (
    FOREVER,
    LARGE,
    MIB,
    PROMPT,
    Kit,
    descriptors,
    held_to_the_end,
    pattern,
    python,
    refuse_threads,
    until,
)

#: Beyond what is held in memory.
FLOOD = 10 * MIB

resource = pytest.importorskip("resource", reason="limits are a matter of POSIX")


@pytest.fixture
def limits() -> Iterator[None]:
    """Gives the limit of descriptors back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_no_such_program(kit: Kit, tmp_path: Path) -> None:
    """The cause is chained and in the text."""
    process = kit.Process([tmp_path / "none"])
    with pytest.raises(ProcessError) as caught:
        await kit.get(process.run())
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert str(caught.value) == f"Failed to run process: {caught.value.__cause__!r}"
    assert type(caught.value) is ProcessError


async def test_no_such_program_in_a_with_block(kit: Kit, tmp_path: Path) -> None:
    """The body of a block whose process cannot be started is not run."""
    with pytest.raises(ProcessError):
        async with kit.opened([tmp_path / "none"], stdin=pattern(LARGE)):
            pytest.fail("not reached")


async def test_no_permission(kit: Kit, tmp_path: Path) -> None:
    """A file that is no program."""
    path = tmp_path / "file"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o600)
    with pytest.raises(ProcessError) as caught:
        await kit.start([path])
    assert isinstance(caught.value.__cause__, PermissionError)


async def test_not_a_program(kit: Kit, tmp_path: Path) -> None:
    """An executable file in no known format."""
    path = tmp_path / "file"
    path.write_bytes(b"\x00\x01\x02")
    path.chmod(0o700)
    if kit.name == "uvloop":
        pytest.skip("libuv gives a file in no known format to the shell")
    with pytest.raises(ProcessError) as caught:
        await kit.start([path])
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOEXEC


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
async def test_a_file_without_a_descriptor(kit: Kit, name: str) -> None:
    """`BytesIO` cannot be given to a child."""
    with pytest.raises(ProcessError) as caught:
        await kit.start(["cat"], **{name: io.BytesIO(b"x")})
    assert isinstance(caught.value.__cause__, io.UnsupportedOperation)


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
async def test_a_closed_file(kit: Kit, name: str, tmp_path: Path) -> None:
    """Nor can a closed file."""
    file = (tmp_path / "file").open("wb")
    file.close()
    with pytest.raises(ProcessError) as caught:
        await kit.start(["cat"], **{name: file})
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("arguments", [["echo", "a\0b"], ["echo\0", "a"], []])
async def test_arguments_that_no_program_can_have(kit: Kit, arguments: List[str]) -> None:
    """A null byte, and nothing at all: not a program that gets something else."""
    with pytest.raises(ProcessError):
        await kit.start(arguments)


async def test_arguments_that_are_too_long(kit: Kit) -> None:
    """E2BIG is an error like any other."""
    with pytest.raises(ProcessError) as caught:
        await kit.start(["true", "x" * (8 * LARGE)])
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.E2BIG


async def test_a_failed_start_can_be_tried_again(kit: Kit, tmp_path: Path) -> None:
    """A process that could not be started has not been run: its next run works, with its input."""
    program = tmp_path / "program"
    process = kit.Process([program], stdin=pattern(LARGE))
    with pytest.raises(ProcessError):
        await kit.get(process.run())
    program.symlink_to("/bin/cat")
    await kit.get(process.run())
    assert await kit.get(process.output()) == pattern(LARGE)
    with pytest.raises(ProcessAlreadyRunError):
        await kit.get(process.run())
    await kit.get(process.close())


@pytest.mark.usefixtures("limits")
async def test_no_descriptors_left(kit: Kit) -> None:
    """Whichever descriptor is the one too many: `ProcessError`, and nothing is left."""
    async with kit.opened(["cat"], stdin=b"first"):
        pass
    await kit.settle()
    before = descriptors()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    failed = 0
    for spare in range(32):
        process = kit.Process(["cat"], stdin=b"x")
        cause: Any = None
        with Spare(spare, hard):
            try:
                await kit.get(process.run())
            except ProcessError as error:
                cause = error.__cause__
        if cause is None:
            assert await kit.get(process.output()) == b"x"
            await kit.get(process.close())
        else:
            assert isinstance(cause, OSError)
            failed += 1
        await kit.settle()
        assert descriptors() == before, f"with {spare} spare descriptors"
    assert 3 < failed < 32


class Spare:
    """Leaves this process `spare` more descriptors."""

    def __init__(self, spare: int, hard: int) -> None:
        self._spare, self._hard = spare, hard
        self._filled: List[int] = []

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Fill the gaps below the highest number in use, so that the limit counts.
        top = max(int(name) for name in os.listdir("/proc/self/fd")) + 1  # noqa: PTH208
        probe = os.dup(0)
        while probe < top:
            self._filled.append(probe)
            probe = os.dup(0)
        os.close(probe)
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe + self._spare, self._hard))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._before)
        for number in self._filled:
            os.close(number)


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """Input that needs a thread gets none: the child is ended and reaped, nothing is left."""
    before, threads = descriptors(), threading.active_count()
    alive = set(_child.Child.alive)
    process = Process(["cat"], stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        refused = refuse_threads(patch, fault)
        with pytest.raises(ProcessError) as caught:
            process.run()
    assert caught.value.__cause__ is fault
    assert len(refused) == 1
    assert descriptors() == before
    assert threading.active_count() == threads
    assert _child.Child.alive == alive  # it is not ended again
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert process.run().output() == pattern(LARGE)
    process.close()


def test_no_thread_even_to_clean_up_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor to import in: the calling thread does both, and the child that had begun is reaped."""
    before = descriptors()
    fault = RuntimeError("can't start new thread")

    def refuse(*_: object) -> None:
        raise fault

    process = Process(["cat"], stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        threads = SimpleNamespace(allocate_lock=_thread.allocate_lock, start_new_thread=refuse)
        patch.setattr(_interpreter, "_thread", threads)
        patch.setattr(_interpreter, "_imported", {})
        with pytest.raises(ProcessError) as caught:
            process.run()
        assert list(_interpreter._imported) == ["process.threads._child"]
    assert caught.value.__cause__ is fault
    fault.__traceback__ = None
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert process.run().output() == pattern(LARGE)
    process.close()


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("pipes", [0, 3])
async def test_no_watcher_to_be_had(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, pipes: int, fault: Exception
) -> None:
    """A child that its loop has started and cannot watch is ended and reaped, nothing is left."""
    if loops.name == "uvloop":
        pytest.skip("uvloop needs neither a thread nor a descriptor to learn of the end of a child")
    stream = PIPE if pipes else DEVNULL

    def refuse(*_: object) -> Any:
        refused.append("pidfd")
        raise fault

    # The first child decides whether asyncio watches all of them by pidfd (3.12) or by a thread.
    async with loops.opened(["true"]):
        pass
    await loops.settle()
    before = descriptors()
    process = loops.Process(["sleep", "1000"], stdin=stream, stdout=stream, stderr=stream)
    with monkeypatch.context() as patch:
        refused = refuse_threads(patch, fault, ("waitpid-", "asyncio-waitpid-"))
        patch.setattr(os, "pidfd_open", refuse, raising=False)
        with pytest.raises(ProcessError) as caught:
            await process.run()
    assert caught.value.__cause__ is fault
    assert len(refused) == 1
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert not Child.alive
    await process.run()
    await process.close()
    assert process.exit_code == -signal.SIGTERM


def _out_of_memory(patch: pytest.MonkeyPatch, owner: Any, name: str, thread: str) -> None:
    """Let `owner.name` find no memory in threads whose name begins like that."""
    real = getattr(owner, name)

    def fail(*arguments: Any) -> Any:
        if threading.current_thread().name.startswith(thread):
            raise MemoryError
        return real(*arguments)

    patch.setattr(owner, name, fail)


def test_no_memory_for_what_a_thread_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that wants the bytes raises; the child is reaped, and nothing is left."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["yes"]).run()
    with monkeypatch.context() as patch:
        _out_of_memory(patch, Inbound, "feed", "process-")
        for call in (process.output, process.stdout.readline, process.close):
            with pytest.raises(ProcessError, match="has failed: MemoryError") as caught:
                call()
            assert isinstance(caught.value.__cause__, MemoryError)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert threading.active_count() == threads
    assert descriptors() == before
    with Process(["echo", "x"]) as process:
        assert process.output() == b"x\n"


def test_no_memory_for_what_a_thread_has_read_for_a_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads of the descriptor come to end of file, and `close` says why."""
    process = Process(["cat"], stdin=PIPE).run()
    number = process.stdout.fileno()
    with monkeypatch.context() as patch:
        patch.setattr("process.threads._reader._splice", None)
        _out_of_memory(patch, Inbound, "feed", f"process-{process.id}-stdout")
        process.stdin.write(b"x")
        process.stdin.flush()
        assert select.select([number], [], [], PROMPT)[0] == [number]
        assert os.read(number, 10) == b""
    with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
        process.close()


def test_no_memory_on_the_way_to_the_callers_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads raise: what they would return is incomplete."""
    before, threads = descriptors(), threading.active_count()
    with monkeypatch.context() as patch:
        process = Process(["cat"], stdin=pattern(LARGE)).run()
        process.join()  # so more is held than the second pipe takes at once
        _out_of_memory(patch, Relay, "push", f"process-{process.id}-stdout")
        number = process.stdout.fileno()
        while os.read(number, 65_536):
            pass
        for call in (process.stdout.read, process.output, process.close):
            with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
                call()
    assert threading.active_count() == threads
    assert descriptors() == before


def test_no_memory_for_what_a_thread_is_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that has got only a part of its input does not look as if it had got all."""
    before, threads = descriptors(), threading.active_count()
    with monkeypatch.context() as patch:
        _out_of_memory(patch, Outbound, "front", "process-")
        process = Process(["cat"], stdin=pattern(LARGE)).run()
        until(lambda: process._child.sink.writer.done)  # type: ignore[union-attr]
        with pytest.raises(ProcessError, match="stdin has failed: MemoryError"):
            process.close()
    assert threading.active_count() == threads
    assert descriptors() == before


def test_no_memory_for_what_a_caller_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call raises, and the next one returns what had been read."""
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(["cat"], stdin=PIPE) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        process.stdin.write(b"first\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"first\n"
        until(lambda: reader.claimable)  # the thread stands by
        process.stdin.write(pattern(1000))
        process.stdin.flush()
        with monkeypatch.context() as patch:
            _out_of_memory(patch, Inbound, "feed", threading.current_thread().name)
            with pytest.raises(MemoryError):
                process.stdout.read(1000)
        assert process.stdout.read(1000) == pattern(1000)


class _Cramped(io.BytesIO):
    """Has no memory to grow beyond some bytes; as it is with `BytesIO`, what it had is lost."""

    most = 1000

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.most:
            self.close()
            raise MemoryError
        return super().write(data)


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        lambda process: process.output(),
        lambda process: process.stdout.read(),
        lambda process: process.stdout.read(MIB),
        lambda process: process.close(),
        lambda process: process.__exit__(None, None, None),
    ],
    ids=["output", "read", "read much", "close", "leave"],
)
@pytest.mark.parametrize("held", [False, True])
def test_no_memory_to_gather_in(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], Any], exposed: bool, held: bool
) -> None:
    """What was gathered is lost, and no call returns incomplete data; nothing is left."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["cat"], stdin=pattern(MIB)).run()
    if exposed:
        process.stdout.fileno()
    process.stdout.read(1)  # so there is something to be gathered, whatever happens next
    if held and not exposed:
        process.join()
    with monkeypatch.context() as patch:
        patch.setattr("process.core._inbound.io.BytesIO", _Cramped)
        for again in (call, call, lambda process: process.close()):
            with pytest.raises(ProcessError, match="stdout has failed: MemoryError") as caught:
                again(process)
            assert isinstance(caught.value.__cause__, MemoryError)
    assert threading.active_count() == threads
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert process.error() == b""


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    "way",
    [lambda process: process.close(), lambda process: process.__exit__(None, None, None)],
    ids=["close", "leave"],
)
def test_no_memory_to_gather_in_while_it_is_closed_once(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[Any], Any], held: bool, exposed: bool
) -> None:
    """Nothing is left behind the error, and the other stream is kept."""
    before, threads = descriptors(), threading.active_count()
    process = Process(python(f"put(2, b'error'); put(1, pattern({MIB}))")).run()
    if exposed:
        process.stdout.fileno()
    process.stdout.read(1)  # so there is something to be gathered, whatever happens next
    if held:
        process.join()
    with monkeypatch.context() as patch:
        patch.setattr("process.core._inbound.io.BytesIO", _Cramped)
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            way(process)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    until(lambda: threading.active_count() == threads)
    assert descriptors() == before
    assert b"error".startswith(process.error()[:5])  # the rest is about a broken pipe


def test_no_memory_to_go_on_gathering_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same if it has been going well for some chunks."""
    process = Process(["cat"], stdin=pattern(MIB)).run()
    with monkeypatch.context() as patch:
        patch.setattr(_Cramped, "most", 200_000)
        patch.setattr("process.core._inbound.io.BytesIO", _Cramped)
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            process.output()
    with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
        process.close()


def test_no_memory_for_what_an_interrupted_caller_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to those who gather now, and what they had gathered is lost with it."""
    process = Process(["cat"], stdin=PIPE).run()
    source: Any = process.stdout.source  # type: ignore[union-attr]
    reader, waiter, requester = source.reader, Waiter(), Waiter()
    with reader.monitor.lock:
        reader.request(requester)  # so the thread leaves the pipe alone
    until(lambda: reader.claimable)
    with monkeypatch.context() as patch:
        patch.setattr("process.core._inbound.io.BytesIO", _Cramped)
        assert source.collect(Collection(thread=threading.get_ident()), waiter)
        os.write(process.stdin.fileno(), pattern(2 * _Cramped.most))
        until(reader.end.pending)
        with reader.monitor.lock:
            reader._in_flight.read(reader.end.descriptor.fileno(), 2 * _Cramped.most)
            reader.commit()
    for call in (process.stdout.read, lambda: process.output(join=False), process.close):
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            call()


def test_a_file_that_cannot_be_read_at_the_end_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in it is not waited for, nor is it said that another process holds the pipe."""
    monkeypatch.setattr("process.core._ending.SILENCE", FOREVER)
    error = OSError(errno.EIO, os.strerror(errno.EIO))

    def take(*_: object) -> bytes:
        raise error

    process = Process(["cat"], stdin=pattern(FLOOD)).run()
    source: Any = process.stdout.source  # type: ignore[union-attr]
    process.join()
    until(lambda: (source.monitor.poll_all(), source.inbound.ending.eof)[1])
    assert source.inbound.spilled
    with monkeypatch.context() as patch:
        patch.setattr(Overflow, "take", take)
        for call in (process.output, process.stdout.read, process.close):
            with pytest.raises(ProcessError, match="stdout has failed") as caught:
                call()
            assert caught.value.__cause__ is error


def test_the_error_of_another_process_while_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may raise it: it arrives, and the next call closes the process."""
    error = ProcessError("of another process")

    def wait(*_: object) -> bool:
        raise error

    process = Process(["echo", "x"]).run()
    process.join()
    with monkeypatch.context() as patch:
        patch.setattr(_child.Child, "wait", wait)
        with pytest.raises(ProcessError) as caught:
            process.close()
    assert caught.value is error
    process.close()
    assert process.output() == b"x\n"


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("way", ["output", "read", "readexactly", "close", "leave"])
async def test_no_memory_to_gather_in_on_a_loop(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, way: str, held: bool
) -> None:
    """The same for the asyncio variant."""
    async with loops.opened(["true"]):
        pass
    await loops.settle()
    before = descriptors()
    process = await loops.start(["cat"], stdin=pattern(MIB))
    await process.stdout.readexactly(1)
    if held:
        await process.join()
    calls = {
        "output": process.output,
        "read": process.stdout.read,
        "readexactly": lambda: process.stdout.readexactly(MIB),
        "close": process.close,
        "leave": lambda: process.__aexit__(None, None, None),
    }
    with monkeypatch.context() as patch:
        patch.setattr("process.core._inbound.io.BytesIO", _Cramped)
        for call in (calls[way], process.output):
            with pytest.raises(ProcessError, match="stdout has failed: MemoryError") as caught:
                await call()
            assert isinstance(caught.value.__cause__, MemoryError)
    for _ in range(2):
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            await process.close()
    await loops.settle()
    assert descriptors() == before


@pytest.mark.parametrize("way", ["output", "read", "leave"])
async def test_no_memory_to_go_on_gathering_in_on_a_loop(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The same if it has been going well for some chunks."""
    process = await loops.start(["cat"], stdin=pattern(MIB))
    calls = {
        "output": process.output,
        "read": process.stdout.read,
        "leave": lambda: process.__aexit__(None, None, None),
    }
    with monkeypatch.context() as patch:
        patch.setattr(_Cramped, "most", 400_000)
        patch.setattr("process.core._inbound.io.BytesIO", _Cramped)
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            await calls[way]()
    with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
        await process.close()


async def test_no_memory_to_go_on_gathering_with_on_a_loop(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call raises, but what is held is not lost."""
    data = pattern(MIB)
    async with loops.opened(["cat"], stdin=data) as process:
        await process.join()
        while not process.stdout.inbound.at_eof:
            await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            _out_of_memory(patch, Collection, "_write", "")
            with pytest.raises(MemoryError):
                await process.output()
        assert await process.output() == data


def test_no_memory_to_gather_with_while_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was lost, but what is left cannot be kept: closed all the same, and it says so."""
    before = descriptors()
    process = Process(["cat"], stdin=pattern(MIB), stderr=None).run()
    process.join()
    with monkeypatch.context() as patch:
        _out_of_memory(patch, Collection, "_write", threading.current_thread().name)
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            process.close()
    assert descriptors() == before
    with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
        process.output()


def test_no_memory_for_what_was_read_from_the_callers_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call raises, and the next one returns what had been read."""
    with Process(["cat"], stdin=PIPE) as process:
        number = process.stdout.fileno()
        process.stdin.write(pattern(1000))
        process.stdin.flush()
        assert select.select([number], [], [], PROMPT)[0] == [number]
        with monkeypatch.context() as patch:
            _out_of_memory(patch, Buffer, "unread", threading.current_thread().name)
            with pytest.raises(MemoryError):
                process.stdout.read(1000)
        assert process.stdout.read(1000) == pattern(1000)


def test_no_memory_to_go_on_gathering_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call raises, but what is held is not lost."""
    data = pattern(MIB)
    with Process(["cat"], stdin=data) as process:
        process.join()
        with monkeypatch.context() as patch:
            _out_of_memory(patch, Collection, "_write", "")
            with pytest.raises(MemoryError):
                process.output()
        assert process.output() == data


def test_a_temporary_file_that_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread ends all the same, and the pipe is closed."""
    with Process(["yes"]) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]

        def fail() -> None:
            raise OSError

        monkeypatch.setattr(reader, "_release_resources", fail)
        process.stdout.close()
        assert reader.done
    assert reader.failure is None


@pytest.mark.parametrize("way", ["everything", "read", "readline", "readexactly"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
async def test_no_memory_for_what_a_loop_has_read(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    """Every call that wants the bytes raises; the process can be closed, and nothing is left."""
    async with loops.opened(["true"]):
        pass
    await loops.settle()
    before = descriptors()
    number = 1 if name == "stdout" else 2
    script = f"put({number}, get(5)); put({number}, get(5))"
    process = await loops.start(python(script), stdin=PIPE)
    stream = getattr(process, name)
    calls = {
        "everything": process.output if name == "stdout" else process.error,
        "read": stream.read,
        "readline": stream.readline,
        "readexactly": partial(stream.readexactly, MIB),
    }
    process.stdin.write(b"first")
    while stream.inbound.held < 5:
        await asyncio.sleep(0.001)
    task = asyncio.ensure_future(calls[way]())
    await asyncio.sleep(0)
    with monkeypatch.context() as patch:
        _out_of_memory(patch, Inbound, "feed", "")
        _out_of_memory(patch, Buffer, "append", "")
        process.stdin.write(b"later")
        process.stdin.close()
        await asyncio.wait([task], timeout=PROMPT)
    for call in (lambda: task, *calls.values(), process.close, process.close):
        with pytest.raises(ProcessError, match=f"{name} has failed: MemoryError") as caught:
            await asyncio.wait_for(call(), PROMPT)
        assert isinstance(caught.value.__cause__, MemoryError)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    await loops.settle()
    assert descriptors() == before


async def test_no_memory_while_a_block_is_left(loops: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is a part for the whole, and leaving says so."""
    with monkeypatch.context() as patch:
        _out_of_memory(patch, Inbound, "feed", "")
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            async with loops.opened(["sh", "-c", "cat; echo x"], stdin=PIPE) as process:
                pass
    assert process.exit_code is not None
    with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
        await process.output()
    assert await process.error() == b""


def test_a_stream_is_not_handed_over_when_its_receiver_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is unread is kept on leaving, as if nothing had been handed over."""
    real = _child.start

    def start(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    data = pattern(MIB)
    with Process(["cat"], stdin=data) as upstream:
        receiver = Process(["sh", "-c", "exec sleep 1000"], stdin=upstream.stdout)
        with monkeypatch.context() as patch:
            patch.setattr(_child, "start", start)
            with pytest.raises(KeyboardInterrupt):
                receiver.run()
    assert upstream.output() == data


def test_an_interrupt_during_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt is not wrapped; the child that had been started is gone."""
    before = descriptors()
    process = Process(["cat"], stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        refuse_threads(patch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            process.run()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("what", ["Writer", "Reader", "LoopMonitor"])
async def test_no_memory_for_the_streams_of_a_child_on_a_loop(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The child exists already: it is ended and reaped, and the next run works."""
    async with loops.opened(["true"]):
        pass
    await loops.settle()
    before = descriptors()
    process = loops.Process(["cat"], stdin=PIPE)
    with monkeypatch.context() as patch:
        _out_of_memory(patch, getattr(_protocol, what), "__init__", "")
        with pytest.raises(ProcessError, match="MemoryError") as caught:
            await asyncio.wait_for(process.run(), PROMPT)
        assert isinstance(caught.value.__cause__, MemoryError)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    await loops.settle()
    assert descriptors() == before
    async with process:
        process.stdin.write(b"line\n")
    assert await process.output() == b"line\n"


@pytest.mark.parametrize("way", ["close", "leave"])
@pytest.mark.parametrize("fault", ["gather", "keep", "wait"])
async def test_no_memory_to_gather_with_while_leaving_on_a_loop(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, fault: str, way: str
) -> None:
    """What is left cannot be kept: closed all the same, and it says so."""
    async with loops.opened(["true"]):
        pass
    await loops.settle()
    before = descriptors()
    process = await loops.start(["cat"], stdin=pattern(MIB), stderr=None)
    await process.stdout.readexactly(1)
    end = process.close if way == "close" else lambda: process.__aexit__(None, None, None)
    with monkeypatch.context() as patch:
        if fault == "gather":
            await held_to_the_end(process)
            _out_of_memory(patch, Collection, "_write", "")
        elif fault == "keep":
            _out_of_memory(patch, Inbound, "keep", "")
        else:
            real: Any = LoopMonitor.changed

            def changed(*_: Any) -> Any:
                patch.setattr(LoopMonitor, "changed", real)
                raise MemoryError

            patch.setattr(LoopMonitor, "changed", changed)
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            await asyncio.wait_for(end(), PROMPT)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    await loops.settle()
    assert descriptors() == before
    for call in (process.output, process.close):
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            await call()
