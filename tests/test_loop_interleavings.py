"""Rules 1 to 5 with asyncio: whatever runs between a decision of a task and its use."""

import asyncio
import os
import warnings
from pathlib import Path

import pytest

from process import PIPE
from process.core._inbound import MEMORY
from tests.support import CAT, PROMPT, Gate, Kit, pattern, reached

#: What a chunk from a pipe has at most.
_CHUNK = 64 * 1024


def feed(stream: "asyncio.StreamReader", data: bytes) -> None:
    """Deliver `data` as the transport does, in chunks."""
    for begin in range(0, len(data), _CHUNK):
        stream.feed_data(data[begin : begin + _CHUNK])


async def test_a_chunk_arrives_while_the_last_bytes_come_back_from_a_file(loops: Kit) -> None:
    """It comes after them, also if memory has been emptied meanwhile."""
    data = pattern(MEMORY + 2 * _CHUNK)
    first = MEMORY + _CHUNK
    async with loops.opened(CAT, stdin=PIPE) as process:
        stdout = process.stdout
        joins = asyncio.ensure_future(process.join())
        await asyncio.sleep(0)
        feed(stdout, data[:first])
        assert 0 < stdout.inbound.spilled <= _CHUNK
        await reached(lambda: not stdout.spool.busy)
        found = await stdout.read(first)
        assert len(found) < first
        await asyncio.sleep(0)
        assert stdout.spool.busy  # it reads the rest
        stdout.feed_data(data[first:])
        found += await stdout.readexactly(len(data) - len(found))
        assert found == data
        process.stdin.close()
        await joins


async def test_a_large_read_that_has_all_leaves_room(loops: Kit) -> None:
    """The pipe, which was paused when its last chunk came, is read ahead again."""
    size = 300_000
    data = pattern(size)
    async with loops.opened(CAT, stdin=PIPE) as process:
        reads = asyncio.ensure_future(process.stdout.readexactly(size))
        await asyncio.sleep(0)
        feed(process.stdout, data)
        assert process.stdout._paused_pipe
        assert await reads == data
        assert not process.stdout._paused_pipe


async def test_a_stream_that_is_kept_is_the_next_caller_s(loops: Kit) -> None:
    """At once, though the call that has kept it waits for another stream."""
    async with loops.opened(CAT, stdin=PIPE) as process:
        child = process._child
        first = asyncio.ensure_future(child.keep(child.readers, join=False))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(process.output(join=False))
        await asyncio.sleep(0)
        process.stdout.feed_data(b"line\n")
        process.stdout.feed_eof()
        assert await asyncio.wait_for(second, PROMPT) == b"line\n"
        assert not first.done()
        process.stderr.feed_eof()
        assert await first == []


async def test_closed_while_a_caller_gathers_what_is_held(loops: Kit) -> None:
    """What it has gathered by then is in `output()`."""
    data = pattern(MEMORY)
    async with loops.opened(CAT, stdin=PIPE) as process:
        joins = asyncio.ensure_future(process.join())
        await asyncio.sleep(0)
        feed(process.stdout, data)
        gathers = asyncio.ensure_future(process.output())
        await asyncio.sleep(0)
        assert process.stdout.inbound.busy
        size = len(process.stdout.inbound._parts.collection)
        assert 0 < size < len(data)
        process.stdout.close()
        process.stdin.close()
        assert await gathers == data[:size]
        assert await process.output() == data[:size]
        await joins


async def test_two_close_while_another_process_holds_the_pipes(
    loops: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them says so, once for each stream."""
    monkeypatch.setattr("process.core._ending.SILENCE", 0.01)
    gate = Gate(tmp_path)
    process = await loops.start(["sh", "-c", 'cat "$0" & exec cat', str(gate)], stdin=PIPE)
    held = os.open(gate.path, os.O_WRONLY)  # the grandchild is there, and waits
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await asyncio.gather(process.close(), process.close())
    finally:
        os.close(held)
    assert len(caught) == 2, [str(warning.message) for warning in caught]
