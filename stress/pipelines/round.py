"""One pipeline under way: started, used and ended by one or more callers, in random orders.

What is done is a coroutine. Without an asyncio process it never suspends, and each caller is a
thread; in a loop each caller is a task, and calls of synchronous processes are made in threads.
"""

import asyncio
import inspect
import os
import random
import signal
import subprocess
import threading
import traceback
from functools import partial
from typing import IO, Any, Callable, Coroutine, List, Optional

from process import PIPE, AsyncProcess, Process, ProcessTimeoutError
from stress.pipelines import child
from stress.pipelines.model import Model
from stress.pipelines.plan import (
    BYTES,
    DUPLICATE,
    ENDLESS,
    FILE,
    NUMBER,
    POPEN,
    WRITTEN,
    Link,
    Plan,
    order_of_starts,
)
from stress.worker import run_without_a_loop

#: How many bytes the caller reads or writes at once, at most.
_PIECE = 100_000


class Running:
    """A stage that has been started, or will be."""

    def __init__(self, index: int) -> None:
        self.index = index
        #: Dropped by setting it to `None`.
        self.process: Any = None
        #: The process is known to have ended.
        self.over = False
        #: What the caller has read of its streams.
        self.stdout: List[bytes] = []
        self.stderr: List[bytes] = []
        self.code: Optional[int] = None


