"""Rule 11: the asyncio variant runs on the loop's own transports and never blocks the loop."""

import asyncio
import contextlib
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from process import PIPE, AsyncProcess, _platform
from process.asyncio import _reader
from process.asyncio._monitor import LoopMonitor
from process.core._flow import BOUND, Flow
from tests.support import (
    DEAF,
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    held_to_the_end,
    lines,
    needs_waitid,
    pattern,
    python,
    reached,
)


async def test_streams_are_asyncio_streams(loops: Kit) -> None:
    """By type, and by what they offer."""
    async with loops.opened(["cat"], stdin=PIPE) as process:
        assert isinstance(process.stdin, asyncio.StreamWriter)
        assert isinstance(process.stdout, asyncio.StreamReader)
        assert isinstance(process.stderr, asyncio.StreamReader)
        process.stdin.write(b"one\n")
        process.stdin.writelines([b"two;", b"three\nfour"])
        await process.stdin.drain()
        assert await process.stdout.readline() == b"one\n"
        assert await process.stdout.readuntil(b";") == b"two;"
        assert await process.stdout.readexactly(3) == b"thr"
        assert not process.stdout.at_eof()
        assert process.stdin.can_write_eof() in (True, False)
        process.stdin.close()
        await process.stdin.wait_closed()
        assert process.stdin.is_closing()
        assert await process.stdout.read(2) == b"ee"
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await process.stdout.readexactly(100)
        assert caught.value.partial == b"\nfour"
        assert process.stdout.at_eof()
        assert await process.stdout.read() == b""
        assert await process.stdout.readline() == b""


async def test_iteration(loops: Kit) -> None:
    """`async for` gives lines."""
    data = lines(5000)
    async with loops.opened(["cat"], stdin=b"".join(data)) as process:
        assert [line async for line in process.stdout] == data


async def test_no_thread_of_its_own(loops: Kit) -> None:
    """While megabytes pass there is no thread but the watcher of asyncio's."""
    seen: List[str] = []
    async with loops.opened(["cat"], stdin=pattern(LARGE)) as process:
        while await process.stdout.read(MIB):
            seen += [thread.name for thread in threading.enumerate()]
    expected = ("waitpid-", "asyncio-waitpid-", "pytest_timeout", threading.current_thread().name)
    assert seen
    assert [name for name in seen if not name.startswith(expected)] == []


async def test_the_loop_runs_while_megabytes_pass(loops: Kit) -> None:
    """Other tasks have their turns while a task waits for `output`."""
    turns = 0
    done = False

    async def tick() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(tick())
    async with loops.opened(["cat"], stdin=pattern(16 * MIB)) as process:
        before = turns
        assert await process.output() == pattern(16 * MIB)
        after = turns
    done = True
    await ticker
    assert after - before > 4  # libuv, the greediest, takes up to 2 MiB a turn


@contextlib.contextmanager
def _counted_turns() -> Iterator[List[int]]:
    """A list that grows by one with each turn of the loop."""
    loop = asyncio.get_running_loop()
    turns: List[int] = []
    over = False

    def tick() -> None:
        turns.append(len(turns))
        if not over:
            loop.call_soon(tick)

    loop.call_soon(tick)
    yield turns
    over = True


@pytest.mark.parametrize("way", ["async for", "readline", "read", "readexactly", "large pieces"])
async def test_the_loop_runs_while_what_is_held_is_read(loops: Kit, way: str) -> None:
    """Calls that find all they want give it a turn after a bound of bytes, or two."""
    data = pattern(LARGE)
    async with loops.opened(["cat"], stdin=data) as process:
        await held_to_the_end(process)
        stdout = process.stdout
        found: List[bytes] = []
        with _counted_turns() as turns:
            if way == "async for":
                found = [line async for line in stdout]
            elif way == "readline":
                while not stdout.at_eof():
                    found.append(await stdout.readline())
            elif way == "read":
                while not stdout.at_eof():
                    found.append(await stdout.read(10_000))
            else:
                size = 1 << 12 if way == "readexactly" else 1 << 19
                found = [await stdout.readexactly(size) for _ in range(0, LARGE, size)]
            # What has been taken from one chunk is counted with the first bytes of the next.
            assert len(turns) >= LARGE // max(2 * BOUND, len(found[0])) - 1
        assert b"".join(found) == data


