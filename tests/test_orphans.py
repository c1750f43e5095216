"""Rule 7: the child of a loop that is closed, stopped or shutting down is ended by other means."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

from process import PIPE
from process.asyncio import _child, _orphans, _shutdown
from tests.support import (
    CAT,
    LARGE,
    Gate,
    Kit,
    close_loop,
    is_alive,
    make_loop,
    needs_waitid,
    pattern,
    python,
    rudely_close,
)

#: Says so when it ignores SIGTERM.
STUBBORN = python("import signal; signal.signal(15, signal.SIG_IGN); put(1, b'x'); signal.pause()")


pytestmark = pytest.mark.usefixtures("forgotten_descriptors")

#: The warning of `Popen` about a child that could not be ended.
_IS_STILL_RUNNING = pytest.mark.filterwarnings("ignore:subprocess .* is still running")


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it matters that the grace period ends, and not how long it lasts."""
    for module in (_child, _orphans):
        monkeypatch.setattr(module, "GRACE", 0.05)


@contextlib.contextmanager
def no_rights(monkeypatch: pytest.MonkeyPatch) -> Iterator[List[int]]:
    """Children may not be sent signals, as if they had become another user's; which were tried."""
    tried: List[int] = []

    def kill(pid: int, number: int) -> None:
        tried.append(number)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", kill)
        yield tried


def kill_and_reap(pid: int) -> None:
    """End a child that the library could not end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def abandon(loops: Kit, command: List[str], close: bool = True) -> Tuple[Any, Any]:
    """A process that its loop no longer looks after, and the loop."""

    async def start() -> Any:
        process = await loops.start(command, stdin=PIPE)
        if command is STUBBORN:
            assert await process.stdout.readexactly(1) == b"x"
        return process

    loop = make_loop(loops.name)
    process = loop.run_until_complete(start())
    if close:
        rudely_close(loop)
    return process, loop


def test_an_async_process_dropped_after_its_loop(loops: Kit) -> None:
    """A closed loop makes no noise in a finalizer; the child is ended and reaped."""
    process, _ = abandon(loops, ["cat"])
    pid = process.id
    assert is_alive(pid)
    del process
    gc.collect()
    assert not is_alive(pid)


def test_an_async_process_dropped_while_its_loop_is_stopped(loops: Kit) -> None:
    """A loop that may be run again finds that the child has ended."""
    process, loop = abandon(loops, ["cat"], close=False)
    pid = process.id
    stdout = process.stdout
    del process
    gc.collect()
    assert loop.run_until_complete(stdout.read()) == b""
    while is_alive(pid):  # the zombie, which is the loop's to reap
        loop.run_until_complete(asyncio.sleep(0.001))
    del stdout
    loop.run_until_complete(loop.shutdown_asyncgens())
    close_loop(loop)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("command", [CAT, STUBBORN])
def test_an_async_process_dropped_just_as_its_loop_stops_for_good(
    loops: Kit, command: List[str], told: bool
) -> None:
    """A loop that does not get as far as to end the child, or to kill it, leaves it an orphan."""
    process, loop = abandon(loops, command, close=False)
    pid = process.id
    box = [process]
    del process
    loop.call_soon(box.clear)
    if told:  # it sends SIGTERM in its last iteration
        loop.call_soon(lambda: loop.call_soon(loop.stop))
    else:
        loop.call_soon(loop.stop)
    loop.run_forever()
    assert len(_child.Child.alive) == 1
    rudely_close(loop)
    assert not is_alive(pid)
    assert not _child.Child.alive


def test_dropped_with_its_input_while_its_loop_is_stopped(loops: Kit) -> None:
    """Run again, a loop that held bytes for the child has nothing to complain of."""
    complaints: List[Any] = []
    loop = make_loop(loops.name)
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    process = loop.run_until_complete(loops.start(["sleep", "1000"], stdin=pattern(LARGE)))
    protocol = process._child.protocol
    del process
    gc.collect()
    while not complaints and not protocol.gone:
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.run_until_complete(loop.shutdown_asyncgens())
    close_loop(loop)
    assert complaints == []


@pytest.mark.usefixtures("short_grace")
def test_an_orphan_that_ignores_sigterm_is_killed(loops: Kit) -> None:
    """The grace period ends."""
    process, _ = abandon(loops, STUBBORN)
    pid = process.id
    del process
    gc.collect()
    assert not is_alive(pid)


def test_an_orphan_is_ended_without_a_thread_and_without_a_descriptor(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late in the exit of the interpreter there may be neither."""
    process, _ = abandon(loops, ["cat"])
    pid = process.id

    def refuse(*_: object) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        patch.setattr(os, "pidfd_open", refuse, raising=False)
        patch.setattr(os, "pipe", refuse)
        del process
        gc.collect()
    assert not is_alive(pid)


