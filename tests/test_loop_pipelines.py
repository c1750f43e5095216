"""Rules 1 and 6 between the variants: streams of a synchronous process, given to an asyncio one.

Streams of an asyncio process have no descriptor. They are refused, with an error that says so.
"""

import asyncio
import gc
import os
import signal
from typing import Any, List

import pytest

from process import PIPE, AsyncProcess, Process, ProcessError
from tests.support import LARGE, Kit, descriptors, lines, pattern, python, reached

#: Writes numbered lines to both streams by turns, more than any pipe holds.
BOTH = python("for i in range(20_000): os.write(1, b'%d\\n' % i); os.write(2, b'%d\\n' % i)")

#: Writes more to stderr than is held while nobody waits; then copies stdin to stdout.
FLOODED = python(
    f"put(2, pattern({LARGE}, 2))\nwhile True:\n    d = os.read(0, 65536)\n"
    "    if not d: break\n    put(1, d)"
)

LINES = b"".join([b"%d\n" % i for i in range(20_000)])


@pytest.mark.parametrize("way", ["output", "join the first", "leave"])
async def test_a_first_stage_that_floods_stderr(loops: Kit, way: str) -> None:
    """A wait for one of two connected processes is a wait for both."""
    with Process(BOTH) as first:
        async with loops.opened(["cat"], stdin=first.stdout) as second:
            if way == "join the first":
                await loops.blocking(first.join)
            elif way == "output":
                assert await second.output() == LINES
        assert await second.output() == LINES
    assert first.output() == b""
    assert first.error() == LINES


async def test_a_second_stage_that_floods_stderr(loops: Kit) -> None:
    """The asyncio process writes to a synchronous one, and is waited for first."""
    data = pattern(LARGE)
    second = Process(FLOODED, stdin=PIPE).run()
    async with loops.opened(["cat"], stdin=data, stdout=second.stdin) as first:
        await first.join()
        second.stdin.close()
    assert first.exit_code == 0
    assert await loops.blocking(second.output) == data
    assert second.error() == pattern(LARGE, 2)
    second.close()


