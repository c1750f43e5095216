"""Rule 7: a process may be dropped anywhere, and a script may fall off its end."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any, Callable, List

import pytest

from process import PIPE, AsyncProcess, Process
from process._platform import PipeEnd
from tests.support import (
    CAT,
    ECHO,
    LARGE,
    PROMPT,
    YES,
    Kit,
    await_stop,
    descriptors,
    has_gil,
    is_alive,
    needs_polls,
    needs_refcounts,
    needs_signals,
    pattern,
    python,
    reached,
    start_library,
    until,
)


def _threads_are_gone(count: int) -> None:
    """They have been waited for, unless they block in reads, and end by themselves soon."""
    if not PipeEnd.pollable:
        until(lambda: threading.active_count() == count)
    assert threading.active_count() == count


def test_a_dropped_process_is_ended_and_reaped() -> None:
    """`del` ends the child at once, and nothing is left."""
    before, threads = descriptors(), threading.active_count()
    process = Process(CAT, stdin=PIPE).run()
    pid = process.id
    assert is_alive(pid)
    del process
    assert not is_alive(pid)
    assert descriptors() == before
    _threads_are_gone(threads)


def test_a_process_dropped_in_the_middle_of_floods() -> None:
    """A child that reads nothing and writes without end, with input and output under way."""
    before, threads = descriptors(), threading.active_count()
    process = Process(YES, stdin=pattern(LARGE)).run()
    pid = process.id
    assert process.stdout.readline() == b"y\n"
    del process
    assert not is_alive(pid)
    assert descriptors() == before
    _threads_are_gone(threads)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it matters that the grace period ends, and not how long it lasts."""
    monkeypatch.setattr("process.threads._child.GRACE", 0.1)


@pytest.mark.usefixtures("short_grace")
def test_a_child_that_ignores_sigterm_is_killed() -> None:
    """The grace period ends."""
    script = "import signal; signal.signal(15, signal.SIG_IGN); put(1, b'x'); signal.pause()"
    process = Process(python(script)).run()
    assert process.stdout.read(1) == b"x"
    pid = process.id
    del process
    assert not is_alive(pid)


@needs_signals
@needs_refcounts
@pytest.mark.parametrize("served", ["by threads", "to a descriptor"])
def test_a_child_that_has_much_to_say_on_sigterm(tmp_path: Path, served: str) -> None:
    """What it still writes is thrown away, so that it gets to the end of its tidying up."""
    script = f"""
import signal
def tidy_up():
    put(1, pattern({LARGE})); put(2, pattern({LARGE}))
    open(sys.argv[1], "w").close()
    os._exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [15])  # else it may come just before the wait
put(1, b"x")
signal.sigwait([15])
tidy_up()
"""
    process = Process(python(script, tmp_path / "tidy"), stdin=PIPE).run()
    assert process.stdout.read(1) == b"x"
    if served == "to a descriptor":
        process.stdout.fileno()
    del process
    assert (tmp_path / "tidy").exists()


@needs_signals
@needs_refcounts
def test_a_child_that_closes_its_streams_and_tidies_up(tmp_path: Path) -> None:
    """An end of file is no reason to look at nothing else."""
    script = """
import signal
gate = sys.argv[1]
def tidy_up():
    shut(1); shut(2)
    open(gate, "w").close()
    os._exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [15])  # else it may come just before the wait
put(1, b"x")
signal.sigwait([15])
tidy_up()
"""
    process = Process(python(script, tmp_path / "tidy")).run()
    assert process.stdout.read(1) == b"x"
    del process
    assert (tmp_path / "tidy").exists()


@needs_signals
@pytest.mark.parametrize("written", [b"", b"x"])
async def test_a_child_that_ends_at_the_end_of_its_stdin(
    kit: Kit, tmp_path: Path, written: bytes
) -> None:
    """It ignores SIGTERM, and has all the time there is: stdin is closed first."""
    script = """
import signal
signal.signal(15, signal.SIG_IGN)
os.closerange(3, 256)
put(1, b"x")
get_all()
open(sys.argv[1], "w").close()
"""
    process = await kit.start(python(script, tmp_path / "end"), stdin=PIPE)
    assert await kit.read(process.stdout, 1) == b"x"
    if written:
        await kit.send(process.stdin, written)
    pid = process.id
    del process
    gc.collect()
    while is_alive(pid):
        await kit.pause()
    assert (tmp_path / "end").exists()


