"""Rules 3 and 11: what overflows goes to files, in order, and the loop is never blocked by it."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import subprocess
import tempfile
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Iterator, List, Optional

import pytest

from process import PIPE, ProcessError
from process.asyncio import _spool
from process.core._flow import BOUND
from process.core._inbound import MEMORY, Inbound
from tests.support import (
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    held_to_the_end,
    lines,
    loses_no_results,
    make_loop,
    pattern,
    python,
    reached,
    rudely_close,
    start_library,
    until,
)
from tests.test_cancellation_points import (
    _BETWEEN_CALL_AND_AWAIT,
    InterruptedAt,
)

#: More than is held in memory, in the queue and in the pieces under way.
SIZE = 5 * LARGE

#: The most that may be in memory for one stream: the buffer, the queue, a piece and a chunk.
MOST = MEMORY + _spool._QUEUE + _spool._PIECE + 2 * BOUND


def flood(size: int = SIZE) -> List[str]:
    """A child that writes `size` patterned bytes."""
    return python(f"put(1, pattern({size}, 1))")


class Disk:
    """What temporary files are written to."""

    def __init__(self) -> None:
        #: Called before each write.
        self.before_write: Callable[[], object] = bool
        #: Called before each read.
        self.before_read: Callable[[], object] = bool
        #: How many bytes each file takes, if there is a limit.
        self.limit: Optional[int] = None
        #: The files that are open.
        self.files: List[Any] = []
        self._open = tempfile.TemporaryFile

    def open(self, **options: Any) -> Any:
        """Stands in for `tempfile.TemporaryFile`."""
        disk, file = self, self._open(**options)
        left = self.limit

        class File:
            def write(self, data: Any) -> int:
                nonlocal left
                disk.before_write()
                if left is not None:
                    if not left:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    data = data[:left]
                    left -= len(data)
                size: int = file.write(data)
                return size

            def read(self, size: int) -> bytes:
                disk.before_read()
                data: bytes = file.read(size)
                return data

            def seek(self, offset: int) -> int:
                position: int = file.seek(offset)
                return position

            def close(self) -> None:
                file.close()
                disk.files.remove(self)

            def fileno(self) -> int:
                number: int = file.fileno()
                return number

        made = File()
        self.files.append(made)
        return made


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The disk, of which nothing is used in the end."""
    disk = Disk()
    monkeypatch.setattr(tempfile, "TemporaryFile", disk.open)
    yield disk
    until(lambda: not disk.files)


