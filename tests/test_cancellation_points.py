"""Rule 4: an asyncio call that is cancelled, or interrupted, at any point at all loses nothing."""

import asyncio
import gc
import os
import warnings
from pathlib import Path
from types import FrameType
from typing import Any, Awaitable, Callable, Generator, List, Optional, Set, Tuple

import pytest

import process as library
from process import PIPE, _platform
from process.asyncio import _start
from tests.support import (
    MIB,
    Gate,
    Injector,
    Kit,
    lines,
    loses_no_results,
    pattern,
    python,
)

Call = Callable[[Any], Awaitable[Any]]


class CancelledAt:
    """Awaits something and cancels its own task at the n-th point at which that suspends.

    A task that is cancelled while it waits sees it at once; one that has just been woken sees it
    when it is its turn. Either way it must not have taken anything.
    """

    def __init__(self, awaitable: Awaitable[Any], point: int, woken: bool) -> None:
        self._awaitable = awaitable
        self._point = point
        self._woken = woken

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaitable.__await__()
        task = asyncio.current_task()
        assert task is not None
        cancel = task.cancel
        points = 0
        error: Optional[BaseException] = None
        while True:
            try:
                future = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            points += 1
            if points == self._point:
                if self._woken and future is not None:
                    future.add_done_callback(lambda _: cancel())
                else:
                    cancel()
            try:
                yield future
            except asyncio.CancelledError as cancelled:
                error = cancelled


async def cancelled_at(point: int, woken: bool, call: Awaitable[Any]) -> Tuple[bool, Any]:
    """Whether the call was cancelled, and what it returned if it was over before that."""

    async def run() -> Any:
        return await CancelledAt(call, point, woken)

    try:
        return False, await asyncio.ensure_future(run())
    except asyncio.CancelledError:
        return True, None


class InterruptedTaskError(Exception):
    """What a signal handler raises.

    An exception, since a loop is left by what is none.
    """


def _interrupt() -> None:
    raise InterruptedTaskError


class InterruptedAt(Injector):
    """Interrupts a task of the library's, in the library's own code.

    In a callback of the loop nothing is raised: it would not get to any caller.
    """

    def __init__(self, point: int) -> None:
        super().__init__(point, _interrupt)
        self._pid = os.getpid()  # uvloop runs what is to be run after a fork in its children
        self._others: Set[asyncio.Task[Any]] = set()

    async def interrupt(self, call: Callable[[], Awaitable[Any]]) -> Tuple[bool, Any]:
        """Whether the call had as many points as that, and what it returned if it did return."""

        async def run() -> Any:
            with self.armed():
                return await call()

        self._others = asyncio.all_tasks()
        result = None
        try:
            result = await asyncio.ensure_future(run())
        except InterruptedTaskError:
            pass
        except library.ProcessError as error:
            if not isinstance(error.__cause__, InterruptedTaskError):
                raise
        return self.struck, result

    def applies(self, frame: FrameType) -> bool:
        if os.getpid() != self._pid or not frame.f_code.co_filename.startswith(self.root):
            return False
        task = asyncio.current_task()
        return task is not None and task not in self._others and super().applies(frame)


#: An exception may come between the call of a coroutine function and the `await`.
_BETWEEN_CALL_AND_AWAIT = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")


async def nobody_waits(process: Any) -> None:
    """No call is left that streams would have to make way for."""
    # A wait is over when its frame is gone. An exception refers to it; the loop, to the exception.
    await asyncio.sleep(0)
    gc.collect()
    monitor = process._child.monitor
    assert not monitor._waiters
    for stream in (process.stdout, process.stderr):
        assert monitor.flow.limit(stream.inbound) == 0
        assert not stream.inbound.busy


_READS: List[Any] = [
    pytest.param(lambda process: process.stdout.read(1000), id="read-some"),
    pytest.param(lambda process: process.stdout.readexactly(1000), id="readexactly"),
    pytest.param(lambda process: process.stdout.readexactly(300_000), id="readexactly-large"),
    pytest.param(lambda process: process.stdout.readline(), id="readline"),
    pytest.param(lambda process: process.stdout.readuntil((b"\n", b"x\n")), id="readuntil"),
    pytest.param(lambda process: process.stdout.read(), id="read"),
]

_LINE_READS: List[Any] = [
    pytest.param(lambda process: process.stdout.read(7), id="read"),
    pytest.param(lambda process: process.stdout.readexactly(7), id="readexactly"),
    pytest.param(lambda process: process.stdout.readline(), id="readline"),
    pytest.param(lambda process: process.stdout.readuntil((b"\n", b"x\n")), id="readuntil"),
]

#: The calls that take nothing.
_WAITS: List[Any] = [
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.output(join=False), id="output-unjoined"),
    pytest.param(lambda process: process.error(), id="error"),
    pytest.param(lambda process: process.join(), id="join"),
    pytest.param(lambda process: process.stdin.wait_closed(), id="wait_closed"),
    pytest.param(lambda process: process.__aexit__(None, None, None), id="leave"),
]

