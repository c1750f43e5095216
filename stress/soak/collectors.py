"""Programs that collect what children write, until told to stop, and verify all of it."""

import asyncio
import itertools
import time
from typing import Any, Callable, Dict, Optional

import psutil

from process import AsyncProcess, Process
from stress.pattern import pattern
from stress.soak.lines import BLOCK, STDERR, command, line

#: How many blocks of stderr are left unread before they are read: more than stays in memory.
_UNREAD = 128
#: How many blocks a child writes to each output before it is joined: more than stays in memory.
_JOINED = 256
_INPUT = 16 * 1024 * 1024


class VerificationError(Exception):
    """A line is not what it should be."""


class Collector:
    """What a collector has done so far, and whether it goes on."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._process = psutil.Process()
        self.lines = 0
        self.bytes = 0
        #: Bytes in memory the last time that there was no work, if there was such a time.
        self.quiet: Optional[int] = None

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._deadline

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        return int(self._process.memory_info().rss)

    def rest(self) -> None:
        """There is no work at present: what is in memory now is kept."""
        self.quiet = self.memory

    def verify(self, got: bytes, number: int) -> None:
        """Compare a line with the expected one, and count it."""
        if got != line(number):
            raise VerificationError(f"{got[:40]!r} in place of line {number}")
        self.lines += 1
        self.bytes += len(got)

    def verify_all(self, got: bytes, first: int, blocks: int) -> None:
        """The same for many lines at once."""
        count = 0
        for count, one in enumerate(got.splitlines(keepends=True), 1):
            self.verify(one, first + count - 1)
        if count != blocks * BLOCK:
            raise VerificationError(f"{count} lines in place of {blocks * BLOCK}")


def unread(collector: Collector) -> None:
    """Stdout line by line while the child floods stderr, which is unread for a long time."""
    with Process(command()) as process:
        for turn in itertools.count():
            for stream, begin in ((process.stdout, 0), (process.stderr, STDERR)):
                for block in range(turn * _UNREAD, (turn + 1) * _UNREAD):
                    if collector.over:
                        process.kill()
                        return
                    for number in range(begin + block * BLOCK, begin + (block + 1) * BLOCK):
                        collector.verify(stream.readline(), number)


def tasks(collector: Collector) -> None:
    """Both outputs with asyncio, a task for each."""

    async def collect(stream: asyncio.StreamReader, number: int) -> None:
        while not collector.over:
            collector.verify(await stream.readline(), number)
            number += 1

    async def main() -> None:
        async with AsyncProcess(command()) as process:
            await asyncio.gather(collect(process.stdout, 0), collect(process.stderr, STDERR))
            process.kill()

    asyncio.run(main())


def restarts(collector: Collector) -> None:
    """Processes that begin and end continually: closed, left, dropped or killed."""
    turn = 0
    while not collector.over:
        _RESTARTS[turn % len(_RESTARTS)](collector)
        collector.rest()
        turn += 1


def _left(collector: Collector) -> None:
    with Process(command(2)) as process:
        for number, got in enumerate(process.stdout):
            collector.verify(got, number)
    collector.verify_all(process.error(), STDERR, 2)


def _closed(collector: Collector) -> None:
    process = Process(command(2)).run()
    collector.verify_all(process.output(), 0, 2)
    process.close()
    collector.verify_all(process.error(), STDERR, 2)


def _joined(collector: Collector) -> None:
    process = Process(command(20)).run()
    process.join()
    collector.verify_all(process.stdout.read(), 0, 20)
    process.close()


def _killed(collector: Collector) -> None:
    with Process(command()) as process:
        for number in range(BLOCK):
            collector.verify(process.stdout.readline(), number)
        process.kill()


def _dropped(collector: Collector) -> None:
    process = Process(command()).run()
    collector.verify(process.stdout.readline(), 0)


_RESTARTS = (_left, _closed, _joined, _killed, _dropped)


def joins(collector: Collector) -> None:
    """Asyncio processes that are joined first, so that their output overflows, again and again."""

    async def main() -> None:
        while not collector.over:
            async with AsyncProcess(command(_JOINED)) as process:
                await process.join()
                for stream, begin in ((process.stdout, 0), (process.stderr, STDERR)):
                    for number in range(begin, begin + _JOINED * BLOCK):
                        collector.verify(await stream.readline(), number)
            del process, stream
            collector.rest()

    asyncio.run(main())


def inputs(collector: Collector) -> None:
    """Large inputs that are given at the start and come back, repeatedly."""
    data = pattern(_INPUT)
    while not collector.over:
        with Process(["cat"], stdin=data) as process:
            if process.output() != data:
                raise VerificationError("what has come back is not what was given")
        del process
        collector.bytes += len(data)
        collector.rest()


#: By name.
COLLECTORS: Dict[str, Callable[[Collector], Any]] = {
    collect.__name__: collect for collect in (unread, tasks, joins, restarts, inputs)
}
