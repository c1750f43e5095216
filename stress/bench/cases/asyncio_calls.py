"""One call of a stream or a process, in an asyncio loop and in a uvloop loop."""

import asyncio
import importlib
import tempfile
from contextlib import closing, contextmanager
from functools import partial
from subprocess import PIPE
from typing import (
    IO,
    Awaitable,
    Callable,
    ContextManager,
    Coroutine,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
    cast,
)

from process import AsyncProcess
from stress.bench import calls
from stress.bench.calls import Block
from stress.bench.cases import asyncio_true, true
from stress.bench.payload import PAGES, check_pages

Child = Union[AsyncProcess, "asyncio.subprocess.Process"]
Start = Callable[[List[str], Optional[int], Union[int, IO[bytes]]], Coroutine[None, None, Child]]
NewLoop = Callable[[], asyncio.AbstractEventLoop]


async def _ours(arguments: List[str], stdin: Optional[int], stdout: Union[int, IO[bytes]]) -> Child:
    return await AsyncProcess(arguments, stdin, stdout, None).run()


async def _theirs(
    arguments: List[str], stdin: Optional[int], stdout: Union[int, IO[bytes]]
) -> Child:
    return await asyncio.create_subprocess_exec(*arguments, stdin=stdin, stdout=stdout)


async def _end(child: Child) -> None:
    if isinstance(child, AsyncProcess):
        await child.join()
        await child.close()
    else:
        await child.wait()


@contextmanager
def _reading(
    new_loop: NewLoop,
    start: Start,
    step: Callable[[asyncio.StreamReader, int], Awaitable[Tuple[int, bytes]]],
) -> Iterator[Block]:
    """A session of calls that read from a child that never ends; `step` as in `calls.reading`."""
    end = 0
    with closing(new_loop()) as loop:
        run = loop.run_until_complete
        child = run(start(PAGES, None, PIPE))
        stdout = cast("asyncio.StreamReader", child.stdout)

        def block(count: int) -> None:
            nonlocal end
            size, last = run(step(stdout, count))
            end += size
            check_pages(end, last)

        yield block
        child.kill()
        run(stdout.read())  # asyncio may wait for ever for a child whose output is not read
        run(_end(child))


async def _readline(stdout: asyncio.StreamReader, count: int) -> Tuple[int, bytes]:
    line = b""
    for _ in range(count):
        line = await stdout.readline()
    return count * len(line), line


async def _readexactly(stdout: asyncio.StreamReader, count: int) -> Tuple[int, bytes]:
    data = b""
    for _ in range(count):
        data = await stdout.readexactly(100)
    return count * len(data), data


@contextmanager
def _writing(new_loop: NewLoop, start: Start) -> Iterator[Block]:
    """A session of calls that write to a child that counts what it reads."""
    data, written = bytes(100), 0

    async def write(stdin: asyncio.StreamWriter, count: int) -> None:
        for _ in range(count):
            stdin.write(data)
            await stdin.drain()

    with closing(new_loop()) as loop, tempfile.TemporaryFile() as file:
        run = loop.run_until_complete
        child = run(start(["wc", "-c"], PIPE, file))
        stdin = cast("asyncio.StreamWriter", child.stdin)

        def block(count: int) -> None:
            nonlocal written
            run(write(stdin, count))
            written += count * len(data)

        yield block
        stdin.close()
        run(_end(child))
        file.seek(0)
        calls.check_amount(int(file.read()), written)


@contextmanager
def _conversing(new_loop: NewLoop, start: Start) -> Iterator[Block]:
    async def converse(child: Child, count: int) -> None:
        stdin = cast("asyncio.StreamWriter", child.stdin)
        stdout = cast("asyncio.StreamReader", child.stdout)
        for number in range(count):
            message = b"message %d\n" % number
            stdin.write(message)
            await stdin.drain()
            answer = await stdout.readline()
            if answer != message:
                raise ValueError(f"the answer to {message!r} is {answer!r}")

    with closing(new_loop()) as loop:
        run = loop.run_until_complete
        child = run(start(["cat"], PIPE, PIPE))
        yield lambda count: run(converse(child, count))
        child.kill()
        run(_end(child))


@contextmanager
def _starting(
    new_loop: NewLoop, start: Callable[[int], Coroutine[None, None, true.Ends]]
) -> Iterator[Block]:
    with closing(new_loop()) as loop:

        def block(count: int) -> None:
            if not true.intact(count, loop.run_until_complete(start(count))):
                raise ValueError("a child has not ended as it should")

        yield block


def _uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


class _Call(NamedTuple):
    """A row of the table below."""

    name: str
    job: str
    allowed: float
    #: What makes a session, given how a loop is made and how a process is started in it.
    session: Callable[..., ContextManager[Block]]
    ours: Callable[..., object] = _ours
    theirs: Callable[..., object] = _theirs


_CALLS = (
    _Call("round-trip", "write, drain and readline with cat", 1.3, _conversing),
    _Call("readline", "readline(), lines of 100 bytes", 1.5, partial(_reading, step=_readline)),
    _Call("readexactly", "readexactly(100)", 1.5, partial(_reading, step=_readexactly)),
    _Call("write-drain", "write(100 bytes) and drain()", 2.0, _writing),
    _Call(
        "true-pinned",
        "/bin/true, both outputs captured",
        1.1,
        _starting,
        asyncio_true.run_ours,
        asyncio_true.run_theirs,
    ),
)

#: The limits are for asyncio's loop.
CASES = tuple(
    calls.case(
        name=f"{loop}-{call.name}",
        module=__name__,
        group=loop,
        job=f"{call.job}, in a loop of {loop}",
        ours=partial(call.session, new_loop, call.ours),
        theirs=partial(call.session, new_loop, call.theirs),
        against="the same with asyncio.subprocess",
        allowed=call.allowed if loop == "asyncio" else None,
        needs=loop,
    )
    for loop, new_loop in (("asyncio", asyncio.new_event_loop), ("uvloop", _uvloop))
    for call in _CALLS
)