async def test_a_second_stage_is_given_the_stderr_of_an_asyncio_process(loops: Kit) -> None:
    """And what its stdout floods is held meanwhile."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    second = Process(FLOODED, stdin=PIPE).run()
    async with loops.opened(python(script), stderr=second.stdin) as first:
        await first.join()
        second.stdin.close()
        assert await first.output() == pattern(LARGE, 1)
    assert await loops.blocking(second.output) == pattern(LARGE, 2)
    second.close()


async def test_three_stages_of_both_variants(loops: Kit) -> None:
    """The one in the middle has neither end in Python, and floods what is left of it."""
    third = Process(["cat"], stdin=PIPE).run()
    with Process(BOTH) as first:
        async with loops.opened(FLOODED, stdin=first.stdout, stdout=third.stdin) as second:
            third.stdin.close()
            assert await loops.blocking(third.output) == LINES
        assert await second.error() == pattern(LARGE, 2)
    third.close()
    assert first.error() == LINES


@pytest.mark.parametrize("way", ["closed", "left", "joined and dropped", "dropped"])
async def test_what_was_handed_over_is_the_receivers(loops: Kit, way: str) -> None:
    """Whatever becomes of the giver, unless it is killed: that ends its child."""
    data = pattern(2 * LARGE)
    first = Process(["cat"], stdin=data).run()
    second: Any = await loops.start(["cat"], stdin=first.stdout)
    if way == "closed":
        first.stdout.close()
    elif way == "left":
        await loops.blocking(first.__exit__, None, None, None)
    else:
        if way == "joined and dropped":
            await loops.blocking(first.join)
        del first
        gc.collect()
    found = await second.output()
    assert found == data[: len(found)]
    assert len(found) == len(data) or way == "dropped"
    await second.close()
    if way == "closed":
        first.close()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
async def test_bytes_read_before_are_not_given(loops: Kit, name: str) -> None:
    """The caller has read them; the receiver has the rest."""
    data = lines(40_000)
    script = f"put({1 if name == 'stdout' else 2}, sys.stdin.buffer.read())"
    with Process(python(script), stdin=b"".join(data)) as first:
        stream = getattr(first, name)
        assert stream.readline() == data[0]
        async with loops.opened(["cat"], stdin=stream) as second:
            assert await second.output() == b"".join(data[1:])


@pytest.mark.parametrize("read_before", [False, True])
async def test_a_reader_that_leaves_early_is_passed_on(loops: Kit, read_before: bool) -> None:
    """`yes | head`: the writing child gets SIGPIPE, and a caller that joins it does not wait on."""
    with Process(["yes"]) as first:
        if read_before:
            assert first.stdout.readline() == b"y\n"
        async with loops.opened(["head", "-n", "3"], stdin=first.stdout) as second:
            assert await second.output() == b"y\ny\ny\n"
        await loops.blocking(first.join)
    assert second.exit_code == 0
    assert first.exit_code == -signal.SIGPIPE


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_receiver_that_is_not_started(loops: Kit, cancelled: bool) -> None:
    """The stream is as it was, and nothing is left open."""
    data = pattern(LARGE)
    async with loops.opened(["true"]):
        pass  # a loop opens some descriptors of its own with its first child
    with Process(["cat"], stdin=PIPE) as first:
        before = descriptors()
        if cancelled:
            task = asyncio.ensure_future(loops.start(["true"], stdin=first.stdout))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(ProcessError, match="No such file"):
                await loops.start(["no such program"], stdin=first.stdout)
        await reached(lambda: descriptors() == before)
        first.stdin.write(data)
        first.stdin.close()
        assert await loops.blocking(first.output) == data


async def test_a_stream_that_is_closed_is_refused(loops: Kit) -> None:
    """As is one of two that were to be given, and then the other one is as it was."""
    with Process(["cat"], stdin=b"x") as first, Process(["cat"], stdin=PIPE) as second:
        second.stdin.close()
        with pytest.raises(ProcessError, match="closed file"):
            await loops.start(["cat"], stdin=first.stdout, stdout=second.stdin)
        assert first.output() == b"x"
        assert second.output() == b""


# Streams of asyncio processes.


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("variant", [Process, AsyncProcess])
async def test_an_asyncio_stream_has_no_descriptor(loops: Kit, name: str, variant: Any) -> None:
    """Neither variant takes one, as whatever of its own; the stream is as it was."""
    data = pattern(LARGE)
    async with loops.opened(python("put(2, b'e'); os.execvp('cat', ['cat'])"), PIPE) as process:
        before = descriptors()
        for own in ("stdin", "stdout", "stderr"):
            other = variant(["cat"], **{own: getattr(process, name)})
            for _ in range(2):  # it may be run again
                with pytest.raises(ProcessError, match=f"{name} of an asyncio process") as caught:
                    await _run(other)
                assert isinstance(caught.value.__cause__, OSError)
        assert descriptors() == before
        process.stdin.write(data)
        process.stdin.close()
        assert await process.output() == data
        assert await process.error() == b"e"


async def _run(process: Any) -> None:
    result = process.run()
    if isinstance(process, AsyncProcess):
        await result


async def test_asyncio_processes_connected_by_a_pipe(loops: Kit) -> None:
    """The way that the error names; the connection is not known, so all are waited for."""
    data = pattern(LARGE)
    read, write = os.pipe()
    try:
        first = await loops.start(["cat"], stdin=data, stdout=write)
    finally:
        os.close(write)
    try:
        second = await loops.start(FLOODED, stdin=read)
    finally:
        os.close(read)
    found: List[bytes] = await asyncio.gather(second.output(), first.error(), second.error())
    assert found == [data, b"", pattern(LARGE, 2)]
    await first.close()
    await second.close()