class Stuck:
    """Something that lasts until it is told to go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self._go.wait(3 * PROMPT)

    async def occupy_thread(self) -> "asyncio.Future[None]":
        """Have the loop's executor begin it; what is returned is done when it ends."""
        ends = asyncio.get_running_loop().run_in_executor(None, self)
        await reached(self.begun.is_set)
        return ends

    def go_on(self) -> None:
        """Let it end, now and from now on."""
        self._go.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Goes on when the test is over."""
    stuck = Stuck()
    yield stuck
    stuck.go_on()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor that is slow because the machine is busy is not given up on."""
    monkeypatch.setattr(_spool, "_PATIENCE", 3 * PROMPT)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor that has no thread for a job is given up on soon."""
    monkeypatch.setattr(_spool, "_PATIENCE", 0.02)


@contextlib.asynccontextmanager
async def spilled(loops: Kit, disk: Disk, size: int = SIZE) -> AsyncIterator[Any]:
    """A process that has ended, and of whose output a part is in a file, and no job under way."""
    async with loops.opened(flood(size)) as process:
        await settle(process)
        assert process.stdout.inbound.spilled
        assert disk.files
        yield process


async def settle(process: Any) -> None:
    """Wait until the process has ended, and all that overflows is written."""
    await held_to_the_end(process)
    spool = process.stdout.spool
    await reached(lambda: not spool.busy and not spool._queue)


def congested(stdout: Any) -> bool:
    """Whether the pipe waits for the disk."""
    return bool(stdout.spool.congested)


async def read_all(stream: Any, size: int = 1_000_003) -> bytes:
    """Everything, in pieces."""
    pieces: List[bytes] = []
    while not stream.at_eof():
        pieces.append(await stream.read(size))
    return b"".join(pieces)


# In order, whichever way it is read.


async def test_an_unread_flood_overflows_into_an_unnamed_file(loops: Kit, disk: Disk) -> None:
    """After `join` most of the output is in a private file that has no name, and comes back."""
    async with spilled(loops, disk) as process:
        assert process.stdout.inbound.spilled >= SIZE - MEMORY - 2 * BOUND
        assert os.listdir(tempfile.gettempdir()) == []  # noqa: PTH208
        for file in disk.files:
            status = os.fstat(file.fileno())
            assert (status.st_mode & 0o777, status.st_nlink) == (0o600, 0)
            assert not os.get_inheritable(file.fileno())
        assert await read_all(process.stdout) == pattern(SIZE, 1)
        assert disk.files == []  # given back as it was consumed


@pytest.mark.parametrize("way", ["read", "readexactly", "large", "output", "leave", "close"])
async def test_what_is_in_a_file_is_given_back_by_every_way_of_reading(
    loops: Kit, disk: Disk, way: str
) -> None:
    """In one piece after what is in memory, without a seam."""
    data = pattern(SIZE, 1)
    async with spilled(loops, disk) as process:
        stdout = process.stdout
        if way == "read":
            assert await stdout.read() == data
        elif way == "readexactly":
            assert b"".join([await stdout.readexactly(4096) for _ in range(SIZE // 4096)]) == data
        elif way == "large":
            assert await stdout.readexactly(SIZE - 1) == data[:-1]
            assert await stdout.readexactly(1) == data[-1:]
        elif way == "output":
            assert await process.output() == data
        elif way == "close":
            await process.close()
    if way in ("leave", "close"):
        assert await process.output() == data


async def test_lines_from_a_file(loops: Kit, disk: Disk) -> None:
    """Also one that is longer than what is held in memory."""
    data = [*lines(60_000), b"x" * 2 * MEMORY + b"\n", *lines(60_000)]
    async with loops.opened(["cat"], stdin=b"".join(data)) as process:
        await process.join()
        assert process.stdout.inbound.spilled
        assert [line async for line in process.stdout] == data


async def test_a_file_and_a_child_that_writes_on(loops: Kit, disk: Disk) -> None:
    """What comes while earlier bytes are in a file queues up behind them."""
    script = f"""
for number in range(16):
    put(1, pattern({MIB}, number))
put(2, b"half")
for number in range(16, 32):
    put(1, pattern({MIB}, number))
