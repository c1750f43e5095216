"""Streams as files: handed over to another process, and waited for together."""

import asyncio
import os
import selectors
from typing import Any, List

from process import PIPE, AsyncProcess, Process
from stress.demonstration.scenario import Result, Scenario
from stress.demonstration.scenarios.plain import Popen, child, create
from stress.pattern import pattern

_DATA = pattern(4 * 1024 * 1024)
_LINES = 3


class FirstStageFloods(Scenario):
    name = "the first stage floods stderr"
    rule = 1
    trap = "The caller reads the last stage of a pipeline; the first one is held up by its stderr."
    expected = b"result\n" + _DATA
    complain = child("complain", len(_DATA))
    first_line = child("first_line")
    posix = True

    def popen(self) -> Result:
        with (
            Popen(self.complain, stdout=PIPE, stderr=PIPE) as first,
            Popen(self.first_line, stdin=first.stdout, stdout=PIPE) as last,
        ):
            return last.stdout.read() + first.stderr.read()

    def process(self) -> Result:
        with (
            Process(self.complain) as first,
            Process(self.first_line, stdin=first.stdout) as last,
        ):
            return last.stdout.read() + first.stderr.read()

    async def asyncio(self) -> Result:
        reading, writing = os.pipe()
        first = await create(*self.complain, stdout=writing, stderr=PIPE)
        last = await create(*self.first_line, stdin=reading, stdout=PIPE)
        os.close(reading)
        os.close(writing)
        return await last.stdout.read() + await first.stderr.read()

    async def async_process(self) -> Result:
        with Process(self.complain) as first:
            async with AsyncProcess(self.first_line, stdin=first.stdout) as last:
                return await last.stdout.read() + first.stderr.read()


class ReaderLeavesEarly(Scenario):
    name = "a reader that leaves early"
    rule = 6
    trap = "In a pipeline, the writer only hears of it if nobody else holds the reading end."
    expected = b"line\n"
    endless = child("endless")
    first_line = child("first_line")
    posix = True

    def popen(self) -> Result:
        with (
            Popen(self.endless, stdout=PIPE) as writer,
            Popen(self.first_line, stdin=writer.stdout, stdout=PIPE) as reader,
        ):
            return reader.stdout.read()

    def process(self) -> Result:
        with (
            Process(self.endless) as writer,
            Process(self.first_line, stdin=writer.stdout) as reader,
        ):
            return reader.stdout.read()

    async def asyncio(self) -> Result:
        writer = await create(*self.endless, stdout=PIPE)
        reader = await create(*self.first_line, stdin=writer.stdout, stdout=PIPE)
        result = await reader.stdout.read()
        await writer.wait()
        return result

    async def async_process(self) -> Result:
        with Process(self.endless) as writer:
            async with AsyncProcess(self.first_line, stdin=writer.stdout) as reader:
                return await reader.stdout.read()


class TailTwoStreams(Scenario):
    name = "tail two streams"
    rule = 6
    trap = "`select` does not see the line that `readline` has read ahead; the child waits for us."
    expected = b"one\ntwo\nwarning\n"
    command = child("converse")
    posix = True

    def _tail(self, process: Any) -> Result:
        lines: List[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while len(lines) < _LINES:
                for key, _ in selector.select():
                    stream: Any = key.fileobj
                    lines.append(stream.readline())
        process.stdin.close()
        return b"".join(sorted(lines))

    def popen(self) -> Result:
        with Popen(self.command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            return self._tail(process)

    def process(self) -> Result:
        with Process(self.command, stdin=PIPE) as process:
            return self._tail(process)

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        lines = await self._gather(process)
        process.stdin.close()
        await process.wait()
        return lines

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command, stdin=PIPE) as process:
            return await self._gather(process)

    async def _gather(self, process: Any) -> Result:
        async def two() -> bytes:
            return bytes(await process.stdout.readline() + await process.stdout.readline())

        return b"".join(await asyncio.gather(two(), process.stderr.readline()))


SCENARIOS = (FirstStageFloods, ReaderLeavesEarly, TailTwoStreams)
