"""Rule 8: reference counts alone free an asyncio process that is over, with all it has kept."""

import asyncio
import weakref
from typing import Any, Awaitable, Callable, Dict

import pytest

from process import PIPE
from tests.support import CAT, LARGE, YES, Kit, pattern, python

pytestmark = pytest.mark.usefixtures("no_collector")


def parts(process: Any) -> Dict[str, "weakref.ref[Any]"]:
    """What a process consists of; the transports of uvloop cannot be referred to weakly."""
    child = process._child
    found = {"process": process, "child": child, "protocol": child.protocol}
    for name in ("stdin", "stdout", "stderr"):
        found[name] = getattr(child, name)
    found["bytes from stdout"] = child.stdout.inbound
    found["bytes from stderr"] = child.stderr.inbound
    return {name: weakref.ref(part) for name, part in found.items() if part is not None}


async def _close(loops: Kit, options: Dict[str, Any]) -> Any:
    process = await loops.start(CAT, stdin=pattern(LARGE), **options)
    assert await process.output() == pattern(LARGE)
    await process.close()
    return process


async def _leave(loops: Kit, options: Dict[str, Any]) -> Any:
    async with loops.opened(CAT, stdin=pattern(LARGE), **options) as process:
        pass  # what is unread is kept
    return process


async def _stop_reading(loops: Kit, options: Dict[str, Any]) -> Any:
    process = await loops.start(YES, stdin=PIPE, **options)
    assert await process.stdout.readline() == b"y\n"
    await process.close()
    return process


async def _fail(loops: Kit, options: Dict[str, Any]) -> Any:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with loops.opened(CAT, stdin=pattern(LARGE), **options) as process:
            assert len(await process.stdout.read(10)) == 10
            raise ZeroDivisionError
    await process.join()
    return process


async def _fail_to_write(loops: Kit, options: Dict[str, Any]) -> Any:
    process = await loops.start(python(""), stdin=PIPE, **options)
    await process.join()
    with pytest.raises(BrokenPipeError):  # noqa: PT012
        while True:
            process.stdin.write(b"x")
            await process.stdin.drain()
    await process.close()
    return process


async def _give_up_reading(loops: Kit, options: Dict[str, Any]) -> Any:
    process = await loops.start(CAT, stdin=PIPE, **options)
    for call in (process.stdout.read(), process.output(), process.stdin.wait_closed()):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.001)
    await process.close()
    return process


async def _end_by_itself(loops: Kit, options: Dict[str, Any]) -> Any:
    process = await loops.start(python("put(1, b'x')"), stdin=PIPE, **options)
    assert await process.stdout.read() == b"x"
    await process.join()
    return process  # not closed


@pytest.mark.parametrize("options", [{}, {"buffer_size": 0}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "use",
    [_close, _leave, _stop_reading, _fail, _fail_to_write, _give_up_reading, _end_by_itself],
)
async def test_a_process_that_is_over_is_freed_when_it_is_dropped(
    loops: Kit,
    use: Callable[[Kit, Dict[str, Any]], Awaitable[Any]],
    options: Dict[str, Any],
) -> None:
    """No part of it is left once nothing refers to it and the loop has run some iterations."""
    process = await use(loops, options)
    references = parts(process)
    del process
    await loops.settle()
    assert [name for name, reference in references.items() if reference() is not None] == []


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
async def test_a_stream_does_not_keep_the_rest(loops: Kit, name: str) -> None:
    """What the other streams have kept is freed though a reference to this one remains."""
    async with loops.opened(CAT, stdin=PIPE) as process:
        pass
    references = parts(process)
    stream = getattr(process, name)
    del process
    await loops.settle()
    left = {part for part, reference in references.items() if reference() is not None}
    assert {"process", "child"}.isdisjoint(left)
    assert left & {"stdin", "stdout", "stderr"} == {name}
    assert repr(stream)


async def test_what_is_kept_does_not_add_up(loops: Kit) -> None:
    """Of many processes, one after the other, only the last one's output is in memory."""
    before: Any = None
    for number in range(5):
        async with loops.opened(CAT, stdin=pattern(LARGE, number)) as process:
            pass
        assert await process.output() == pattern(LARGE, number)
        assert before is None or before() is None
        before = weakref.ref(process.stdout.inbound)
        del process
        await loops.settle()