@pytest.mark.parametrize("way", ["a zombie", "reaped", "known to the loop"])
@needs_waitid
def test_an_orphan_that_has_ended_is_left_alone(
    loops: Kit, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """No signal is sent to a number that may be that of another process by now."""
    process, loop = abandon(loops, ["cat"], close=False)
    pid = process.id
    os.kill(pid, signal.SIGKILL)
    if way == "known to the loop":
        loop.run_until_complete(process.join())
    rudely_close(loop)
    with contextlib.suppress(ChildProcessError):  # reaped by the watcher of asyncio before 3.12
        if way == "reaped":
            os.waitpid(pid, 0)
        else:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    sent: List[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda _, number: sent.append(number))
        del process
        gc.collect()
    assert sent == []
    assert not is_alive(pid)


@pytest.mark.usefixtures("short_grace")
@_IS_STILL_RUNNING
def test_an_orphan_that_may_not_be_signalled(loops: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child with other rights is waited for a while, and then left to itself, in silence."""
    process, _ = abandon(loops, ["sleep", "1000"])
    pid = process.id
    with no_rights(monkeypatch) as tried:
        del process
        gc.collect()
    assert tried[:2] == [signal.SIGTERM, signal.SIGKILL]
    kill_and_reap(pid)


def test_the_pipes_of_an_orphan_that_are_about_to_be_closed(loops: Kit) -> None:
    """What the loop has begun to close is closed once, whether the loop goes on or not."""
    for close in (False, True):
        process, loop = abandon(loops, ["cat"], close=False)
        pid = process.id
        process.stdin.close()
        if close:
            rudely_close(loop)
        del process
        gc.collect()
        if not close:
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            close_loop(loop)
        assert not is_alive(pid)


@pytest.mark.parametrize("closed", [False, True])
def test_a_block_that_is_torn_out_of_its_loop(loops: Kit, closed: bool) -> None:
    """A task that no longer runs is collected, and its process with it, silently."""

    async def scenario() -> None:
        async with loops.opened(["cat"], stdin=PIPE) as child:
            pids.append(child.id)
            await asyncio.Event().wait()

    pids: List[int] = []
    loop = make_loop(loops.name)
    task: Any = loop.create_task(scenario())
    while not pids:
        loop.run_until_complete(asyncio.sleep(0.001))
    task._log_destroy_pending = False  # which `asyncio` would say, as it should
    if closed:
        rudely_close(loop)
    del task
    gc.collect()
    if not closed:
        loop.run_until_complete(loop.shutdown_asyncgens())
        close_loop(loop)
    assert not is_alive(pids[0])


@pytest.mark.usefixtures("short_grace")
def test_a_loop_that_shuts_down_kills_what_ignores_sigterm(loops: Kit) -> None:
    """At the end of `asyncio.run` a child that was never closed is ended while there is a loop."""
    box: List[Any] = []

    async def main() -> None:
        box.append(await loops.start(STUBBORN))
        assert await box[0].stdout.readexactly(1) == b"x"

    loops.run(main())
    assert not is_alive(box[0].id)
    assert box[0].exit_code == -signal.SIGKILL


def test_a_loop_that_shuts_down_closes_what_a_grandchild_holds_open(
    loops: Kit, tmp_path: Path
) -> None:
    """A child that has ended and was never closed has pipes that are still open."""
    gate = Gate(tmp_path)
    box: List[Any] = []

    async def main() -> None:
        box.append(await loops.start(["sh", "-c", 'cat "$0" & exit 3', str(gate)]))
        await box[0].join()

    loops.run(main())
    assert box[0].exit_code == 3
    gate.open()


@pytest.mark.usefixtures("short_grace")
@_IS_STILL_RUNNING
def test_a_loop_shuts_down_though_a_child_may_not_be_signalled(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a while, and then the child is left to itself."""
    box: List[Any] = []

    async def main() -> None:
        box.append(await loops.start(["sleep", "1000"]))

    loop = make_loop(loops.name)
    loop.run_until_complete(main())
    with no_rights(monkeypatch) as tried:
        loop.run_until_complete(loop.shutdown_asyncgens())
    rudely_close(loop)
    assert tried[:2] == [signal.SIGTERM, signal.SIGKILL]
    kill_and_reap(box[0].id)


@pytest.mark.usefixtures("short_grace")
async def test_an_async_process_that_ignores_sigterm_is_dropped_in_its_loop(loops: Kit) -> None:
    """The loop kills it when the grace period is over."""
    process = await loops.start(STUBBORN)
    assert await process.stdout.readexactly(1) == b"x"
    pid, protocol = process.id, process._child.protocol
    del process
    gc.collect()
    while not protocol.gone:  # reaped, its pipes closed, and the loop has been told
        await asyncio.sleep(0.001)
    assert not is_alive(pid)


def test_what_is_logged_of_others_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what names a child that has outlived its loop is dropped, whatever form it has."""
    monkeypatch.setattr(_orphans, "_outlived", {7})
    log = logging.getLogger("asyncio")
    with caplog.at_level(logging.WARNING, "asyncio"):
        log.warning("nothing")
        log.warning("%(named)s", {"named": 7})
        log.warning("%s %d", "child", 5)
        log.warning("%s %d", "child", 7)
    assert [record.getMessage() for record in caplog.records] == ["nothing", "7", "child 5"]


async def test_a_number_that_is_given_out_again(
    loops: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is logged of a child is logged, though an earlier one of its number was an orphan."""

    class Everybody(Set[object]):
        """As if every number had been an orphan's."""

        def discard(self, pid: object) -> None:
            forgotten.append(pid)

    forgotten: List[object] = []
    monkeypatch.setattr(_orphans, "_outlived", Everybody())
    async with loops.opened(["true"]) as process:
        assert process.id in forgotten


def test_a_loop_is_watched_once_though_that_was_interrupted() -> None:
    """What had begun goes on."""

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        await _shutdown.watch_running_loop()
        begun = _shutdown._begun[loop]
        _shutdown._watched.discard(loop)  # as if an exception had come before
        await _shutdown.watch_running_loop()
        assert _shutdown._begun[loop] is begun

    asyncio.run(watch())


def test_a_closed_loop_is_forgotten_in_two_threads_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each finds it closed, and drops what is kept for it."""
    begun: Dict[Any, Any] = {}

    class Closed:
        """A loop that the other thread drops while this one looks at it."""

        def is_closed(self) -> bool:
            begun.clear()
            return True

    monkeypatch.setattr(_shutdown, "_begun", begun)
    begun[Closed()] = None

    async def watch() -> None:
        await _shutdown.watch_running_loop()
        assert list(begun) == [asyncio.get_running_loop()]

    asyncio.run(watch())
    assert not begun
