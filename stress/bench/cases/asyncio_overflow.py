"""A task that joins first, in a loop, while the child writes more than fits into memory."""

import asyncio
import importlib
import operator
import tempfile
import time
from contextlib import closing
from functools import partial
from typing import IO, Any, Callable, List, Tuple
from unittest import mock

from process import AsyncProcess
from stress.bench.case import GIB, MIB, Case, Times
from stress.bench.clock import processor_seconds
from stress.bench.payload import PAGES, check_pages

NewLoop = Callable[[], asyncio.AbstractEventLoop]

#: Seconds that each write to a temporary file takes, on a slow disk.
_SLOW = 0.5

#: Seconds from one tick to the next.
_TICK = 0.005


def _pages(size: int) -> List[str]:
    """A child that writes so many bytes of lines that are all different."""
    return ["sh", "-c", 'yes "$0" | head -c "$1"', PAGES[1], str(size)]


async def _join_and_stream(size: int) -> int:
    """Wait for the child, then read in pieces, and check each of them; how many bytes there were.

    Raises:
        ValueError: they are not what the child has written.
    """
    end = 0
    async with AsyncProcess(_pages(size), stderr=None) as child:
        await child.join()
        while True:
            piece = await child.stdout.read(65536)
            if not piece:
                return end
            end += len(piece)
            check_pages(end, piece)


def _join_first(new_loop: NewLoop, size: int) -> int:
    with closing(new_loop()) as loop:
        found = loop.run_until_complete(_join_and_stream(size))
        loop.run_until_complete(loop.shutdown_default_executor())
    return found


class _SlowFile:
    """A temporary file on a disk that is slow to write to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        time.sleep(_SLOW)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


async def _tick(latenesses: List[float]) -> None:
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        latenesses.append(time.perf_counter() - due)


def _latest_tick(new_loop: NewLoop, mebibytes: int) -> Times:
    """By how much the latest tick was late, in place of the time that it has all taken.

    Raises:
        ValueError: the bytes are not what the child has written.
    """
    real = tempfile.TemporaryFile

    def slow(**options: Any) -> _SlowFile:
        return _SlowFile(real(**options))

    async def job() -> float:
        latenesses: List[float] = []
        ticker = asyncio.ensure_future(_tick(latenesses))
        size = mebibytes * MIB
        if await _join_and_stream(size) != size:
            raise ValueError(f"not all of {size:,} bytes have come")
        await asyncio.sleep(2 * _TICK)  # for one tick at least
        ticker.cancel()
        return max(latenesses)

    before = processor_seconds()
    with closing(new_loop()) as loop, mock.patch.object(tempfile, "TemporaryFile", slow):
        latest = loop.run_until_complete(job())
        loop.run_until_complete(loop.shutdown_default_executor())
    return Times(latest, processor_seconds() - before)


def _undisturbed(new_loop: NewLoop, mebibytes: int) -> Times:
    """The same of a loop that does nothing else, for about as long."""

    async def job() -> float:
        latenesses: List[float] = []
        ticker = asyncio.ensure_future(_tick(latenesses))
        await asyncio.sleep(_SLOW * mebibytes)
        await asyncio.sleep(2 * _TICK)  # for one tick at least
        ticker.cancel()
        return max(latenesses)

    before = processor_seconds()
    with closing(new_loop()) as loop:
        latest = loop.run_until_complete(job())
    return Times(latest, processor_seconds() - before)


def _any_times(mebibytes: int, times: Times) -> bool:
    return True


def _itself(times: Times) -> Times:
    return times


def _uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


_LOOPS = (("asyncio", asyncio.new_event_loop), ("uvloop", _uvloop))

CASES: Tuple[Case[Any, Any], ...] = (
    *(
        Case(
            name=f"{name}-join-first",
            module=__name__,
            job="join(), then stdout.read(65536) to the end",
            amounts=(4 * GIB,),
            prepare=int,
            ours=partial(_join_first, new_loop),
            intact=operator.eq,
            peak=100 * MIB / (4 * GIB),
            rounds=1,
            group="overflow",
            needs=name,
        )
        for name, new_loop in _LOOPS
    ),
    *(
        Case(
            name=f"{name}-slow-disk",
            module=__name__,
            job=f"the same, each write to a file takes {_SLOW} s; the latest of ticks every 5 ms",
            amounts=(32,),
            unit="MiB",
            prepare=int,
            ours=partial(_latest_tick, new_loop),
            theirs=partial(_undisturbed, new_loop),
            against="ticks of a loop that does nothing else",
            intact=_any_times,
            times=_itself,
            rounds=1,
            group="overflow",
            needs=name,
        )
        for name, new_loop in _LOOPS
    ),
)