"""
    async with loops.opened(python(script)) as process:
        assert await process.stderr.readexactly(4) == b"half"
        assert await process.stdout.readexactly(MIB) == pattern(MIB, 0)
        assert await process.stderr.read() == b""
        for number in range(1, 32):
            assert await process.stdout.readexactly(MIB) == pattern(MIB, number)
        assert process.stdout.at_eof()


async def test_a_caller_that_polls_and_never_reads(loops: Kit, disk: Disk) -> None:
    """A loop of polls ends, and what it makes the stream hold goes to a file as well."""
    async with loops.opened(flood()) as process:
        while process.running:
            await asyncio.sleep(0)
        assert process.stdout.inbound.spilled
        assert await process.output() == pattern(SIZE, 1)


async def test_memory_is_bounded_while_a_task_joins_and_then_streams(loops: Kit) -> None:
    """However much the child writes."""
    size = 64 * MIB
    command = python(f"[put(1, pattern({MIB}, 1)) for _ in range({size // MIB})]")
    piece = pattern(MIB, 1)
    async with loops.opened(command) as process:
        tracemalloc.start()
        try:
            await process.join()
            for _ in range(size // MIB):
                assert await process.stdout.readexactly(MIB) == piece
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MOST + 8 * MIB


# Disks that are slow, full, or fail.


async def test_no_file_is_used_in_the_thread_of_the_loop(loops: Kit, disk: Disk) -> None:
    """So no disk can block it, however slow.

    `python -m stress bench --group overflow` measures how late a task is meanwhile.
    """
    data = pattern(16 * MIB, 1)
    threads: List[int] = []
    disk.before_write = disk.before_read = lambda: threads.append(threading.get_ident())
    async with loops.opened(flood(16 * MIB)) as process:
        await process.join()
        assert process.stdout.spool._queued <= _spool._QUEUE + BOUND
        assert await read_all(process.stdout) == data
    assert threads
    assert threading.get_ident() not in threads


async def test_the_pipe_waits_for_the_disk(loops: Kit, disk: Disk, stuck: Stuck) -> None:
    """A child is held up by a disk that does not keep up, rather than memory filled."""
    disk.before_write = stuck
    async with loops.opened(flood()) as process:
        joining = asyncio.ensure_future(process.join())
        await reached(lambda: congested(process.stdout))
        await asyncio.sleep(0.05)
        assert process.stdout.inbound.held < MOST
        assert not joining.done()
        stuck.go_on()
        await joining
        assert await process.output() == pattern(SIZE, 1)


async def test_a_reader_overtakes_the_disk(loops: Kit, disk: Disk, stuck: Stuck) -> None:
    """What is still in memory is read from there, once what is in the file has been."""
    disk.before_write = stuck
    async with loops.opened(flood()) as process:
        joining = asyncio.ensure_future(process.join())
        await reached(lambda: congested(process.stdout))
        reading = asyncio.ensure_future(process.output(join=False))
        await asyncio.sleep(0.05)
        stuck.go_on()
        assert await reading == pattern(SIZE, 1)
        await joining


async def test_silence_is_not_taken_for_the_end_while_the_disk_is_behind(
    loops: Kit, disk: Disk, stuck: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe is not read meanwhile, and a grandchild may have written to it."""
    monkeypatch.setattr("process.core._ending.SILENCE", 0.01)
    gate = Gate(tmp_path)
    script = f"""
if os.fork():
    os._exit(0)
put(1, pattern({SIZE}, 1))
open(sys.argv[1], "rb").read()
"""
    disk.before_write = stuck
    async with loops.opened(python(script, gate)) as process:
        await process.join()
        waiting = asyncio.ensure_future(process.stderr.read(1))
        await reached(lambda: congested(process.stdout))
        reading = asyncio.ensure_future(process.output())
        await asyncio.sleep(0.1)
        assert not reading.done()
        stuck.go_on()
        with pytest.warns(RuntimeWarning, match="stdout was taken as finished"):
            assert await reading == pattern(SIZE, 1)
        await loops.blocking(gate.open)
        assert await process.stdout.read() == await waiting == b""