@pytest.mark.parametrize("way", ["output", "read", "readexactly", "leave"])
async def test_the_loop_runs_while_what_is_held_is_gathered(loops: Kit, way: str) -> None:
    """What makes one `bytes` object of megabytes that were held copies some of them in a turn."""
    data = pattern(2 * LARGE)
    async with loops.opened(["cat"], stdin=data) as process:
        await held_to_the_end(process)
        with _counted_turns() as turns:
            if way == "output":
                assert await process.output() == data
            elif way == "read":
                assert await process.stdout.read() == data
            elif way == "readexactly":
                assert await process.stdout.readexactly(len(data)) == data
            else:
                await process.__aexit__(None, None, None)
                assert await process.output() == data
        assert len(turns) >= len(data) // MIB - 1


async def test_what_comes_while_what_was_held_is_gathered(loops: Kit, tmp_path: Path) -> None:
    """It comes behind it; and cancelled in the middle, all of it is there for the next call."""
    gate = Gate(tmp_path)
    script = f"put(1, pattern({2 * LARGE}))\n{Gate.WAIT}put(1, b'late')"
    async with loops.opened(python(script, gate), stderr=None) as process:
        inbound = process.stdout.inbound
        joining = asyncio.ensure_future(process.join())
        while inbound.held < 2 * LARGE:
            await asyncio.sleep(0.001)
        await loops.blocking(gate.open)
        task = asyncio.ensure_future(process.output())
        while not inbound.busy:
            await asyncio.sleep(0)
        assert len(inbound._buffer) > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await joining
        assert await process.output() == pattern(2 * LARGE) + b"late"


async def test_the_loop_runs_while_tiny_lines_are_read(loops: Kit) -> None:
    """Many calls count as well, however little each of them finds."""
    count = 20_000
    async with loops.opened(["cat"], stdin=b"\n" * count) as process:
        await held_to_the_end(process)
        with _counted_turns() as turns:
            assert [line async for line in process.stdout] == [b"\n"] * count
            assert len(turns) >= count // 2000


@pytest.mark.parametrize("way", ["readline", "read"])
async def test_cancelled_while_the_loop_has_its_turn(loops: Kit, way: str) -> None:
    """A call that has taken nothing yet loses nothing."""
    data = pattern(LARGE)
    async with loops.opened(["cat"], stdin=data) as process:
        await held_to_the_end(process)
        assert await process.stdout.read(BOUND) == data[:BOUND]
        task = asyncio.ensure_future(getattr(process.stdout, way)())
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await process.stdout.read() == data[BOUND:]


async def test_run_does_not_wait_for_the_feeding(loops: Kit) -> None:
    """Input is fed by a task: `run` returns while most of it is still here."""
    process = await loops.start(["cat"], stdin=pattern(16 * MIB))
    assert process.running
    assert process.stdin.transport.get_write_buffer_size() < 2 * MIB
    assert await process.output() == pattern(16 * MIB)
    await process.close()


async def test_gathered_calls(loops: Kit) -> None:
    """`output`, `error` and `join` at once."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    async with loops.opened(python(script)) as process:
        found = await asyncio.gather(process.error(), process.output(), process.join())
    assert list(found) == [pattern(LARGE, 2), pattern(LARGE, 1), None]


async def test_writer_and_reader_tasks(loops: Kit) -> None:
    """One task writes, the other reads."""
    data = pattern(2 * LARGE)
    async with loops.opened(["cat"], stdin=PIPE) as process:

        async def write() -> None:
            for begin in range(0, len(data), 50_000):
                process.stdin.write(data[begin : begin + 50_000])
                await process.stdin.drain()
            process.stdin.close()

        _, found = await asyncio.gather(write(), process.stdout.read())
    assert found == data


async def test_close_while_another_task_reads(loops: Kit) -> None:
    """A task that reads when another one closes is not left waiting."""
    process = await loops.start(["cat"], stdin=PIPE)
    task = asyncio.ensure_future(process.stdout.read())
    await asyncio.sleep(0)
    await process.close()
    assert await asyncio.wait_for(task, 30) == b""


async def test_a_process_closed_before_its_input_is_fed(loops: Kit) -> None:
    """`close` right after `run` gives the input up."""
    process = await loops.start(["yes"], stdin=pattern(LARGE))
    await process.close()
    assert process.exit_code == -15


async def test_a_block_left_by_an_exception_before_its_input_is_fed(loops: Kit) -> None:
    """The rest is thrown away at once, what the transport holds included."""
    process = await loops.start(["sleep", "1000"], stdin=pattern(LARGE))
    assert process.stdin.transport.get_write_buffer_size()
    await process.__aexit__(KeyError, KeyError(), None)
    await asyncio.wait_for(process.stdin.wait_closed(), PROMPT)
    process.kill()
    await process.close()


async def test_the_asyncio_process_underneath(loops: Kit) -> None:
    """`process.process` is asyncio's, and waits as well."""
    async with loops.opened(["cat"], stdin=b"x") as process:
        assert await process.process.wait() == 0
        assert process.process.stdout is process.stdout
        assert process.exit_code == 0
    assert await process.output() == b"x"


