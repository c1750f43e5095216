"""More than a pipe holds, in an order that deadlocks plain pipes."""

import asyncio
import time

from process import PIPE, AsyncProcess, Process
from stress.demonstration.scenario import Result, Scenario
from stress.demonstration.scenarios.plain import Popen, child, create
from stress.pattern import flipped, pattern

_MIB = 1024 * 1024
_DATA = pattern(4 * _MIB)


class WriteThenRead(Scenario):
    name = "write megabytes, then read"
    rule = 1
    trap = "The child stops reading until somebody reads what it writes."
    expected = _DATA + flipped(_DATA)
    command = child("mirror")

    def popen(self) -> Result:
        with Popen(self.command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            process.stdin.write(_DATA)
            process.stdin.close()
            return process.stdout.read() + process.stderr.read()

    def process(self) -> Result:
        with Process(self.command, stdin=PIPE) as process:
            process.stdin.write(_DATA)
            process.stdin.close()
            return process.stdout.read() + process.stderr.read()

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        process.stdin.write(_DATA)
        await process.stdin.drain()
        process.stdin.close()
        return await process.stdout.read() + await process.stderr.read()

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command, stdin=PIPE) as process:
            process.stdin.write(_DATA)
            await process.stdin.drain()
            process.stdin.close()
            return await process.stdout.read() + await process.stderr.read()


class ReadOneOutput(Scenario):
    name = "read stdout while stderr floods"
    rule = 1
    trap = "The line on stdout comes after megabytes on stderr, which nobody reads yet."
    expected = b"result\n" + _DATA
    command = child("complain", len(_DATA))

    def popen(self) -> Result:
        with Popen(self.command, stdout=PIPE, stderr=PIPE) as process:
            return process.stdout.readline() + process.stderr.read()

    def process(self) -> Result:
        with Process(self.command) as process:
            return process.stdout.readline() + process.stderr.read()

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=PIPE, stderr=PIPE)
        return await process.stdout.readline() + await process.stderr.read()

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command) as process:
            return await process.stdout.readline() + await process.stderr.read()


class JoinThenRead(Scenario):
    name = "join first, read later"
    rule = 1
    trap = "The child does not end before its output has gone somewhere."
    expected = _DATA
    command = child("flood", len(_DATA))

    def popen(self) -> Result:
        with Popen(self.command, stdout=PIPE) as process:
            process.wait()
            return process.stdout.read()

    def process(self) -> Result:
        with Process(self.command) as process:
            process.join()
            return process.stdout.read()

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=PIPE)
        await process.wait()
        return await process.stdout.read()

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command) as process:
            await process.join()
            return await process.stdout.read()


class PollThenRead(Scenario):
    name = "poll, then read"
    rule = 1
    trap = "The same in small pieces: a loop that asks again and again whether the child has ended."
    expected = _DATA
    command = child("flood", len(_DATA))

    def popen(self) -> Result:
        with Popen(self.command, stdout=PIPE) as process:
            while process.poll() is None:
                time.sleep(0.01)
            return process.stdout.read()

    def process(self) -> Result:
        with Process(self.command) as process:
            while process.running:
                time.sleep(0.01)
            return process.stdout.read()

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=PIPE)
        while process.returncode is None:  # noqa: ASYNC110 - this is what it is about
            await asyncio.sleep(0.01)
        return await process.stdout.read()

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command) as process:
            while process.running:  # noqa: ASYNC110 - this is what it is about
                await asyncio.sleep(0.01)
            return await process.stdout.read()


class LeaveUnread(Scenario):
    name = "leave it unread"
    rule = 4
    trap = "Nobody asks for the output, but the child is to get to its end: exit code 0."
    expected = 0
    command = child("flood", len(_DATA))

    def popen(self) -> Result:
        with Popen(self.command, stdout=PIPE) as process:
            pass
        return process.returncode

    def process(self) -> Result:
        with Process(self.command) as process:
            pass
        return process.exit_code

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=PIPE)
        return await process.wait()

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command) as process:
            pass
        return process.exit_code


SCENARIOS = (WriteThenRead, ReadOneOutput, JoinThenRead, PollThenRead, LeaveUnread)