async def test_no_temporary_file_can_be_made(loops: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what overflows stays in memory, and nothing is lost."""

    def fail(**_: object) -> None:
        raise OSError("no place")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    async with loops.opened(flood()) as process:
        await process.join()
        assert process.stdout.inbound.spilled
        assert await process.stdout.readexactly(1000) == pattern(SIZE, 1)[:1000]
        assert await process.output() == pattern(SIZE, 1)[1000:]


@pytest.mark.parametrize("limit", [0, 1, 70_000, 3_000_000])
async def test_the_disk_is_full(loops: Kit, disk: Disk, limit: int) -> None:
    """A file that takes some bytes and then no more: the rest stays in memory."""
    disk.limit = limit
    async with loops.opened(flood()) as process:
        await process.join()
        assert await read_all(process.stdout) == pattern(SIZE, 1)


@pytest.mark.parametrize("usable", [True, False], ids=["by a thread", "by the loop"])
async def test_a_file_that_cannot_be_read(loops: Kit, disk: Disk, usable: bool) -> None:
    """The bytes are lost; all calls say so, and none returns the rest for the whole."""

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.before_read = fail
    process = await loops.start(flood())
    await settle(process)
    process.stdout.spool._usable = usable
    for call in (lambda: read_all(process.stdout), process.output, process.close):
        with pytest.raises(ProcessError, match="stdout has failed: OSError"):
            await call()


async def test_no_memory_for_what_comes_back(
    loops: Kit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same."""

    def fail(*_: object) -> None:
        raise MemoryError

    process = await loops.start(flood())
    await settle(process)
    with monkeypatch.context() as patch:
        patch.setattr(Inbound, "feed", fail)
        for call in (process.stdout.read, process.output, process.close):
            with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
                await call()


# Executors that are busy, shut down, or have no thread.


async def test_an_executor_that_is_late_costs_little_memory(
    loops: Kit, disk: Disk, stuck: Stuck
) -> None:
    """Given up on, it is waited for all the same, while the queue may become twice as long."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with loops.opened(flood()) as process:
        busy = await stuck.occupy_thread()
        joining = asyncio.ensure_future(process.join())
        await reached(lambda: congested(process.stdout))
        spool = process.stdout.spool
        spool._give_up(spool._job)  # as after a second
        assert not spool.congested
        await reached(lambda: spool.congested)
        assert spool._queued <= 2 * _spool._QUEUE + 2 * MIB
        stuck.go_on()
        await busy
        await joining
        assert disk.files
        assert await read_all(process.stdout) == pattern(SIZE, 1)


async def test_no_memory_for_a_job(
    loops: Kit, disk: Disk, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be given to the executor is taken back."""

    def submit(*_: Any, **__: Any) -> Any:
        raise MemoryError

    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    monkeypatch.setattr(executor, "submit", submit)
    loop.set_default_executor(executor)
    process = await loops.start(flood())
    await asyncio.wait_for(process.join(), PROMPT)
    for call in (process.output, process.close, process.close):
        with pytest.raises(ProcessError, match="stdout has failed: MemoryError"):
            await asyncio.wait_for(call(), PROMPT)


@pytest.mark.usefixtures("impatient")
async def test_an_executor_whose_threads_wait_for_the_stream(
    loops: Kit, disk: Disk, stuck: Stuck
) -> None:
    """Work of the program that waits for the stream blocks nothing."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with loops.opened(flood()) as process:
        waits = await stuck.occupy_thread()
        await process.join()
        assert process.stdout.spool._stored == 0
        assert await process.stdout.readexactly(SIZE - 1) == pattern(SIZE, 1)[:-1]
        stuck.go_on()
        await waits
        await reached(lambda: process.stdout.spool._usable)


@pytest.mark.usefixtures("impatient")
async def test_an_executor_that_becomes_busy(loops: Kit, disk: Disk, stuck: Stuck) -> None:
    """What is in the file is read by the loop then; and later by the executor again."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with spilled(loops, disk) as process:
        waits = await stuck.occupy_thread()
        found = await process.stdout.readexactly(SIZE // 2)
        assert not process.stdout.spool._usable
        stuck.go_on()
        await waits
        await reached(lambda: process.stdout.spool._usable)
        assert found + await process.output() == pattern(SIZE, 1)


@pytest.mark.usefixtures("impatient")
async def test_a_job_that_is_under_way_is_not_given_up_on(
    loops: Kit, disk: Disk, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the disk is: what it is writing must not be written by the loop, too."""
    patience: List[bool] = []
    real = _spool.Spool._give_up

    def give_up(self: Any, job: Any) -> None:
        real(self, job)
        patience.append(self._usable)

    monkeypatch.setattr(_spool.Spool, "_give_up", give_up)
    disk.before_write = stuck
    async with loops.opened(flood()) as process:
        joining = asyncio.ensure_future(process.join())
        await reached(lambda: patience)
        assert patience == [True]
        stuck.go_on()
        await joining
        assert await process.output() == pattern(SIZE, 1)


async def test_the_queue_grows_only_while_the_executor_has_no_time(loops: Kit, disk: Disk) -> None:
    """A patience that ends later changes nothing."""
    async with loops.opened(["true"]) as process:
        spool = process.stdout.spool
        limit = spool._limit
        spool._allow_more()
        assert spool._limit == limit


@pytest.mark.usefixtures("impatient")
async def test_closed_while_the_executor_is_busy(loops: Kit, disk: Disk, stuck: Stuck) -> None:
    """The files are closed all the same."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with spilled(loops, disk) as process:
        waits = await stuck.occupy_thread()
        await process.__aexit__(KeyError, KeyError(), None)
        await reached(lambda: not disk.files)
        stuck.go_on()
        await waits


async def test_an_executor_that_cancels_what_it_has_not_begun(
    loops: Kit, disk: Disk, stuck: Stuck
) -> None:
    """The job is done by the loop."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    async with spilled(loops, disk) as process:
        waits = await stuck.occupy_thread()
        reading = asyncio.ensure_future(process.output())
        await reached(lambda: process.stdout.spool.busy)
        executor.shutdown(wait=False, cancel_futures=True)
        assert await reading == pattern(SIZE, 1)
        stuck.go_on()
        await waits


@pytest.mark.usefixtures("impatient")
async def test_an_executor_that_takes_the_place_of_one_that_has_cancelled_a_job(
    loops: Kit, disk: Disk, stuck: Stuck
) -> None:
    """It is used: what overflows does not stay in memory from then on."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    async with spilled(loops, disk) as process:
        spool = process.stdout.spool
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_spool, "_PATIENCE", 3 * PROMPT)
            waits = await stuck.occupy_thread()
            reading = asyncio.ensure_future(process.output())
            await reached(lambda: spool.busy)
        executor.shutdown(wait=False, cancel_futures=True)
        loop.set_default_executor(ThreadPoolExecutor(1))
        assert await reading == pattern(SIZE, 1)
        await reached(lambda: spool._usable)
        stuck.go_on()
        await waits
        assert spool._limit == _spool._QUEUE


async def test_an_executor_whose_threads_fail_to_begin(loops: Kit, disk: Disk) -> None:
    """It is broken, and says so for each job; nothing is lost for that."""

    def fail() -> None:
        began.set()
        assert go_on.wait(3 * PROMPT)
        raise RuntimeError("no use")

    began, go_on = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    async with spilled(loops, disk) as process:
        loop.set_default_executor(ThreadPoolExecutor(1, initializer=fail))
        reading = asyncio.ensure_future(process.output())
        await reached(began.is_set)
        assert process.stdout.spool.busy
        go_on.set()
        assert await reading == pattern(SIZE, 1)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_executor_that_is_shut_down(loops: Kit, disk: Disk, when: str) -> None:
    """Before anything has overflowed, or after."""
    loop = asyncio.get_running_loop()
    if when == "before":
        await loop.shutdown_default_executor()
        async with loops.opened(flood()) as process:
            await process.join()
            assert await read_all(process.stdout) == pattern(SIZE, 1)
        assert disk.files == []
    else:
        async with spilled(loops, disk) as process:
            await loop.shutdown_default_executor()
            assert await read_all(process.stdout) == pattern(SIZE, 1)


async def test_no_thread_can_be_started(
    loops: Kit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what overflows stays in memory; a job that was withdrawn is not done late."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "waitpid" not in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)  # the watcher of asyncio before 3.12

    async with loops.opened(flood()) as process:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            await process.join()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)  # does what has been submitted before
        assert await read_all(process.stdout) == pattern(SIZE, 1)
    assert disk.files == []


class Reluctant(ThreadPoolExecutor):
    """Has no thread for its first job."""

    refused = False

    def submit(self, *arguments: Any, **options: Any) -> Any:
        if not self.refused:
            self.refused = True
            raise RuntimeError("can't start new thread")
        return super().submit(*arguments, **options)


@pytest.mark.usefixtures("impatient")
async def test_no_thread_can_be_started_for_once(loops: Kit, disk: Disk) -> None:
    """Later the executor is tried again: what overflows does not stay in memory for good."""
    asyncio.get_running_loop().set_default_executor(Reluctant(1))
    async with loops.opened(flood()) as process:
        await process.join()
        await reached(lambda: process.stdout.spool._stored > 0)
        assert await read_all(process.stdout) == pattern(SIZE, 1)


# Whatever happens in the middle of a job.


@pytest.mark.parametrize("way", ["read", "readexactly", "readline", "output", "join"])
async def test_cancelled_in_the_middle_of_a_job(
    loops: Kit, disk: Disk, stuck: Stuck, way: str
) -> None:
    """Jobs belong to the stream: nothing is lost, and the next call goes on."""
    calls = {
        "read": lambda process: process.stdout.read(),
        "readexactly": lambda process: process.stdout.readexactly(SIZE),
        "readline": lambda process: process.stdout.readuntil(b"no such bytes"),
        "output": lambda process: process.output(),
        "join": lambda process: process.join(),
    }
    if way == "join":
        disk.before_write = stuck
    else:
        disk.before_read = stuck
    async with loops.opened(flood()) as process:
        if way != "join":
            await settle(process)
        task = asyncio.ensure_future(calls[way](process))
        await reached(stuck.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stuck.go_on()
        assert await process.output() == pattern(SIZE, 1)


@pytest.mark.parametrize("way", ["read", "readexactly", "readline", "output", "leave", "close"])
async def test_cancelled_after_each_turn_of_the_loop(loops: Kit, disk: Disk, way: str) -> None:
    """Wherever the call waits: what it has gathered so far is there for the next one."""
    async with spilled(loops, disk) as process:
        stdout = process.stdout
        calls = {
            "read": stdout.read,
            "readexactly": lambda: stdout.readexactly(SIZE),
            "readline": lambda: stdout.readuntil(b"no such bytes"),
            "output": process.output,
            "leave": lambda: process.__aexit__(None, None, None),
            "close": process.close,
        }
        task: Any = None
        for turns in range(30):
            task = asyncio.ensure_future(calls[way]())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        found = b""
        if not task.cancelled() and way in ("read", "readexactly"):
            found = await task
        elif not task.cancelled() and way == "readline":
            error = task.exception()
            assert isinstance(error, asyncio.IncompleteReadError)
            found = error.partial
        assert found + await process.output() == pattern(SIZE, 1)
    assert disk.files == []


@loses_no_results
@_BETWEEN_CALL_AND_AWAIT
@pytest.mark.parametrize("way", ["read", "readline", "readexactly"])
async def test_interrupted_at_each_point_of_a_read_from_a_file(
    loops: Kit, disk: Disk, way: str
) -> None:
    """The bytes come out whole with the reads that follow."""
    data = b"".join(lines(200_000))
    found: List[bytes] = []
    async with loops.opened(["cat"], stdin=data) as process:
        await process.join()
        assert process.stdout.inbound.spilled
        calls = {
            "read": lambda: process.stdout.read(300_000),
            "readline": process.stdout.readline,
            "readexactly": lambda: process.stdout.readexactly(70_000),
        }
        interruptions = point = 0
        while process.stdout.inbound.spilled:
            point = point % 80 + 1
            interrupted, some = await InterruptedAt(point).interrupt(calls[way])
            interruptions += interrupted
            found.append(some or b"")
            if way == "readline":  # it takes too many to get anywhere
                found.append(await process.stdout.read(100_000))
        assert interruptions
    assert b"".join(found) + await process.output() == data


async def test_resumed_again_after_an_exception_has_struck(loops: Kit) -> None:
    """Just after the pipe was resumed, and before that was noted: it is harmless."""
    async with loops.opened(["yes"]) as process:
        stdout = process.stdout
        await reached(lambda: stdout._paused_pipe)
        stdout._pipe.resume_reading()
        assert await stdout.readexactly(MIB) == b"y\n" * (MIB // 2)
        process.kill()


async def test_a_block_left_by_an_exception_in_the_middle_of_a_job(
    loops: Kit, disk: Disk, stuck: Stuck
) -> None:
    """It does not wait for the disk; the files are closed as soon as it is done."""
    disk.before_read = stuck
    async with spilled(loops, disk) as process:
        task = asyncio.ensure_future(process.stdout.read(SIZE))
        await reached(stuck.begun.is_set)
        await process.__aexit__(KeyError, KeyError(), None)
        assert disk.files
        stuck.go_on()
        await task
        await reached(lambda: not disk.files and not process.stdout.spool.busy)


async def test_close_returns_when_the_files_are_closed(
    loops: Kit, disk: Disk, stuck: Stuck
) -> None:
    """Even if the stream was closed in the middle of a job."""
    disk.before_read = stuck
    async with spilled(loops, disk) as process:
        task = asyncio.ensure_future(process.stdout.read(SIZE))
        await reached(stuck.begun.is_set)
        process.stdout.close()
        await task
        closing = asyncio.ensure_future(process.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        stuck.go_on()
        await closing
        assert disk.files == []


async def test_closed_after_a_job_and_before_that_is_recorded(
    loops: Kit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread does not close the files any more, so another job does."""
    done = threading.Event()
    keep_quiet = _spool.Spool._keep_quiet

    def noted(self: Any, job: Any) -> None:
        keep_quiet(self, job)
        done.set()

    async with spilled(loops, disk) as process:
        monkeypatch.setattr(_spool.Spool, "_keep_quiet", noted)
        task = asyncio.ensure_future(process.stdout.read(SIZE))
        while not process.stdout.spool.busy:
            await asyncio.sleep(0)
        assert done.wait(3 * PROMPT)  # the loop does not run meanwhile
        assert process.stdout.spool.busy
        process.stdout.close()
        await task
        await process.close()
        assert disk.files == []


async def test_dropped_in_the_middle_of_a_job(loops: Kit, disk: Disk, stuck: Stuck) -> None:
    """The loop closes the files when the job is done."""
    disk.before_write = stuck
    process = await loops.start(flood())
    joining = asyncio.ensure_future(process.join())
    await reached(stuck.begun.is_set)
    joining.cancel()
    await asyncio.wait([joining])
    protocol = process._child.protocol
    del process, joining
    gc.collect()
    await reached(lambda: protocol.gone)
    assert disk.files
    stuck.go_on()
    await reached(lambda: not disk.files)


@contextlib.contextmanager
def _no_noise(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged, by whichever part of the standard library."""
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert caplog.records == []


class _Unlocked:
    """Whether a lock is free; a closure would keep its owner alive."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __call__(self) -> bool:
        return not self._lock.locked()


def _begin_a_job(loops: Kit, stuck: Stuck) -> Any:
    """A loop with a process in the middle of a job."""
    loop: Any = make_loop(loops.name)

    async def begin() -> Any:
        process = await loops.start(flood(), stdin=PIPE)
        joining = asyncio.ensure_future(process.join())
        await reached(stuck.begun.is_set)
        joining.cancel()
        await asyncio.wait([joining])
        return process

    return loop, loop.run_until_complete(begin())


def test_a_loop_that_shuts_down_in_the_middle_of_a_job(
    loops: Kit, disk: Disk, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """As at the end of `asyncio.run`: it waits for the piece under way, and nothing is left."""
    disk.before_write = stuck
    with _no_noise(caplog):
        loop, process = _begin_a_job(loops, stuck)
        threading.Timer(0.05, stuck.go_on).start()
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert disk.files == []
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        del process
        gc.collect()


@pytest.mark.usefixtures("forgotten_descriptors")
@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "kept"])
def test_a_loop_that_is_closed_in_the_middle_of_a_job(
    loops: Kit, disk: Disk, stuck: Stuck, caplog: pytest.LogCaptureFixture, dropped: bool
) -> None:
    """Whichever ends first: the files are closed by the last one, in silence."""
    disk.before_write = stuck
    with _no_noise(caplog):
        loop, process = _begin_a_job(loops, stuck)
        rudely_close(loop)
        if not dropped:
            stuck.go_on()
            until(_Unlocked(process.stdout.spool._lock))
        del process
        gc.collect()
        assert bool(disk.files) is dropped
        stuck.go_on()
        until(lambda: not disk.files)
        until(lambda: not [each for each in threading.enumerate() if "asyncio_" in each.name])


@pytest.mark.usefixtures("forgotten_descriptors")
def test_a_loop_that_is_closed_before_a_job_has_begun(
    loops: Kit, disk: Disk, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """A finalizer takes it back, and closes the files itself."""
    loop: Any = make_loop(loops.name)
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)

    async def begin() -> Any:
        process = await loops.start(flood(), stdin=PIPE)
        await settle(process)
        executor.submit(stuck)
        reading = asyncio.ensure_future(process.output())
        await reached(lambda: process.stdout.spool.busy)
        reading.cancel()
        await asyncio.wait([reading])
        return process

    with _no_noise(caplog):
        process = loop.run_until_complete(begin())
        rudely_close(loop)
        del process
        gc.collect()
        assert disk.files == []
        stuck.go_on()
        executor.shutdown()


async def test_a_finalizer_that_strikes_while_the_files_are_being_closed(
    loops: Kit, disk: Disk
) -> None:
    """It leaves that to the call that it has interrupted, instead of waiting for it."""
    async with spilled(loops, disk) as process:
        spool = process.stdout.spool
        with spool._lock:
            spool.release()
        assert disk.files
        spool.release()
        assert disk.files == []


def test_a_script_that_ends_in_the_middle_of_a_job(loops: Kit) -> None:
    """It says nothing, whether its loop was shut down or not."""
    for end in ("asyncio.run", "exit"):
        script = f"""
import asyncio, tempfile, time
from process import AsyncProcess
real = tempfile.TemporaryFile
def slow(**options):
    time.sleep(0.3)
    return real(**options)
tempfile.TemporaryFile = slow
async def main():
    global process
    process = await AsyncProcess(["head", "-c", "20000000", "/dev/zero"]).run()
    joining = asyncio.ensure_future(process.join())
    while not process.stdout.spool.busy:
        await asyncio.sleep(0.001)
    joining.cancel()
    await asyncio.wait([joining])
if {loops.name == "uvloop"}:
    import uvloop as loops
else:
    loops = asyncio
loop = loops.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
if {end == "asyncio.run"}:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
"""
        done = subprocess.run(
            start_library(script), capture_output=True, timeout=3 * PROMPT, check=False
        )
        assert (done.stderr, done.returncode) == (b"", 0), end


async def test_a_fork_in_the_middle_of_a_job(loops: Kit, disk: Disk, stuck: Stuck) -> None:
    """It closes its copies of the files, whose space would not be given back before it ends."""
    disk.before_read = stuck
    async with spilled(loops, disk) as process:
        reading = asyncio.ensure_future(process.output())
        await reached(stuck.begun.is_set)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:  # pragma: no cover - in the fork
            os._exit(len(disk.files))
        assert os.waitpid(pid, 0)[1] == 0
        stuck.go_on()
        assert await reading == pattern(SIZE, 1)


async def test_signals_while_a_file_is_written_and_read(loops: Kit, disk: Disk) -> None:
    """Handlers that do not raise change nothing."""
    count = 0

    def handle(*_: object) -> None:
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        async with loops.opened(flood()) as process:
            await process.join()
            assert await read_all(process.stdout) == pattern(SIZE, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count
