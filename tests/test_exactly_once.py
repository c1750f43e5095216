"""Rule 4: every byte reaches exactly one reader, in order, and all input reaches the child."""

import asyncio
import contextlib
import os
import select
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError
from process.constants import DEFAULT_BUFFER_SIZE
from process.threads._monitor import Waiter
from tests.support import (
    CAT,
    DEAF,
    KIB,
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    free,
    lines,
    pattern,
    python,
    until,
)


async def test_output_called_again_returns_the_same(kit: Kit) -> None:
    """`output` and `error` can be asked any number of times, before and after the end."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    async with kit.opened(python(script)) as process:
        for _ in range(2):
            assert await kit.get(process.output()) == pattern(LARGE, 1)
            assert await kit.get(process.error()) == pattern(LARGE, 2)
            assert await kit.get(process.output(join=False)) == pattern(LARGE, 1)
    assert await kit.get(process.output()) == pattern(LARGE, 1)
    await kit.get(process.close())
    assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_what_was_read_is_not_in_output(kit: Kit) -> None:
    """Lines, pieces and `output` share the stream among them."""
    data = b"".join(lines(40_000))
    async with kit.opened(CAT, stdin=data) as process:
        first = await kit.read_line(process.stdout) + await kit.read_line(process.stdout)
        small = await kit.read(process.stdout, 12_345)
        large = await kit.read(process.stdout, MIB)
        line = await kit.read_line(process.stdout)
        rest = await kit.get(process.output())
        assert first.count(b"\n") == 2
        assert line.count(b"\n") == 1
        assert first + small + large + line + rest == data
        assert await kit.read_all(process.stdout) == b""
    assert await kit.get(process.output()) == rest


async def test_what_was_read_is_not_kept_on_leaving(kit: Kit) -> None:
    """Leaving `with` keeps what has not been read, and only that."""
    data = pattern(LARGE)
    async with kit.opened(CAT, stdin=data) as process:
        first = await kit.read(process.stdout, 700_000)
    assert first == data[:700_000]
    assert await kit.get(process.output()) == data[700_000:]


@pytest.mark.parametrize("size", [1, 1000, 8192, 65_536, 262_144, 262_145, MIB, 3 * MIB + 1])
async def test_read_of_a_size_returns_that_size(kit: Kit, size: int) -> None:
    """However much is held, a read of `size` bytes takes just these."""
    data = pattern(2 * LARGE)
    async with kit.opened(CAT, stdin=data) as process:
        await kit.get(process.join())
        stream = process.stdout
        one = await kit.get(stream.readexactly(size) if kit.is_async else stream.read(size))
        assert len(one) == size
        assert one + await kit.read_all(stream) == data


async def test_a_timeout_loses_nothing(kit: Kit, tmp_path: Path) -> None:
    """Timed-out joins between reads leave every byte where it is."""
    gate = Gate(tmp_path)
    script = f"put(1, pattern({LARGE}, 1))\n" + Gate.WAIT + f"put(1, pattern({LARGE}, 2))"
    async with kit.opened(python(script, gate)) as process:
        first = await kit.read(process.stdout, 100)
        with pytest.raises(ProcessTimeoutError):
            await kit.get(process.join(0.02))
        second = await kit.read(process.stdout, LARGE // 2)
        with pytest.raises(ProcessTimeoutError):
            await kit.get(process.join(0.02))
        with gate.opening():
            rest = await kit.get(process.output())
    assert first + second + rest == pattern(LARGE, 1) + pattern(LARGE, 2)


async def test_every_byte_of_input_in_every_size(kit: Kit) -> None:
    """Writes of all sizes, from one byte to more than any bound, arrive in order."""
    sizes = [1, 2, 4095, 4096, 8191, 8192, 8193, 65_536, 65_537, 262_144, 262_145, MIB, 3, 1]
    chunks = [pattern(size, seed) for seed, size in enumerate(sizes)]
    async with kit.opened(CAT, stdin=PIPE) as process:
        for chunk in chunks:
            await kit.write(process.stdin, chunk)
    assert await kit.get(process.output()) == b"".join(chunks)


async def test_input_may_be_changed_after_write(kit: Kit) -> None:
    """What is written from a `bytearray` is what it held at the time of the call."""
    data = bytearray(pattern(100_000))
    expected = bytes(data)
    async with kit.opened(CAT, stdin=PIPE) as process:
        process.stdin.write(data)
        data[:] = bytes(len(data))
    assert await kit.get(process.output()) == expected


async def test_a_child_that_closes_stdin_is_no_error_for_given_bytes(kit: Kit) -> None:
    """Bytes given to the constructor that the child does not read: no error."""
    script = "shut(0); put(1, b'closed'); put(1, b'.')"
    process = await kit.start(python(script), stdin=pattern(LARGE))
    await kit.get(process.join())
    assert await kit.get(process.output()) == b"closed."
    await kit.get(process.close())


@pytest.mark.parametrize("leave", ["close", "leave", "close stdin"])
async def test_a_child_that_closes_stdin_is_no_error_on_closing(kit: Kit, leave: str) -> None:
    """Written, not flushed, and not read: `close` and leaving `with` raise nothing."""
    async with kit.opened(python(DEAF), stdin=PIPE) as process:
        assert await kit.read_line(process.stdout) == b"closed\n"
        process.stdin.write(b"too late")
        if leave == "close":
            await kit.get(process.close())
        elif leave == "close stdin":
            await kit.close(process.stdin)
    assert await kit.get(process.output()) == b""


async def test_an_explicit_write_reports_a_broken_pipe(kit: Kit) -> None:
    """A caller that writes to a child that has closed its end gets an error."""
    async with kit.opened(python(DEAF), stdin=PIPE) as process:
        assert await kit.read_line(process.stdout) == b"closed\n"
        with pytest.raises(BrokenPipeError):
            await kit.send(process.stdin, pattern(LARGE))
        with pytest.raises(BrokenPipeError):
            await kit.send(process.stdin, b"once more")


@pytest.mark.parametrize("size", [DEFAULT_BUFFER_SIZE + 64 * KIB, LARGE])
@pytest.mark.parametrize("buffer_size", [0, None])
def test_a_write_alone_reports_a_broken_pipe(size: int, buffer_size: Optional[int]) -> None:
    """More than a stream buffer holds is not left to a flush: `write` itself says so."""
    if sys.platform == "win32" and buffer_size is None and size < LARGE:
        pytest.skip("a thread writes there, so that only the flush after it can say so")
    with Process(python(DEAF), PIPE, buffer_size=buffer_size) as process:
        assert process.stdout.readline() == b"closed\n"
        with pytest.raises(BrokenPipeError):
            process.stdin.write(pattern(size))


@pytest.mark.parametrize("buffer_size", [0, None])
def test_a_few_bytes_report_a_broken_pipe_each_time(buffer_size: Optional[int]) -> None:
    """They would have fitted into the pipe, so no wait for room can tell."""
    with Process(python(DEAF), PIPE, buffer_size=buffer_size) as process:
        assert process.stdout.readline() == b"closed\n"

        def send() -> None:
            process.stdin.write(b"x")
            process.stdin.flush()

        for call in (send, send, process.stdin.flush if buffer_size is None else send):
            with pytest.raises(BrokenPipeError):
                call()


@pytest.mark.parametrize("buffer_size", [0, None])
def test_a_write_alone_is_told_while_it_waits(buffer_size: Optional[int]) -> None:
    """The child closes its end when a part has gone in, and the writer waits for room."""
    script = f"get(100_000); shut(0); put(1, pattern({LARGE}, 1))"
    with Process(python(script), PIPE, buffer_size=buffer_size) as process:
        with pytest.raises(BrokenPipeError):
            process.stdin.write(pattern(LARGE))
        assert process.output() == pattern(LARGE, 1)


async def test_a_write_in_progress_reports_a_broken_pipe(kit: Kit) -> None:
    """When the child closes its end, a caller that waits for room gets an error."""
    script = f"get(100_000); shut(0); put(1, pattern({LARGE}, 1))"
    async with kit.opened(python(script), stdin=PIPE) as process:
        with pytest.raises(BrokenPipeError):
            await kit.send(process.stdin, pattern(LARGE))
        assert await kit.get(process.output()) == pattern(LARGE, 1)


async def test_stdin_given_as_bytes_reads_as_closed(kit: Kit) -> None:
    """`stdin` is there for bytes, and is closed, even while they are still being fed."""
    async with kit.opened(CAT, stdin=pattern(LARGE)) as process:
        assert process.stdin.is_closing() if kit.is_async else process.stdin.closed
        with pytest.raises((ValueError, RuntimeError)):
            await kit.send(process.stdin, b"more")
        assert await kit.get(process.output()) == pattern(LARGE)


async def test_empty_input_is_end_of_file(kit: Kit) -> None:
    """`stdin=b""` is not `stdin=None`."""
    async with kit.opened(CAT, stdin=b"") as process:
        assert await kit.get(process.output()) == b""


@pytest.mark.parametrize("join", [True, False])
async def test_output_without_join_reads_to_the_end(kit: Kit, join: bool, tmp_path: Path) -> None:
    """`output(join=False)` is complete while the process goes on without its stdout."""
    gate = Gate(tmp_path)
    script = f"put(1, pattern({LARGE}, 1)); shut(1)\n" + Gate.WAIT + "sys.exit(5)"
    async with kit.opened(python(script, gate)) as process:
        assert await kit.get(process.output(join=False)) == pattern(LARGE, 1)
        assert process.running
        await kit.blocking(gate.open)
        assert await kit.get(process.output(join)) == pattern(LARGE, 1)
    assert process.exit_code == 5


async def test_files_and_descriptors_as_streams(kit: Kit, tmp_path: Path) -> None:
    """Files of the caller's go to the child as they are."""
    data = pattern(LARGE)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    with source.open("rb") as stdin, target.open("wb") as stdout:
        async with kit.opened(CAT, stdin=stdin, stdout=stdout) as process:
            await kit.get(process.join())
    assert target.read_bytes() == data
    number = os.open(target, os.O_RDONLY)
    try:
        async with kit.opened(CAT, stdin=number) as process:
            assert await kit.get(process.output()) == data
    finally:
        os.close(number)


