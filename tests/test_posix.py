"""POSIX without pidfd, eventfd and `waitid`, and what the pieces of it do at their ends.

macOS is such a platform, and so is Linux in a sandbox that forbids what is new.
"""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError
from process._descriptor import Descriptor
from tests.support import (
    FLOOD_BOTH,
    FOREVER,
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    descriptors,
    is_alive,
    pattern,
    python,
    run_without_thread,
    start_library,
)

if sys.platform == "win32":
    pytest.skip("POSIX only", allow_module_level=True)

from process._platform import _posix
from process._platform._posix import ExitWatch, Port, Wakeup


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that has what POSIX has, and nothing else."""
    other = SimpleNamespace(platform="darwin", version_info=sys.version_info)
    monkeypatch.setattr(_posix, "sys", other)
    monkeypatch.delattr(os, "waitid", raising=False)


@pytest.mark.usefixtures("plain")
async def test_megabytes_both_ways(kit: Kit) -> None:
    """Written before anything is read, and then read in parts."""
    data = pattern(2 * LARGE)
    async with kit.opened(["cat"], stdin=PIPE) as process:
        await kit.write(process.stdin, data)
        await kit.close(process.stdin)
        await kit.get(process.join())
        first = await kit.read(process.stdout, MIB)
        assert first + await kit.get(process.output()) == data


@pytest.mark.usefixtures("plain")
async def test_both_outputs_flood(kit: Kit) -> None:
    """Joined first, read later."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        await kit.get(process.join())
        assert await kit.get(process.error()) == pattern(LARGE, 2)
        assert await kit.get(process.output()) == pattern(LARGE, 1)
    assert process.exit_code == 0


@pytest.mark.usefixtures("plain")
async def test_a_timeout_and_an_end(kit: Kit, tmp_path: Path) -> None:
    """`join` returns when the timeout is over, and when the process is."""
    gate = Gate(tmp_path)
    async with kit.opened(python(Gate.WAIT + "sys.exit(3)", gate)) as process:
        with pytest.raises(ProcessTimeoutError):
            await kit.get(process.join(0.01))
        assert process.running
        with gate.opening():
            await kit.get(process.join(1000))
    assert process.exit_code == 3


@pytest.mark.usefixtures("plain")
async def test_a_signal_and_the_exit_code(kit: Kit) -> None:
    """A child is killed, and it is seen that it was."""
    async with kit.opened(["cat"], stdin=PIPE) as process:
        process.kill()
        await kit.get(process.join())
        process.kill()
    assert process.exit_code == -9


@pytest.mark.usefixtures("plain")
def test_nothing_is_left_of_a_dropped_process() -> None:
    """No descriptor, no thread and no child, though a thread had to wait for its end."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["yes"], stdin=pattern(LARGE)).run()
    pid = process.id
    assert process.stdout.readline() == b"y\n"
    del process
    assert not is_alive(pid)
    assert descriptors() == before
    assert threading.active_count() == threads


@pytest.mark.usefixtures("plain")
def test_more_rings_than_a_pipe_holds() -> None:
    """A port that is rung again and again before it waits is woken, and then it is quiet."""
    wakeup = Wakeup()
    port = _port(wakeup)
    for _ in range(10_000):
        port.ring()
    assert port.wait(ready=False) is False
    while _posix.wait_readable(wakeup.fileno(), 0):  # cleared in pieces
        port.wait(ready=False)


def _port(wakeup: Wakeup, watch: Any = None) -> Port:
    read, write = Descriptor.pipe()
    write.close()
    return Port(read, wakeup, watch, writing=False)


def test_a_port_that_has_been_released_is_quiet() -> None:
    """Its pump has ended: it hears no ring, and is released once."""
    wakeup = Wakeup()
    port = _port(wakeup)
    port.release()
    port.ring()
    port.release()
    assert not _posix.wait_readable(wakeup.fileno(), 0)


def test_a_shared_end_is_written_to_only_while_it_has_room() -> None:
    """It blocks, for the caller's sake, but it does not block the pump."""
    watch: Any = None
    read, write = Descriptor.pipe()
    port = Port(write, Wakeup(), watch, writing=True)
    assert os.get_blocking(port.share())
    written = 0
    while True:
        count = port.write(memoryview(bytes(100_000)))
        if count is None:
            break
        assert 0 < count <= _posix._ATOMIC_WRITE
        written += count
    assert len(os.read(read.fileno(), MIB)) == written
    assert port.write(memoryview(b"again")) == 5