_WOKEN = pytest.mark.parametrize("woken", [False, True], ids=["waiting", "woken"])

#: Lets its bytes come in small pieces, so that a large read waits for many of them.
_TRICKLE = """
data = get_all()
for begin in range(0, len(data), 20_000):
    put(1, data[begin:begin + 20_000]); put(2, data[begin:begin + 20_000])
"""


@_WOKEN
@pytest.mark.parametrize("read", _READS)
async def test_cancelled_at_each_point_of_a_read(loops: Kit, read: Call, woken: bool) -> None:
    """The bytes come out whole with the reads that follow."""
    data = b"".join(lines(10_000))
    found = b""
    async with loops.opened(python(_TRICKLE), stdin=data) as process:
        point = 0
        cancellations = 0
        while not process.stdout.at_eof():
            point += 1
            try:
                cancelled, some = await cancelled_at(point % 4 + 1, woken, read(process))
            except asyncio.IncompleteReadError as error:
                cancelled, some = False, error.partial
            cancellations += cancelled
            found += some or b""
            if cancelled:
                await nobody_waits(process)
    assert cancellations
    assert found + await process.output() == data
    assert await process.error() == data


@_WOKEN
@pytest.mark.parametrize("wait", _WAITS)
async def test_cancelled_at_each_point_of_a_wait(loops: Kit, wait: Call, woken: bool) -> None:
    """The next call goes on, and everything is there."""
    data = b"".join(lines(10_000))
    process = await loops.start(python(_TRICKLE), stdin=PIPE)
    process.stdin.write(data)
    process.stdin.close()
    point = 0
    cancelled = True
    while cancelled:
        point += 1
        cancelled, _ = await cancelled_at(point, woken, wait(process))
        await nobody_waits(process)
    assert point > 1
    assert await process.output() == data
    assert await process.error() == data
    await process.close()
    assert process.exit_code == 0


@_WOKEN
async def test_cancelled_at_each_point_of_close(loops: Kit, woken: bool) -> None:
    """Each of many: the next `close` completes it, and everything is there."""
    point = 0
    cancelled = True
    while cancelled:
        point += 1
        process = await loops.start(["cat"], stdin=PIPE)
        process.stdin.write(b"line\n")
        assert await process.stdout.read(1) == b"l"
        cancelled, _ = await cancelled_at(point, woken, process.close())
        await nobody_waits(process)
        await process.close()
        assert await process.output() == b"ine\n"
        assert process.exit_code in (0, -15)
    assert point > 1


@_WOKEN
async def test_cancelled_at_each_point_of_close_while_somebody_holds_the_pipes(
    loops: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, woken: bool
) -> None:
    """One of the calls says so, once for each stream."""
    monkeypatch.setattr("process.core._ending.SILENCE", 0.01)
    point = 0
    cancelled = True
    while cancelled:
        point += 1
        gate = Gate(tmp_path, str(point))  # the last grandchild may still have the last one open
        process = await loops.start(["sh", "-c", 'cat "$0" & exec cat', str(gate)], stdin=PIPE)
        held = os.open(gate.path, os.O_WRONLY)  # the grandchild is there, and waits
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                cancelled, _ = await cancelled_at(point, woken, process.close())
                await process.close()
        finally:
            os.close(held)
        assert len(caught) == 2, [str(warning.message) for warning in caught]
    assert point > 4


@_WOKEN
async def test_cancelled_at_each_point_of_drain(loops: Kit, woken: bool) -> None:
    """What was written is sent once."""
    sent = []
    async with loops.opened(["cat"], stdin=PIPE) as process:
        point = 0
        cancelled = True
        while cancelled:
            point += 1 + point // 4  # there are many, and all alike
            sent.append(pattern(2 * MIB, point))  # more than `cat` can read while nobody waits
            process.stdin.write(sent[-1])
            cancelled, _ = await cancelled_at(point, woken, process.stdin.drain())
            await nobody_waits(process)
        process.stdin.write(b"end")
        sent.append(b"end")
    assert point > 1
    assert await process.output() == b"".join(sent)


@_WOKEN
async def test_cancelled_at_each_point_of_run(loops: Kit, woken: bool) -> None:
    """There is no child afterwards; or it is there, and runs."""
    point = 0
    cancelled = True
    while cancelled:
        point += 1
        process = loops.Process(["cat"], stdin=PIPE)
        cancelled, _ = await cancelled_at(point, woken, process.run())
        if process._child is None:
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
        else:
            assert process.running
            await process.close()
    assert point > 1


# Exceptions out of nowhere.