@pytest.mark.parametrize("way", ["readline", "readuntil", "async for"])
@pytest.mark.parametrize("collect", ["read", "output", "readexactly"])
async def test_lines_wait_for_a_collection(loops: Kit, collect: str, way: str) -> None:
    """A task that asks for a line while another one gathers everything takes nothing of it."""
    data = pattern(LARGE)
    middle = 100_000
    async with loops.opened(CAT, stdin=PIPE) as process:
        stdout = process.stdout
        if collect == "read":
            first = asyncio.ensure_future(stdout.read())
        elif collect == "output":
            first = asyncio.ensure_future(process.output(join=False))
        else:
            first = asyncio.ensure_future(stdout.readexactly(LARGE))
        await loops.send(process.stdin, data[:middle])
        while not stdout.inbound.busy or stdout.inbound.held < middle:
            await asyncio.sleep(0.001)
        if way == "async for":
            second = asyncio.ensure_future(stdout.__anext__())
        else:
            second = asyncio.ensure_future(getattr(stdout, way)())
        await asyncio.sleep(0)
        await loops.send(process.stdin, data[middle:])
        process.stdin.close()
        assert await asyncio.wait_for(first, PROMPT) == data
        if way == "readline":
            assert await second == b""
        else:
            with pytest.raises((asyncio.IncompleteReadError, StopAsyncIteration)):
                await second
    assert await process.output() == (data if collect == "output" else b"")