@needs_signals
@pytest.mark.usefixtures("short_grace")
def test_a_stopped_child_is_ended() -> None:
    """A child in SIGSTOP does not hold up a finalizer for ever."""
    process = Process(CAT, stdin=PIPE).run()
    pid = process.id
    os.kill(pid, signal.SIGSTOP)
    await_stop(pid)
    del process
    assert not is_alive(pid)


def _close(process: Any) -> None:
    process.run().close()


def _leave(process: Any) -> None:
    with process:
        pass


def _leave_by_an_exception(process: Any) -> None:
    with pytest.raises(ZeroDivisionError), process:
        raise ZeroDivisionError


def _leave_by_an_exception_and_join(process: Any) -> None:
    _leave_by_an_exception(process)
    process.join()


@needs_refcounts
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "use",
    [
        lambda process: None,
        _close,
        _leave,
        _leave_by_an_exception,
        _leave_by_an_exception_and_join,
    ],
    ids=["not run", "closed", "left", "left by an exception", "the same, joined"],
)
def test_freeing_a_process_runs_no_python_code(use: Callable[[Any], None]) -> None:
    """A signal handler could run there, and what it raises would be lost."""
    process = Process(CAT, stdin=PIPE)
    use(process)
    children = [process._child]
    if children[0] is None or not children[0].over:  # else the `Popen` is to be freed as well
        children.append(children[0])
    found: List[str] = []
    outer = sys.getprofile()
    sys.setprofile(
        lambda frame, event, _: found.append(frame.f_code.co_name) if event == "call" else None
    )
    try:
        del process, children[0]
    finally:
        sys.setprofile(outer)
    if sys.platform == "win32":  # where a `Popen` object has a `Handle`
        found = [name for name in found if name != "Close"]
    assert found == []