@loses_no_results
@_BETWEEN_CALL_AND_AWAIT
@pytest.mark.parametrize("read", _READS)
async def test_interrupted_at_each_point_of_a_read(loops: Kit, read: Call) -> None:
    """The bytes come out whole with the reads that follow."""
    data = b"".join(lines(60_000))  # a call whose task was not hit takes some
    found = b""
    point = 0
    interrupted = True
    async with loops.opened(["cat"], stdin=data) as process:
        while interrupted:
            point += 1
            interrupted, some = await InterruptedAt(point).interrupt(lambda: read(process))
            found += some or b""
            await nobody_waits(process)
        assert point > 4  # what is at hand takes few calls
    assert found + await process.output() == data


@loses_no_results
@pytest.mark.parametrize("read", _LINE_READS)
async def test_interrupted_at_each_point_of_a_read_that_waits(loops: Kit, read: Call) -> None:
    """Of each of many lines, which are read when they come and use up what is held."""
    found, sent = b"", b""
    point = 0
    interrupted = True
    async with loops.opened(["cat"], stdin=PIPE) as process:
        while interrupted:
            point += 1
            process.stdin.write(b"%6d\n" % point)
            sent += b"%6d\n" % point
            interrupted, some = await InterruptedAt(point).interrupt(lambda: read(process))
            found += some or b""
            await nobody_waits(process)
            if interrupted:
                found += await process.stdout.readexactly(len(sent) - len(found))
            assert found == sent
        assert point > 20


@_BETWEEN_CALL_AND_AWAIT
@pytest.mark.parametrize("wait", _WAITS)
async def test_interrupted_at_each_point_of_a_wait(loops: Kit, wait: Call) -> None:
    """The next call goes on, and everything is there."""
    data = b"".join(lines(10_000))
    process = await loops.start(["cat"], stdin=PIPE)
    process.stdin.write(data)
    process.stdin.close()
    point = 0
    interrupted = True
    while interrupted:
        point += 1
        interrupted, _ = await InterruptedAt(point).interrupt(lambda: wait(process))
        await nobody_waits(process)
    assert point > 3
    assert await process.output() == data
    await process.close()


@_BETWEEN_CALL_AND_AWAIT
@pytest.mark.parametrize("signals", [False, True])
async def test_interrupted_at_each_point_of_a_write(
    loops: Kit, signals: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are on their way whole, or not at all, and `drain` sends what is."""
    monkeypatch.setattr(_platform, "writes_raise_signals", lambda: signals)
    sent: List[bytes] = []
    point = 0
    interrupted = True
    async with loops.opened(["cat"], stdin=PIPE) as process:

        async def write() -> None:
            process.stdin.write(sent[-1])
            process.stdin.write(sent[-1])

        while interrupted:
            point += 1
            sent.append(b"%d:%s\n" % (point, b"x" * 40_000))
            interrupted, _ = await InterruptedAt(point).interrupt(write)
            await process.stdin.drain()
        assert point > 10
    received = (await process.output()).splitlines(keepends=True)
    assert received == [line for line in sent for _ in range(received.count(line))]
    assert max(map(received.count, sent)) == 2
    assert received[-1] == sent[-1]


@_BETWEEN_CALL_AND_AWAIT
async def test_interrupted_at_each_point_of_close(loops: Kit) -> None:
    """Each of many: the next `close` completes it, and everything is there."""
    point = 0
    interrupted = True
    while interrupted:
        point += 1
        process = await loops.start(["cat"], stdin=PIPE)
        process.stdin.write(b"line\n")
        assert await process.stdout.read(1) == b"l"
        interrupted, _ = await InterruptedAt(point).interrupt(process.close)
        await nobody_waits(process)
        await process.close()
        assert await process.output() == b"ine\n"


@_BETWEEN_CALL_AND_AWAIT
@loses_no_results
async def test_interrupted_at_each_point_of_run(loops: Kit) -> None:
    """There is no child afterwards; or it is there, and runs."""
    point = 0
    interrupted = True
    while interrupted:
        point += 1
        process = loops.Process(["cat"], stdin=PIPE)
        interrupted, _ = await InterruptedAt(point).interrupt(process.run)
        if process._child is None:
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            await process.run()  # it has not been run
        await process.close()
        assert not _start.starting, f"at point {point}"
    assert point > 10


@pytest.mark.parametrize("given", [False, True])
async def test_a_record_of_a_piece_that_was_cut_off(loops: Kit, given: bool) -> None:
    """It is sent once, whether an exception has struck before the pipe was given it, or after."""
    async with loops.opened(["cat"], stdin=PIPE) as process:
        stdin = process.stdin
        stdin._direct = False
        stdin._outbound.put(b"piece;")
        pieces = iter((memoryview(b"piece;"),))
        stdin._given = pieces, 6
        if given:
            stdin._pipe.write(next(pieces))
        stdin.write(b"more")
    assert await process.output() == b"piece;more"