class Round:
    """The callers of one pipeline."""

    def __init__(self, plan: Plan, problems: List[str]) -> None:
        self.plan = plan
        self.model = Model(plan)
        self.problems = problems
        #: Where to say at once what is done: what is here when a round hangs is reported.
        self.echo: Optional[IO[str]] = None
        #: What has been done, in the order in which it was begun.
        self.log: List[str] = []
        self.stages = [Running(index) for index in range(len(plan.stages))]
        self._chance = plan.random("work")
        self._in_loop = True in [stage.is_async for stage in plan.stages]
        #: Streams of stdin that are still to be closed, or to be fed, by the stages' callers.
        self._to_close: List[int] = []
        self._to_feed = plan.source == WRITTEN
        self._forks: List[int] = []

    async def play(self) -> None:
        """Start the pipeline, use it, end it, and look at what has come."""
        for index in order_of_starts(self.plan):
            await self._start(index)
        try:
            await self._share(self._callers())
        finally:
            for pid in self._forks:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)  # noqa: ASYNC222 - it ends at once
        self._check()

    # Starting.

    async def _start(self, index: int) -> None:
        plan, stage = self.plan, self.plan.stages[index]
        size = {WRITTEN: None, BYTES: None, ENDLESS: -1}.get(plan.source, plan.size)
        command = child.command(
            size=None if index else size,
            key=stage.key,
            limit=stage.limit,
            stderr=stage.stderr,
            when=stage.when,
            code=stage.code,
        )
        stdin: Any = PIPE
        stdout: Any = PIPE
        before: Any = plan.links[index - 1] if index else None
        after: Any = plan.links[index] if index < len(plan.links) else None
        duplicates: List[int] = []
        if before is None:
            stdin = {WRITTEN: PIPE, BYTES: self.model.input}.get(plan.source, subprocess.DEVNULL)
        elif not before.backward:
            await self._use_early(index - 1, before)
            stdin = self._give(self.stages[index - 1].process.stdout, before, duplicates)
        if after is not None and after.backward:
            await self._write_early(index + 1, after)
            stdout = self._give(self.stages[index + 1].process.stdin, after, duplicates)
        self._say(index, "start")
        try:
            await self._run(index, command, stdin, stdout)
        finally:
            for number in duplicates:
                os.close(number)
        if before is not None and not before.backward and before.closed:
            self._say(index - 1, "close stdout")
            self.stages[index - 1].process.stdout.close()
        if after is not None and after.backward:
            if after.closed:
                await self._close_stdin(index + 1)
            else:
                self._to_close.append(index + 1)
        if index == 0 and self._to_feed and self._chance.random() < 0.3:
            await self._feed()

    async def _run(self, index: int, command: List[str], stdin: Any, stdout: Any) -> None:
        stage = self.plan.stages[index]
        if index and self.plan.links[index - 1].how == POPEN:
            self.stages[index].process = subprocess.Popen(  # noqa: ASYNC220
                command, stdin=stdin, stdout=PIPE, stderr=subprocess.DEVNULL
            )
            return
        kind: Any = AsyncProcess if stage.is_async else Process
        process = kind(command, stdin, stdout, buffer_size=stage.buffer_size)
        await self._do(index, process.run)
        self.stages[index].process = process

    def _give(self, stream: Any, link: Link, duplicates: List[int]) -> Any:
        """What a stage is given of the stream of another one."""
        if link.exposed:
            stream.fileno()
        if link.how in (FILE, POPEN):
            return stream
        if link.how == NUMBER:
            return stream.fileno()
        assert link.how == DUPLICATE
        duplicates.append(os.dup(stream.fileno()))
        return duplicates[-1]

    async def _use_early(self, index: int, link: Link) -> None:
        """Use a stage whose output is about to be handed over."""
        complete = not self._to_close and not self._to_feed and self._is_started_up_to(index)
        if self._chance.random() < 0.2:
            await self._poll(index)
        if self._chance.random() < 0.2:
            await self._join_briefly(index)
        if complete and self.plan.source != ENDLESS and self._chance.random() < 0.2:
            await self._join(index)
        if link.own and complete:
            self._say(index, f"read {link.own}")
            stream = self.stages[index].process.stdout
            data = await self._read_exactly(index, stream, link.own)
            if data != self.model.owns[index]:
                self.problems.append(f"what was read before from {index} is wrong")
        elif link.own:
            self.model.read_nothing(index)

    def _is_started_up_to(self, index: int) -> bool:
        return None not in [stage.process for stage in self.stages[: index + 1]]

    async def _write_early(self, index: int, link: Link) -> None:
        """Write something of one's own before a stage is to write to the same pipe."""
        if link.own:
            self._say(index, f"write {link.own}")
            stdin = self.stages[index].process.stdin

            def write() -> None:
                stdin.write(self.model.owns[index - 1])
                stdin.flush()

            await self._do(index, write)

    # Callers.

    def _callers(self) -> "List[Coroutine[Any, Any, None]]":
        """What each caller does: it has some of the stages to itself."""
        count = self.plan.callers
        owners = [self._chance.randrange(count) for _ in self.stages]
        callers = []
        for number in range(count):
            first: List[Callable[[], Any]] = []
            stages = [index for index in range(len(owners)) if owners[index] == number]
            if 0 in stages and self._to_feed:
                first.append(self._feed)
            first += [
                partial(self._close_stdin, index) for index in self._to_close if index in stages
            ]
            last = len(owners) - 1
            if last in stages and self.plan.leaves_after is not None:
                first.append(partial(self._read_and_leave, last))
            sequences = [self._sequence(index) for index in stages]
            merged = _merge(self.plan.random(f"order {number}"), sequences)
            callers.append(self._do_all([*first, *merged]))
        return callers

    def _sequence(self, index: int) -> List[Callable[[], Any]]:
        """What is done with one stage, in this order."""
        chance = self.plan.random(f"stage {index}")
        if index and self.plan.links[index - 1].how == POPEN:
            return [partial(self._communicate, index)]
        last = index == len(self.stages) - 1
        pool: List[Callable[[int], Any]] = [
            self._poll,
            self._join,
            self._join_briefly,
            self._error,
            self._read_stderr,
            self._fork,
        ]
        if last and self.plan.leaves_after is None:
            pool += [self._output, self._read_some, self._read_lines, self._read_all]
        elif not last and not self.plan.links[index].backward:
            pool.append(self._close_stdout)
        calls = chance.choices(pool, k=chance.randrange(5))
        ends = (self._leave, self._leave, self._close, self._drop, self._abort)
        calls.append(chance.choice(ends))
        return [partial(call, index) for call in calls]

    async def _share(self, callers: "List[Coroutine[Any, Any, None]]") -> None:
        """Let all callers run at the same time."""
        if self._in_loop:
            await asyncio.gather(*callers)
            return
        threads = [
            threading.Thread(target=run_without_a_loop, args=(caller,)) for caller in callers[1:]
        ]
        for thread in threads:
            thread.start()
        await callers[0]
        for thread in threads:
            thread.join()

    async def _do_all(self, calls: List[Callable[[], Any]]) -> None:
        for call in calls:
            try:
                await call()
            except Exception:
                self.problems.append(traceback.format_exc())

    async def _do(self, index: int, function: Callable[[], Any]) -> Any:
        """Make a call of a stage's process, where it does not block the loop."""
        if self._in_loop and not self.plan.stages[index].is_async:
            return await asyncio.to_thread(function)
        value = function()
        return await value if inspect.isawaitable(value) else value

    def _say(self, index: int, what: str) -> None:
        self.log.append(f"{index}: {what}")
        if self.echo is not None:
            print(self.log[-1], file=self.echo, flush=True)

    # Calls.

    async def _feed(self) -> None:
        self._to_feed = False
        self._say(0, "feed")
        stage = self.plan.stages[0]
        stdin = self.stages[0].process.stdin
        data = self.model.input
        chance = self.plan.random("feed")
        try:
            while data:
                size = chance.randrange(1, _PIECE)
                await self._do(0, partial(stdin.write, data[:size]))
                data = data[size:]
                if stage.is_async:
                    await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            if not self.model.leaves_early:
                raise
        await self._do(0, stdin.close)

    async def _close_stdin(self, index: int) -> None:
        self._say(index, "close stdin")
        await self._do(index, self.stages[index].process.stdin.close)

    async def _close_stdout(self, index: int) -> None:
        self._say(index, "close stdout")
        await self._do(index, self.stages[index].process.stdout.close)

    async def _poll(self, index: int) -> None:
        self._say(index, "poll")
        stage = self.stages[index]
        stage.over = stage.over or stage.process.exit_code is not None

    async def _join(self, index: int) -> None:
        self._say(index, "join")
        stage = self.stages[index]
        await self._do(index, stage.process.join)
        stage.over = True

    async def _join_briefly(self, index: int) -> None:
        self._say(index, "join briefly")
        stage = self.stages[index]
        try:
            await self._do(index, lambda: stage.process.join(0.003))
            stage.over = True
        except ProcessTimeoutError:
            pass

    async def _error(self, index: int) -> None:
        self._say(index, "error")
        await self._do(index, self.stages[index].process.error)

    async def _read_stderr(self, index: int) -> None:
        size = self._draw_size(index)
        self._say(index, f"read {size} of stderr")
        stage = self.stages[index]
        stage.stderr.append(await self._do(index, lambda: stage.process.stderr.read(size)))

    async def _output(self, index: int) -> None:
        self._say(index, "output")
        await self._do(index, self.stages[index].process.output)

    async def _read_some(self, index: int) -> None:
        size = self._draw_size(index)
        self._say(index, f"read {size}")
        stage = self.stages[index]
        stage.stdout.append(await self._do(index, lambda: stage.process.stdout.read(size)))

    async def _read_all(self, index: int) -> None:
        self._say(index, "read all")
        stage = self.stages[index]
        stage.stdout.append(await self._do(index, stage.process.stdout.read))

    async def _read_lines(self, index: int) -> None:
        self._say(index, "read lines")
        stage = self.stages[index]
        for _ in range(10):
            stage.stdout.append(await self._do(index, stage.process.stdout.readline))

    def _draw_size(self, index: int) -> int:
        return self.plan.random(f"size {index} {len(self.log)}").randrange(1, _PIECE)

    async def _read_exactly(self, index: int, stream: Any, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self._do(index, partial(stream.read, size - len(data)))
            if not more:
                break
            data += more
        return data

    async def _read_and_leave(self, index: int) -> None:
        """Read a little of the last stage, and close it."""
        size = self.plan.leaves_after or 0
        self._say(index, f"read {size} and leave")
        stage = self.stages[index]
        stage.stdout.append(await self._read_exactly(index, stage.process.stdout, size))
        await self._do(index, stage.process.stdout.close)

    async def _fork(self, index: int) -> None:
        """A fork that lives as long as the pipeline does."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._say(index, "fork")
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        self._forks.append(pid)

    async def _communicate(self, index: int) -> None:
        self._say(index, "communicate")
        stage = self.stages[index]
        popen = stage.process
        output, _ = (
            await asyncio.to_thread(popen.communicate) if self._in_loop else (popen.communicate())
        )
        stage.stdout.append(output)
        stage.code = popen.returncode

    # Ends.

    async def _leave(self, index: int) -> None:
        self._say(index, "leave")
        stage = self.stages[index]
        process = stage.process
        leave = process.__aexit__ if self.plan.stages[index].is_async else process.__exit__
        await self._do(index, lambda: leave(None, None, None))
        stage.over = True
        await self._settle(index)

    async def _close(self, index: int) -> None:
        self._say(index, "close")
        stage = self.stages[index]
        if not stage.over:
            self.model.terminated.add(index)
        await self._do(index, stage.process.close)
        stage.over = True
        await self._settle(index)

    async def _abort(self, index: int) -> None:
        """As when a block is left by an exception, whose handler waits for the process."""
        self._say(index, "abort")
        stage = self.stages[index]
        process = stage.process
        self.model.closed.add(index)
        leave = process.__aexit__ if self.plan.stages[index].is_async else process.__exit__
        await self._do(index, lambda: leave(OSError, OSError(), None))
        await self._do(index, process.join)
        await self._do(index, process.close)
        await self._settle(index)

    async def _drop(self, index: int) -> None:
        self._say(index, "drop")
        stage = self.stages[index]
        if not stage.over:
            self.model.dropped.add(index)

        def drop() -> None:
            stage.process = None

        await self._do(index, drop)

    async def _settle(self, index: int) -> None:
        """Account for what is left of a process that has been closed."""
        stage = self.stages[index]
        process = stage.process
        stage.code = process.exit_code
        stage.stderr.append(await self._do(index, process.error))
        link = self.plan.links[index] if index < len(self.plan.links) else None
        if link is None:
            stage.stdout.append(await self._do(index, process.output))
            return
        # The caller, too, may have the pipe, and what its other reader has left there.
        may_be_kept = link.backward or self.model.leaves_early
        if not may_be_kept and await self._do(index, process.output):
            self.problems.append(f"{index} has kept what was handed over")

    def _check(self) -> None:
        for stage in self.stages:
            index = stage.index
            if stage.code is None:
                continue  # it was dropped
            code, stderr = stage.code, b"".join(stage.stderr)
            if index and self.plan.links[index - 1].how == POPEN:
                stderr = self.model.stderr(index)
            self.problems += self.model.problems_of_end(index, code, stderr)
        last = self.stages[-1]
        if last.code is not None:
            self.problems += self.model.problems_of_output(last.index, b"".join(last.stdout))


def _merge(chance: random.Random, sequences: List[List[Any]]) -> List[Any]:
    """All of their items, each sequence in its own order."""
    merged = []
    left = [sequence[::-1] for sequence in sequences if sequence]
    while left:
        sequence = chance.choice(left)
        merged.append(sequence.pop())
        left = [sequence for sequence in left if sequence]
    return merged