@pytest.mark.parametrize("threads", ["", "refused"])
def test_left_by_an_exception_and_dropped(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread ends the child, unless it cannot be started."""
    process = Process(python("import signal; put(1, b'x'); signal.pause()")).run()
    assert process.stdout.read(1) == b"x"
    pid = process.id
    with monkeypatch.context() as patch:
        if threads == "refused":

            def refuse(*_: object) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr("process.threads._child._thread.start_new_thread", refuse)
        process.__exit__(KeyError, KeyError(), None)
    del process
    gc.collect()
    until(lambda: not is_alive(pid))


def test_a_script_ends_while_another_thread_ends_a_child() -> None:
    """The interpreter waits for that."""
    script = """
import process.threads._child, signal, subprocess
process.threads._child.GRACE = 0.1
deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('x', flush=True); signal.pause()"
try:
    with process.Process([sys.executable, "-c", deaf]) as child:
        child.stdout.readline()
        print(child.id, flush=True)
        raise KeyError
except KeyError:
    pass
del child
"""
    ended = subprocess.run(start_library(script), capture_output=True, check=True)
    assert ended.stderr == b""
    assert not is_alive(int(ended.stdout))


@needs_refcounts
def test_a_live_thread_does_not_keep_a_process_alive() -> None:
    """Reference counting alone drops a process with all its threads at work."""
    gc.disable()
    try:
        process = Process(YES, stdin=pattern(LARGE)).run()
        reference = weakref.ref(process)
        del process
        assert reference() is None
    finally:
        gc.enable()


def test_a_process_in_a_cycle_is_collected() -> None:
    """The garbage collector ends what it finds."""
    process: Any = Process(CAT, stdin=PIPE).run()
    process.myself = process
    pid = process.id
    del process
    gc.collect()
    assert not is_alive(pid)


def test_a_process_dropped_by_another_thread() -> None:
    """Whichever thread drops the last reference."""
    box = [Process(CAT, stdin=PIPE).run()]
    pid = box[0].id
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert not is_alive(pid)


def test_a_process_that_was_never_run_is_dropped_in_silence() -> None:
    """Never run: nothing to end."""
    Process(CAT)
    AsyncProcess(CAT)
    for variant in (Process, AsyncProcess):
        with pytest.raises(TypeError):
            variant()  # type: ignore[call-overload]
    gc.collect()


def test_a_joined_process_is_dropped() -> None:
    """A process that has ended, joined and never closed leaves nothing."""
    before = descriptors()
    process = Process(CAT, stdin=pattern(LARGE)).run()
    process.join()
    del process
    assert descriptors() == before


async def test_an_async_process_dropped_in_its_loop(loops: Kit) -> None:
    """The child is ended; the loop reaps it."""
    process = await loops.start(CAT, stdin=PIPE)
    pid = process.id
    del process
    gc.collect()
    while is_alive(pid):
        await asyncio.sleep(0.001)


async def test_an_async_process_in_a_cycle_is_collected(loops: Kit) -> None:
    """The same when it is the garbage collector that finds it."""
    process = await loops.start(CAT, stdin=PIPE)
    process.myself = process
    pid = process.id
    del process
    gc.collect()
    await reached(lambda: not is_alive(pid))


@needs_refcounts
async def test_an_async_process_dropped_by_another_thread(loops: Kit) -> None:
    """The same by a thread that is not the loop's, while the loop runs."""
    box = [await loops.start(CAT, stdin=PIPE)]
    pid, stdout = box[0].id, box[0].stdout
    waits = threading.Event()

    def drop() -> None:
        waits.wait()
        box.clear()

    thread = threading.Thread(target=drop)
    thread.start()
    reading = asyncio.ensure_future(stdout.read())
    await loops.settle()
    # The loop has nothing else to do, and nothing but the drop wakes it.
    asyncio.get_running_loop().call_soon(waits.set)
    if not has_gil():  # there an object is freed by the thread that made it, which has to run
        await reached(reading.done)
    assert await asyncio.wait_for(reading, PROMPT) == b""
    thread.join()
    await reached(lambda: not is_alive(pid))


@needs_refcounts
@pytest.mark.parametrize("command", [YES, [*ECHO, "y"], CAT], ids=["yes", "echo", "cat"])
async def test_a_process_dropped_in_the_middle_of_an_expression(
    kit: Kit, command: List[str]
) -> None:
    """Its child is ended before the stream is read, which says so, or has what came until then."""
    if kit.is_async:
        found = await (await kit.Process(command, stdin=PIPE).run()).stdout.read()
        assert (b"y\n" * LARGE).startswith(found)
        assert len(found) < LARGE
    else:
        with pytest.raises(ValueError, match="closed file"):
            kit.Process(command, stdin=PIPE).run().stdout.read()


@needs_signals
@needs_refcounts
@pytest.mark.usefixtures("short_grace")
def test_a_dropped_process_that_may_not_be_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finalizer has no choice but to leave it alone, and says nothing."""
    before, threads = descriptors(), threading.active_count()
    process = Process(CAT, stdin=PIPE).run()
    number = os.dup(process.stdin.fileno())  # keeps `cat` from ending by itself
    pid = process.id

    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of `Popen`: the child still runs
        patch.setattr(os, "kill", refuse)
        patch.setattr(signal, "pidfd_send_signal", refuse, raising=False)
        del process
    assert threading.active_count() == threads
    os.close(number)
    os.waitpid(pid, 0)
    assert descriptors() == before


_EMPTIED = """\
import atexit, os

@atexit.register
def finish():
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "process":
            vars(module).update(dict.fromkeys(vars(module).keys() - {"__builtins__"}))
    left.clear()

from process import PIPE, AsyncProcess, Process

left = []
"""


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(
            f"""
left.append(Process({CAT!r}, PIPE).run())
left.append(left[0].stdout)
left[0].stdout.fileno()
""",
            marks=needs_polls,  # its threads would still run: in an interpreter that ends none does
            id="sync",
        ),
        pytest.param(
            f"""
import asyncio
left.append(asyncio.run(AsyncProcess({CAT!r}, PIPE).run()))
""",
            id="asyncio",
        ),
    ],
)
def test_dropped_when_the_modules_are_empty(leave: str) -> None:
    """An interpreter that ends sets what is in them to `None` before the last objects go."""
    done = subprocess.run(start_library(_EMPTIED + leave), capture_output=True, check=False)
    assert (done.stderr, done.returncode) == (b"", 0)
