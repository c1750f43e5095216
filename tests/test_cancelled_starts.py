"""Rule 8: a cancelled `run` of an asyncio process leaves nothing, whenever it was cancelled."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any, List

import pytest

from process import PIPE, AsyncProcess, ProcessError, ProcessNotRunError
from process.asyncio import _shutdown, _start
from process.asyncio._child import Child
from tests.support import (
    LARGE,
    PROMPT,
    Gate,
    Kit,
    close_loop,
    descriptors,
    make_loop,
    needs_refcounts,
    needs_waitid,
    pattern,
    until,
)
from tests.test_cancellation_points import (
    _BETWEEN_CALL_AND_AWAIT,
    InterruptedAt,
)

#: More turns of a loop than the start of a child takes.
MANY_TURNS = 30


def no_child() -> bool:
    """Whether there is no child of this process, not even a zombie."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def run_for(turns: int, process: Any) -> "asyncio.Task[Any]":
    """Begin to run a process, and let the loop have its turns."""
    task: asyncio.Task[Any] = asyncio.ensure_future(process.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    return task


async def cancelled_after(turns: int, process: Any) -> bool:
    """Cancel `run` after so many turns of the loop; whether it was not over yet."""
    task = await run_for(turns, process)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize("stdin", [None, PIPE, pattern(LARGE)], ids=["no", "pipe", "bytes"])
async def test_run_is_cancelled_at_each_turn(loops: Kit, stdin: Any) -> None:
    """When it has been cancelled the child has been ended and reaped, and it can be run again."""
    process = loops.Process(["cat"], stdin=stdin)
    turns = 0
    before: Any = None
    while await cancelled_after(turns, process):
        assert no_child()
        with pytest.raises(ProcessNotRunError):
            process.id  # noqa: B018
        await loops.settle()
        if turns == 1:
            before = descriptors()  # what a loop makes once, it has
        assert turns < 2 or descriptors() == before
        turns += 1
        assert turns < MANY_TURNS
    assert turns > 4
    await process.close()
    await loops.settle()
    assert descriptors() == before


@pytest.mark.parametrize("turns", range(10))
def test_a_loop_is_closed_after_a_cancelled_run(loops: Kit, turns: int) -> None:
    """Nothing is left that would take another turn, and nothing is left unclosed."""

    async def scenario() -> None:
        process = AsyncProcess(["cat"], stdin=PIPE)
        if not await cancelled_after(turns, process):
            await process.close()

    loop = make_loop(loops.name)
    loop.run_until_complete(scenario())
    assert no_child()
    close_loop(loop)
    del loop
    gc.collect()


async def test_wait_for_around_run(loops: Kit) -> None:
    """However little time there is."""
    for timeout in (0, 1e-9, 1e-4, 1e-3):
        for _ in range(3):
            process = loops.Process(["cat"], stdin=PIPE)
            try:
                await asyncio.wait_for(process.run(), timeout)
            except asyncio.TimeoutError:
                with contextlib.suppress(ProcessNotRunError):  # run, just as the time was over
                    await process.close()
            else:
                await process.close()
            assert no_child()


@pytest.mark.parametrize("again", range(4))
@pytest.mark.parametrize("turns", range(2, 8))
def test_run_is_cancelled_twice(loops: Kit, turns: int, again: int) -> None:
    """The second time there is no waiting; whatever is left is ended before the loop is closed."""

    async def scenario() -> None:
        process = AsyncProcess(["cat"], stdin=PIPE)
        task = await run_for(turns, process)
        task.cancel()
        for _ in range(again):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        else:
            await process.close()

    loop = make_loop(loops.name)
    loop.run_until_complete(scenario())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert not _start.starting
    assert no_child()
    close_loop(loop)


@_BETWEEN_CALL_AND_AWAIT
def test_a_loop_whose_first_run_was_interrupted_ends_its_children(loops: Kit) -> None:
    """Wherever an exception has struck while the shutdown of the loop began to be watched."""
    point = 0
    interrupted = True

    async def scenario() -> Any:
        nonlocal interrupted
        injector = InterruptedAt(point)
        interrupted, _ = await injector.interrupt(_shutdown.watch_running_loop)
        return await AsyncProcess(["cat"], stdin=PIPE).run()

    while interrupted:
        point += 1
        loop = make_loop(loops.name)
        process = loop.run_until_complete(scenario())
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert no_child(), f"at point {point}"
        assert process.exit_code is not None
        close_loop(loop)
    assert point > 3


@pytest.mark.parametrize("turns", range(8))
def test_a_loop_shuts_down_in_the_middle_of_a_start(loops: Kit, turns: int) -> None:
    """A cancelled `run` leaves no child; one that returns has a child that has ended."""
    process = AsyncProcess(["cat"], stdin=PIPE)
    task: Any = None

    async def scenario() -> None:
        nonlocal task
        await _shutdown.watch_running_loop()
        task = await run_for(turns, process)

    loop = make_loop(loops.name)
    loop.run_until_complete(scenario())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert no_child()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
        loop.run_until_complete(process.close())
        assert process.exit_code == -15
    assert no_child()
    close_loop(loop)


def test_a_child_is_started_while_its_loop_shuts_down(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a task that still runs while another child is being ended. It is ended as well."""
    processes = [AsyncProcess(["cat"], stdin=PIPE) for _ in range(2)]
    end = Child.end

    async def end_slowly(self: Child) -> None:
        if processes[0].id == self.pid:
            await processes[1].run()
        await end(self)

    monkeypatch.setattr(Child, "end", end_slowly)
    loop = make_loop(loops.name)
    loop.run_until_complete(processes[0].run())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert no_child()
    assert [process.exit_code for process in processes] == [-15, -15]
    close_loop(loop)


def _cancel_all_tasks(loops: Kit, program: List[str], turns: int, times: int) -> None:
    """Cancel all tasks, so many times, in the middle of a start; see that nothing is left."""
    task: Any = None

    async def scenario() -> None:
        nonlocal task
        task = await run_for(turns, AsyncProcess(program, stdin=PIPE))

    async def cancel_all() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(times):
            for other in others:
                other.cancel()
            await asyncio.sleep(0)
        _, left = await asyncio.wait(others | {task}, timeout=PROMPT)
        assert not left

    before = descriptors()
    loop: Any = make_loop(loops.name)
    loop.run_until_complete(scenario())
    with warnings.catch_warnings():
        # Of asyncio, which has not come to make transports for these pipes.
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)
        loop.run_until_complete(cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert no_child()
        assert not _start.starting
        for thread in threading.enumerate():
            if "waitpid" in thread.name:  # the watcher of asyncio before 3.12, which has them too
                thread.join()
        loop.run_until_complete(loops.settle())
        close_loop(loop)
        loop = task = None
        gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("turns", range(8))
def test_all_tasks_are_cancelled_in_the_middle_of_a_start(loops: Kit, turns: int) -> None:
    """As at the end of `asyncio.run`, which cancels a task of asyncio's own as well."""
    _cancel_all_tasks(loops, ["cat"], turns, times=1)


@pytest.mark.parametrize("times", range(1, 4))
@pytest.mark.parametrize("turns", range(8))
def test_all_tasks_are_cancelled_and_the_child_takes_its_time_to_end(
    monkeypatch: pytest.MonkeyPatch, turns: int, times: int
) -> None:
    """As on a busy machine: the start is not over before it has ended and is reaped."""
    timers: List[threading.Timer] = []

    def kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill_late(self: Any) -> None:
        timers.append(threading.Timer(0.15, kill, (self.pid,)))
        timers[-1].start()

    monkeypatch.setattr(subprocess.Popen, "kill", kill_late)
    _cancel_all_tasks(Kit("asyncio"), ["sleep", "1000"], turns, times)
    for timer in timers:
        timer.join()


@pytest.mark.parametrize("turns", range(2, 10))
async def test_run_is_cancelled_though_a_grandchild_holds_the_pipes(
    loops: Kit, tmp_path: Path, turns: int
) -> None:
    """Nobody waits for it, however far the pipes have been connected by then."""
    gate = Gate(tmp_path)
    process = loops.Process(["sh", "-c", 'cat "$0" & exec cat', str(gate)], stdin=PIPE)
    task = await run_for(turns, process)
    held = os.open(gate.path, os.O_WRONLY)  # the grandchild is there, and waits
    try:
        task.cancel()
        try:
            await asyncio.wait_for(task, PROMPT)
        except asyncio.CancelledError:
            pass
        else:  # it was over by then
            with pytest.warns(RuntimeWarning, match="holds it open"):
                await process.close()
        assert no_child()
    finally:
        os.close(held)


@needs_refcounts
async def test_what_cannot_be_started_is_freed(loops: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference counts alone free the input of a `run` that has failed, or was cancelled."""
    data = pattern(LARGE)
    before = sys.getrefcount(data)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ProcessError):
            await loops.Process(["/nowhere/none"], stdin=data).run()
        await loops.settle()
        assert sys.getrefcount(data) == before
        for turns in range(8):
            process = loops.Process(["cat"], stdin=data)
            if not await cancelled_after(turns, process):
                await process.close()
            del process
            await asyncio.sleep(0.01)
            assert sys.getrefcount(data) == before, turns
    finally:
        gc.enable()


def test_the_program_is_left_in_the_middle_of_a_start(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits then; the child is ended when the loop shuts down."""

    def leave(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(Child, "feed", leave)
    process = AsyncProcess(["cat"], stdin=b"x")
    loop = make_loop(loops.name)
    with pytest.raises(SystemExit):
        loop.run_until_complete(process.run())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert no_child()
    close_loop(loop)


@pytest.mark.parametrize("shut_down", [False, True])
def test_a_loop_is_not_kept(loops: Kit, shut_down: bool) -> None:
    """Neither one that was shut down, nor, once there is another, one that was just closed."""

    async def scenario() -> None:
        async with AsyncProcess(["cat"], stdin=b"x"):
            pass

    references = []
    for _ in range(3):
        loop = make_loop(loops.name)
        references.append(weakref.ref(loop))
        loop.run_until_complete(scenario())
        if shut_down:
            loop.run_until_complete(loop.shutdown_asyncgens())
        close_loop(loop)
        del loop

    def gone() -> bool:
        gc.collect()
        return [reference() for reference in references[:2]] == [None, None]

    until(gone)  # a thread of asyncio's that has waited for the child may be about to end


@pytest.mark.parametrize("turns", range(2, 10))
@needs_waitid
async def test_a_child_that_ends_before_its_start_is_over(loops: Kit, turns: int) -> None:
    """It is wanted all the same, and so is what it has written."""
    process = loops.Process(["printf", "x"], stdin=PIPE)
    task = await run_for(turns, process)
    with contextlib.suppress(ChildProcessError):  # the watcher of asyncio before 3.12 has it
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    await task
    assert await process.stdout.read() == b"x"
    assert await process.output() == b""
    await process.close()
    assert process.exit_code == 0