async def test_two_tasks_wait_for_different_separators(loops: Kit) -> None:
    """Each sees its own, whatever the other one has searched in the meantime."""
    async with loops.opened(CAT, stdin=PIPE) as process:
        stdout = process.stdout
        line = asyncio.ensure_future(stdout.readline())
        part = asyncio.ensure_future(stdout.readuntil(b";"))
        await loops.send(process.stdin, b"one;two")
        assert await asyncio.wait_for(part, PROMPT) == b"one;"
        part = asyncio.ensure_future(stdout.readuntil((b";;", b"::")))
        for piece in (b"-three:", b":four;"):
            await loops.send(process.stdin, piece)
        assert await asyncio.wait_for(part, PROMPT) == b"two-three::"
        await loops.send(process.stdin, b"; five\n")
        assert await asyncio.wait_for(line, PROMPT) == b"four;; five\n"


def test_readers_in_several_threads_share_the_bytes() -> None:
    """Threads that read the same stream get each line once."""
    data = lines(20_000)
    found = []

    with Process(CAT, stdin=b"".join(data)) as process:

        def read() -> None:
            found.append(list(iter(process.stdout.readline, b"")))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(line for part in found for line in part) == sorted(data)
    number = {line: index for index, line in enumerate(data)}
    for part in found:
        order = [number[line] for line in part]
        assert order == sorted(order)


