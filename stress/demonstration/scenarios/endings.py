"""Children that end, or are to end, while another process holds a pipe."""

from process import DEVNULL, PIPE, AsyncProcess, Process
from stress.demonstration.scenario import Result, Scenario
from stress.demonstration.scenarios.plain import Popen, child, create
from stress.pattern import pattern

_FLUSHED = pattern(1024 * 1024)


class CloseWhileItFlushes(Scenario):
    name = "close a child that flushes"
    rule = 1
    trap = "On SIGTERM the child first writes what it has, to a pipe that nobody reads."
    expected = _FLUSHED
    command = child("flush_at_the_end", len(_FLUSHED))
    posix = True

    def popen(self) -> Result:
        with Popen(self.command, stdout=PIPE) as process:
            process.stdout.readline()
            process.terminate()
            process.wait()
            return process.stdout.read()

    def process(self) -> Result:
        process = Process(self.command).run()
        process.stdout.readline()
        process.close()
        return process.output()

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=PIPE)
        await process.stdout.readline()
        process.terminate()
        await process.wait()
        return await process.stdout.read()

    async def async_process(self) -> Result:
        process = await AsyncProcess(self.command).run()
        await process.stdout.readline()
        await process.close()
        return await process.output()


class WriteToTheDeaf(Scenario):
    name = "write to a deaf child"
    rule = 4
    trap = "The child has closed its stdin: what the writer still has in hand breaks the pipe."
    expected = b"result\n"
    command = child("deaf")

    def popen(self) -> Result:
        with Popen(self.command, stdin=PIPE, stdout=PIPE) as process:
            result = process.stdout.readline()
            process.stdin.write(b"more")
        return result

    def process(self) -> Result:
        with Process(self.command, stdin=PIPE) as process:
            result = process.stdout.readline()
            process.stdin.write(b"more")
        return result

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdin=PIPE, stdout=PIPE)
        result = await process.stdout.readline()
        process.stdin.write(b"more")
        process.stdin.close()
        await process.wait()
        return result

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command, stdin=PIPE) as process:
            result = await process.stdout.readline()
            process.stdin.write(b"more")
        return result


class HeldInTheBackground(Scenario):
    name = "a grandchild holds the pipe"
    rule = 5
    trap = "The child has ended, but a process that it has left behind keeps its stdout open."
    expected = b"result\n"
    command = child("background", 60)

    def popen(self) -> Result:
        with Popen(self.command, stdout=PIPE) as process:
            return process.communicate()[0]

    def process(self) -> Result:
        with Process(self.command) as process:
            return process.output()

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=PIPE)
        return (await process.communicate())[0]

    async def async_process(self) -> Result:
        async with AsyncProcess(self.command) as process:
            return await process.output()


class Dropped(Scenario):
    name = "drop the object"
    rule = 7
    trap = "The child runs, and nobody refers to it any more."
    expected = b""
    command = child("sleep", 60)

    def popen(self) -> Result:
        process = Popen(self.command, stdout=DEVNULL)
        del process
        return b""

    def process(self) -> Result:
        process = Process(self.command, stdout=DEVNULL).run()
        del process
        return b""

    async def asyncio(self) -> Result:
        process = await create(*self.command, stdout=DEVNULL)
        del process
        return b""

    async def async_process(self) -> Result:
        process = await AsyncProcess(self.command, stdout=DEVNULL).run()
        del process
        return b""


SCENARIOS = (CloseWhileItFlushes, WriteToTheDeaf, HeldInTheBackground, Dropped)