def test_closed_after_the_loop(loops: Kit) -> None:
    """After the end, in another loop: signals, polls and output are no errors."""

    async def main() -> Any:
        async with AsyncProcess(["cat"], stdin=b"x") as process:
            pass
        return process

    process = loops.run(main())
    process.kill()
    process.terminate()
    assert (process.running, process.exit_code) == (False, 0)
    assert "exit_code=0" in repr(process)
    assert loops.run(process.output()) == b"x"


async def test_drain_is_woken_by_the_last_piece(loops: Kit) -> None:
    """The pipe has room again in the turn in which something else wakes the task that drains."""
    async with loops.opened(["sh", "-c", "cat >/dev/null"], stdin=PIPE) as process:
        stdin = process.stdin
        stdin.pause_writing()
        stdin.write(b"last")
        task = asyncio.ensure_future(stdin.drain())
        await asyncio.sleep(0)
        process._child.monitor.notify()  # as a chunk of output does
        stdin.resume_writing()
        await asyncio.wait_for(task, PROMPT)
    assert process.exit_code == 0


@needs_waitid
async def test_a_signal_for_a_child_that_has_just_ended(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes nowhere, and the loop still gets the exit code: nothing else reaps the child."""
    async with loops.opened(["sh", "-c", "exit 3"]) as process:
        with contextlib.suppress(ChildProcessError):  # the watcher of asyncio before 3.12 has it
            os.waitid(os.P_PID, process.id, os.WEXITED | os.WNOWAIT)
        with monkeypatch.context() as patch:
            patch.setattr(_platform, "exit_code", lambda _: None)  # as it was a moment ago
            process.kill()
        await process.join()
        assert process.exit_code == 3


async def test_an_exit_code_does_not_go_away(loops: Kit) -> None:
    """Once `exit_code` has been seen it stays, even if something else reaps the child."""
    for _ in range(30):
        async with loops.opened(["sh", "-c", "exit 3"]) as process:
            while process.exit_code is None:
                await asyncio.sleep(0)
            for thread in threading.enumerate():
                if "waitpid" in thread.name:  # the watcher of asyncio before 3.12
                    thread.join()
            assert process.exit_code == 3
            assert not process.running


async def test_writing_to_a_child_that_is_over(loops: Kit) -> None:
    """The pipe is broken; the stream has not been closed by the caller, and does not say so."""
    process = await loops.start(["true"], stdin=PIPE)
    await process.output()
    await loops.settle()
    for _ in range(2):
        process.stdin.write(b"x")
        with pytest.raises(BrokenPipeError):
            await process.stdin.drain()
    assert process.stdin.is_closing()
    await process.close()
    with pytest.raises(ValueError, match="closed"):
        process.stdin.write(b"x")


async def test_writing_on_after_the_child_has_closed_its_end(
    loops: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is written before the next `drain`, which tells; nothing is logged."""
    async with loops.opened(python(DEAF + "; get_all()"), stdin=PIPE) as process:
        assert await process.stdout.readline() == b"closed\n"
        for _ in range(20):
            process.stdin.write(b"x")
        await reached(process.stdin.is_closing)
        process.stdin.write(b"x")
        with pytest.raises(BrokenPipeError):
            await process.stdin.drain()
        process.kill()
    assert caplog.records == []


@pytest.mark.parametrize("way", ["readline", "readuntil", "readexactly", "read", "write"])
async def test_a_call_that_does_not_wait_makes_nothing_to_wait_with(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """No future, no registered wait, and none of its objects is left behind."""
    data = b"line\n" * 1000
    async with loops.opened(["cat"], stdin=PIPE) as process:
        process.stdin.write(data)
        await reached(lambda: process.stdout.inbound.held == len(data))
        calls = {
            "readline": process.stdout.readline,
            "readuntil": process.stdout.readuntil,
            "readexactly": partial(process.stdout.readexactly, 5),
            "read": partial(process.stdout.read, 5),
            "write": process.stdin.drain,
        }

        def refuse(*_: object) -> None:
            pytest.fail("it waits")

        with monkeypatch.context() as patch:
            patch.setattr(LoopMonitor, "changed", refuse)
            patch.setattr(Flow, "enter", refuse)
            for _ in range(1000):
                if way == "write":
                    process.stdin.write(b"x")
                coroutine = calls[way]()
                with pytest.raises(StopIteration) as caught:
                    coroutine.send(None)
                assert way == "write" or caught.value.value == b"line\n"
        if way != "write":
            assert process.stdout.inbound.held == 0


async def test_a_separator_of_any_bytes_like_kind(loops: Kit) -> None:
    """As asyncio's reader takes it."""
    async with loops.opened(["cat"], stdin=b"one;two,three|") as process:
        assert await process.stdout.readuntil(bytearray(b";")) == b"one;"
        assert await process.stdout.readuntil((memoryview(b","), b"|")) == b"two,"
        assert await process.stdout.readuntil(b"|") == b"three|"
        for wrong in (b"", (), (b"x", b""), bytearray()):
            with pytest.raises(ValueError, match="at least one-byte"):
                await process.stdout.readuntil(wrong)


@pytest.mark.parametrize("separator", [b"\n", b"--", b"\r\n"])
async def test_reading_on_from_chunk_to_chunk(loops: Kit, separator: bytes) -> None:
    """Wherever the chunks end, each call gives what it would give of one piece."""
    data = [b"%d" % number * (number % 50) + separator for number in range(2000)]
    async with loops.opened(["cat"], stdin=PIPE) as process:
        stdout = process.stdout
        whole = b"".join(data)
        for size in (1, 7, 100, 4096, 5000):
            for begin in range(0, len(whole), size):
                stdout.feed_data(whole[begin : begin + size])
            for expected in data:
                assert await stdout.readuntil(separator) == expected
            assert stdout.inbound.held == 0


async def test_a_look_before_each_line_piles_up_nothing(loops: Kit) -> None:
    """A read that is served at once counts as a read between two polls."""
    async with loops.opened(["yes"]) as process:
        await process.stdout.readline()
        for _ in range(3000):
            assert process.running
            assert await process.stdout.readline() == b"y\n"
            await asyncio.sleep(0)
            assert process.stdout.inbound.held < 4 * BOUND
        process.kill()
        process.stdout.close()


async def test_writing_to_a_pipe_of_which_the_loop_has_just_seen_the_end(loops: Kit) -> None:
    """Before it has told of that: the bytes go nowhere, and `drain` says so."""
    async with loops.opened(["cat"], stdin=PIPE) as process:
        process.stdin.transport.abort()
        process.stdin.write(b"x")
        with pytest.raises(BrokenPipeError):
            await process.stdin.drain()
    assert await process.output() == b""


async def test_what_comes_while_silence_is_being_confirmed(
    loops: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not silence, and `output` goes on."""
    gate = Gate(tmp_path)
    silence = "process.core._ending.SILENCE"
    monkeypatch.setattr(silence, 0.0)
    process = await loops.start(["sh", "-c", 'cat "$0" & exit 0', str(gate)])
    polled = LoopMonitor.polled

    async def polled_late(monitor: LoopMonitor) -> None:
        gate.open(b"late")
        while not process.stdout.inbound.held:
            await polled(monitor)
        monkeypatch.setattr(silence, 60.0)

    monkeypatch.setattr(LoopMonitor, "polled", polled_late)
    assert await process.output() == b"late"
    await process.close()


async def test_a_pipe_is_lost_after_the_process(loops: Kit) -> None:
    """In whichever order the loop reports them, the input is released and no call hangs."""
    process = await loops.start(["cat"], stdin=PIPE)
    protocol, stdin = process._child.protocol, process.stdin
    protocol.connection_lost(None)
    protocol.pipe_connection_lost(0, None)
    await stdin.wait_closed()
    stdin.close()
    await process.close()


@pytest.mark.parametrize("fronts", [True, False])
async def test_lines_that_are_there_hold_nobody_up(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, fronts: bool
) -> None:
    """Each is short, and yet many of them cost time: other tasks have their turn in between."""
    if not fronts:
        monkeypatch.setattr(_reader, "_HAS_FRONTS", False)
    number, turns = 10_000, 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with loops.opened(["cat"], stdin=b"\n" * number) as process:
        await held_to_the_end(process)
        counting = asyncio.ensure_future(count())
        for _ in range(number):
            assert await process.stdout.readline() == b"\n"
        counting.cancel()
    assert turns >= number * _reader._CALL // BOUND > 1


async def test_bytes_of_a_stream_that_could_not_be_made(loops: Kit) -> None:
    """There was no memory for it: the child has been killed, and what comes is dropped."""
    async with loops.opened(["true"]) as process:
        protocol: Any = process._child.protocol
        protocol.pipe_data_received(99, b"late")


async def test_a_stream_that_has_ended_has_nothing_to_lose(loops: Kit) -> None:
    """Memory that runs out while the process is closed is of no concern to it."""
    async with loops.opened(["true"]) as process:
        assert await process.stdout.read() == b""
        process.stdout.lose(MemoryError())
        process.stdout.check()