async def test_a_stream_is_closed_while_a_loop_starts_its_receiver(loops: Kit) -> None:
    """It is offered as soon as it has been asked for, and left to the receiver."""
    data = pattern(LARGE)
    with Process(CAT, stdin=data) as giver:
        receiver = loops.Process(CAT, stdin=giver.stdout)
        start = asyncio.ensure_future(receiver.run())
        await asyncio.sleep(0)
        assert not start.done()
        giver.stdout.close()
        await start
        assert await receiver.output() == data
        await receiver.close()


async def test_a_stream_whose_receiver_cannot_be_started(loops: Kit, tmp_path: Path) -> None:
    """Nothing was handed over: all of it is kept for the first process."""
    data = pattern(LARGE)
    with Process(CAT, stdin=data) as giver, pytest.raises(ProcessError):
        await loops.Process([tmp_path / "none"], stdin=giver.stdout).run()
    assert giver.output() == data


@pytest.mark.skipif(sys.platform == "win32", reason="`select` waits for sockets only there")
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("call", ["output", "read", "read much"])
def test_the_descriptor_goes_on_where_an_interrupted_call_began(
    monkeypatch: pytest.MonkeyPatch, call: str, again: bool
) -> None:
    """What the call has gathered comes before what is written later.

    Twice: it is interrupted once more where it was to give up its turn.
    """
    calls: Dict[str, Callable[[], Any]] = {
        "output": lambda: process.output(join=False),
        "read": lambda: process.stdout.read(-1),
        "read much": lambda: process.stdout.read(LARGE),
    }
    with Process(CAT, stdin=PIPE) as process:
        number = process.stdout.fileno()
        source: Any = process.stdout.source  # type: ignore[union-attr]
        process.stdin.write(b"early ")
        process.stdin.flush()
        until(lambda: select.select([number], [], [], 0)[0])

        def interrupted(*_: object) -> None:
            assert source.inbound.held == 6
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Waiter, "sleep", interrupted)
            if again:
                patch.setattr(type(source), "abandon", interrupted)
            with contextlib.suppress(KeyboardInterrupt):
                calls[call]()
        free()  # the frame of the call, and with it its turn
        process.stdin.write(b"late")
        process.stdin.close()
        assert b"".join(iter(lambda: os.read(number, 100), b"")) == b"early late"
    assert process.output() == b""
