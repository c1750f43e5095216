"""What callers do with a child while faults occur, and what they may expect."""

import asyncio
import contextlib
import gc
import math
import os
import select
from typing import Any, Awaitable, Callable, Dict, List

from process import PIPE, ProcessTimeoutError
from stress.faults import child
from stress.faults.ledger import STDERR, STDOUT, Conversation, Ledger
from stress.faults.round import Interrupted, Round
from stress.pattern import flipped, pattern

#: More than is kept in memory.
_MOST = 8 * 1024 * 1024


def _size(play: Round, most: int = _MOST) -> int:
    """From 0 to `most`; each order of magnitude is as likely, except that few are small."""
    least = play.random.choice((1, most // 100, most // 100, most // 100))
    return int(math.exp(play.random.uniform(math.log(least), math.log(most)))) - 1


async def _flood(play: Round, stderr: int = _MOST, **spec: Any) -> Any:
    """A child that writes to both outputs, and a limited amount to stderr."""
    sizes = _size(play), _size(play, stderr)
    shut = play.random.choice((None, None, 1, 2))
    data = [pattern(sizes[0]), flipped(pattern(sizes[1]))]
    if shut is not None:
        data[shut - 1] = data[shut - 1][: child.PIECE]
    play.ledger = Ledger(*data)
    play.target = await play.start(stdout=sizes[0], stderr=sizes[1], shut=shut, **spec)
    return play.target


async def capture(play: Round) -> None:
    """`output`, `error` and `join` in any order, with and without a grandchild."""
    behind = play.random.choice((0, 0, 0, 0.05))
    process = await _flood(play, behind=behind, stubborn=play.random.random() < 0.2)
    calls: List[Callable[[], Any]] = [
        process.output,
        process.error,
        process.join,
        lambda: process.output(join=False),
    ]
    for call in play.random.sample(calls, 3):
        await play.insist(call)
    await play.finish(process)


async def echo(play: Round) -> None:
    """Input that is given at the start comes back on both outputs."""
    data = pattern(_size(play))
    play.ledger = Ledger(data, flipped(data))
    shut = play.random.choice((None, None, 0))
    play.ledger.cut_short = shut == 0
    play.target = await play.start(data, copy=True, shut=shut)
    await play.finish(play.target)


async def talk(play: Round) -> None:
    """Records go in, and come back one by one or many at a time."""
    play.ledger = conversation = Conversation()
    play.target = process = await play.start(PIPE, copy=True)
    for number in range(play.random.randrange(1, 40)):
        record = b"%d:%s\n" % (number, b"x" * _size(play, 200_000))
        if not await _send(play, conversation, process.stdin, record):
            break
        # A record that may not have been sent may have no echo.
        if conversation.sent[-1][1] and play.random.random() < 0.3:
            await play.take(STDOUT, process.stdout.readline)
    await play.leave(process)
    await play.settle(process)


async def _send(play: Round, conversation: Conversation, stdin: Any, record: bytes) -> bool:
    """Write a record and wait until it has gone in; whether more can be sent."""
    conversation.sent.append((record, False))
    try:
        with play.interruptible():
            stdin.write(record)
        conversation.sent[-1] = (record, True)
        await play.insist(stdin.drain if play.is_async else stdin.flush)
    except Interrupted:
        pass
    except (BrokenPipeError, ValueError):
        if not conversation.cut_short:
            raise
        conversation.sent[-1] = (record, False)
        return False
    return True


async def lines(play: Round) -> None:
    """Line after line from stdout, while stderr is not read."""
    process = await _flood(play)
    while await play.take(STDOUT, process.stdout.readline):
        pass
    await play.finish(process)


async def reads(play: Round) -> None:
    """All ways to read, from both outputs in turn, with waits in between."""
    process = await _flood(play)
    streams = {STDOUT: process.stdout, STDERR: process.stderr}
    while streams:
        name = play.random.choice(list(streams))
        if play.random.random() < 0.1:
            with contextlib.suppress(ProcessTimeoutError):
                await play.insist(lambda: process.join(timeout=play.random.choice((0, 0.002))))
        if play.random.random() < 0.1:
            _ = process.running
        if not await play.take(name, _way_to_read(play, streams[name])):
            del streams[name]
    await play.finish(process)


def _way_to_read(play: Round, stream: Any) -> Callable[[], Any]:
    size = 1 + _size(play, 1_000_000)
    if play.is_async:
        return play.random.choice(
            (
                lambda: stream.read(size),
                lambda: stream.readexactly(size),
                stream.readline,
            )
        )

    def readinto() -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: stream.readinto(buffer)])

    return play.random.choice(
        (
            lambda: stream.read(size),
            lambda: stream.read1(size),
            stream.readline,
            lambda: b"".join(stream.readlines(size)),
            readinto,
        )
    )


async def leave(play: Round) -> None:
    """Leave without reading."""
    process = await _flood(play, stubborn=play.random.random() < 0.2)
    await play.leave(process)
    await play.settle(process)


async def abort(play: Round) -> None:
    """Close at a random point."""
    process = await _flood(play, stubborn=play.random.random() < 0.2)
    if play.random.random() < 0.5:
        await play.take(STDOUT, lambda: process.stdout.read(100))
    await play.close(process)
    await play.settle(process)


async def drop(play: Round) -> None:
    """Drop at a random point, so that only the garbage collector can find it."""
    data = pattern(_size(play))
    play.ledger = Ledger(data, flipped(data))
    play.ledger.cut_short = True
    box = [await play.start(data, copy=True)]
    await play.take(STDOUT, lambda: box[0].stdout.read(100))
    box[0].myself = box[0]
    box.clear()
    gc.collect()
    if play.is_async:
        await asyncio.sleep(0)


async def pipeline(play: Round) -> None:
    """One process reads from the other."""
    data = pattern(_size(play))
    play.ledger = Ledger(data, flipped(data))
    writer = await play.start(stdout=len(data))
    reader = await play.start(writer.stdout, copy=True)
    play.target = play.random.choice((writer, reader))
    await play.insist(reader.join)
    if play.random.random() < 0.5:
        await play.leave(writer)
        await play.finish(reader)
    else:
        await play.finish(reader)
        await play.leave(writer)


async def descriptor(play: Round) -> None:
    """The stream's own descriptor, read by the caller, with other reads in between.

    The library does not know of a wait in `select`, so stderr must not need one: less is written
    there than its pipe holds.
    """
    process = await _flood(play, stderr=60_000)
    number = await _fileno(play, process.stdout)
    while True:
        if play.random.random() < 0.1:
            data = await play.take(STDOUT, lambda: process.stdout.read(1000))
        else:
            select.select([number], [], [])
            data = os.read(number, 1 + _size(play, 100_000))
            play.ledger.add(STDOUT, data)
        if not data:
            break
    await play.finish(process)


async def _fileno(play: Round, stream: Any) -> int:
    while True:
        try:
            number: int = await play.insist(stream.fileno)
        except (OSError, RuntimeError):
            if not play.short_of_something:
                raise
        else:
            return number


#: By the names that plans have for them.
WORKS: Dict[str, Callable[[Round], Awaitable[None]]] = {
    work.__name__: work
    for work in (
        capture,
        echo,
        talk,
        lines,
        reads,
        leave,
        abort,
        drop,
        pipeline,
        descriptor,
    )
}