def test_a_watch_without_a_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel or a sandbox without it: a thread waits, and says so."""
    monkeypatch.setattr(_posix, "_make_pidfd", _refuse(errno.ENOSYS))
    over = threading.Event()
    told: List[bool] = []
    watch = ExitWatch(1, over.wait, lambda: told.append(True))
    assert watch.fileno() == -1
    watch.wait(0)
    assert told == []
    over.set()
    watch.wait(FOREVER)
    for thread in threading.enumerate():
        if thread.name == "process-1-exit":
            thread.join()
    assert told == [True]


def _refuse(number: int) -> Any:
    def refuse(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_descriptor_for_the_watch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A shortage is no reason to do without: the start fails, and is taken back."""
    before, threads = descriptors(), threading.active_count()
    process = Process(["cat"], stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        patch.setattr(_posix, "_make_pidfd", _refuse(number))
        with pytest.raises(ProcessError) as caught:
            process.run()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number
    assert descriptors() == before
    assert threading.active_count() == threads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    with process:
        assert process.output() == pattern(LARGE)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("number", [1, 2])
def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Neither the one that watches nor the one that feeds: nothing is left, the next run works."""
    assert run_without_thread(monkeypatch, number).endswith(("-exit", "-stdin")[number - 1])


def test_a_child_that_was_gone_before_it_could_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SIGCHLD is ignored the kernel reaps by itself, as early as it likes."""
    monkeypatch.setattr(_posix, "_make_pidfd", _refuse(errno.ESRCH))
    told: List[bool] = []
    watch = ExitWatch(1, bool, lambda: told.append(True))
    assert told == [True]
    assert watch.fileno() == -1
    watch.wait(FOREVER)  # there is nothing to wait for


def test_where_the_kernel_reaps_by_itself() -> None:
    """With SIGCHLD ignored a child may be gone before it is watched; its output is all there."""
    script = """
import os, signal
from process import Process
from process._platform import _posix
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
real = _posix._make_pidfd
def late(pid):
    try:
        while True:
            os.kill(pid, 0)
    except ProcessLookupError:
        return real(pid)
for make in (real, late):
    _posix._make_pidfd = make
    with Process(["echo", "x"]) as process:
        process.join()
        assert process.output() == b"x\\n"
    assert process.exit_code == 0
"""
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr, done.returncode) == (b"", 0)


def test_where_the_kernel_reaps_and_a_grandchild_holds_the_pipe(tmp_path: Path) -> None:
    """A child gone before it was watched has ended all the same: silence ends its output."""
    script = """
import os, signal, sys, warnings
from process import DEVNULL, Process
from process._platform import _posix
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
real = _posix._make_pidfd
def late(pid):
    try:
        while True:
            os.kill(pid, 0)
    except ProcessLookupError:
        return real(pid)
_posix._make_pidfd = late
family = 'exec 3<"$0"; echo x; cat <&3 & exit 0'
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    process = Process(["sh", "-c", family, sys.argv[1]], stderr=DEVNULL).run()
    assert process.output() == b"x\\n"
    process.close()
assert "silence" in str(caught[0].message)
"""
    gate = Gate(tmp_path)
    command = [*start_library(script), str(gate)]
    held = os.open(gate.path, os.O_RDWR)  # the grandchild reads as long as this is open
    try:
        done = subprocess.run(command, capture_output=True, timeout=10 * PROMPT, check=False)
    finally:
        os.close(held)
    assert (done.stderr, done.returncode) == (b"", 0)
