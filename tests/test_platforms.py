"""Other platforms, by construction: the library runs without what they lack.

First as a whole, then the ways of Windows and what is asked of it, one by one. The platform is
chosen by its name when the library is imported. So the scripts change the name, and let the library
import modules that lack what that platform does not have; the standard library, which has been
imported by then, keeps its own.
"""

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

import process
from process._descriptor import Descriptor
from process._interpreter import losing_nothing
from process._platform import _exit, _windows
from tests.support import FOREVER, PROMPT, start_library

_PREPARE = """
import asyncio, ctypes, fcntl, os, select, shlex, signal, subprocess, tempfile, types
asyncio.new_event_loop().close()  # from 3.14 on, only this imports the loops of the platform
def take_away(module, *names):
    lesser = types.ModuleType(module.__name__)
    vars(lesser).update((name, value) for name, value in vars(module).items() if name not in names)
    sys.modules[module.__name__] = lesser
"""

_WINDOWS = """
sys.platform = "win32"
for name in "fcntl", "select", "termios", "pty", "resource":
    sys.modules[name] = None  # importing it fails
take_away(os, "fork", "register_at_fork", "set_blocking", "get_blocking", "waitid", "WNOHANG",
          "pidfd_open", "eventfd", "memfd_create", "openpty", "O_NONBLOCK", "mkfifo", "killpg")
take_away(signal, "SIGKILL", "SIGALRM", "SIGCHLD", "SIGPIPE")
import process
from process import _platform
assert process._platform._windows.spawn_options is _platform.spawn_options
assert _platform.spawn_options.pop("creationflags") == 0x200  # Popen takes it on Windows only
assert "process._platform._posix" not in sys.modules
"""

_MACOS = """
sys.platform = "darwin"
take_away(fcntl, "F_SETPIPE_SZ", "F_GETPIPE_SZ")
take_away(select, "epoll")
take_away(os, "waitid", "pidfd_open", "eventfd", "memfd_create", "pipe2", "splice")
def checked(descriptor, command, *argument):
    assert command != 1031, "F_SETPIPE_SZ"
    return fcntl.fcntl(descriptor, command, *argument)
sys.modules["fcntl"].fcntl = checked
import process
from process import _platform
assert _platform.spawn_options == {}
assert "process._platform._windows" not in sys.modules
"""

_USE_SYNC = """
import os, sys, threading
from process import PIPE, AsyncProcess, Process, ProcessError, ProcessTimeoutError
data = bytes(range(256)) * 20_000

with Process(["cat"], stdin=data) as child:
    child.join()
assert child.output() == data and child.exit_code == 0

with Process(["cat"], stdin=PIPE) as child:
    for number in range(10):
        child.stdin.write(b"%d\\n" % number)
        child.stdin.flush()
        assert child.stdout.readline() == b"%d\\n" % number
    child.stdin.write(data)
    child.stdin.close()
    assert child.stdout.read() == data

if sys.platform != "win32" or "_winapi" in sys.modules:
    with Process(["cat"], stdin=PIPE) as child:
        number = child.stdout.fileno()
        for _ in range(3):
            child.stdin.write(b"line\\nrest")
            child.stdin.flush()
            assert child.stdout.readline() == b"line\\n"
            assert os.read(number, 4) == b"rest"
    with Process(["yes"]) as first, Process(["head", "-c", "5"], stdin=first.stdout) as second:
        assert second.output() == b"y\\ny\\ny"
    with Process(["cat"], stdin=data) as first:
        assert first.stdout.read(1) == data[:1]
        with Process(["cat"], stdin=first.stdout) as second:
            pass
    assert second.output() == data[1:]

with Process(["sh", "-c", "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"]) as child:
    assert child.stdout.read() == bytes(3_000_000)
    assert child.error() == bytes(3_000_000)

child = Process(["sleep", "1000"]).run()
try:
    child.join(0.01)
except ProcessTimeoutError:
    child.close()
assert child.exit_code == -15

try:
    Process("/no/such/program").run()
except ProcessError as error:
    assert isinstance(error.__cause__, FileNotFoundError)
"""

_USE = (
    _USE_SYNC
    + """
async def main():
    async with AsyncProcess(["cat"], stdin=data) as child:
        assert await child.output() == data
    child = await AsyncProcess(["sleep", "1000"]).run()
    child.kill()
    await child.join()
    assert child.exit_code == -KILL
    await child.close()
    if sys.platform == "darwin":  # a loop of POSIX does not like it the way it is done on Windows
        await AsyncProcess(["cat"], stdin=PIPE).run()  # and dropped

KILL = getattr(sys.modules["signal"], "SIGKILL", signal.SIGTERM)
asyncio.run(main())
left = Process(["sleep", "1000"]).run()  # to be ended at the exit
names = [thread.name for thread in threading.enumerate() if thread.name.startswith("process-")]
"""
)

#: Two outputs, and there is no pidfd.
_END = "assert len(names) == 3, names"


@pytest.mark.parametrize(
    "platform",
    [
        pytest.param(
            _WINDOWS,
            id="windows",
            # There the loser says 0, as Windows never does.
            marks=pytest.mark.skipif(
                sys.implementation.name == "pypy",
                reason="two threads that ask a `Popen` of POSIX for the exit code race on PyPy",
            ),
        ),
        pytest.param(_MACOS, id="macos"),
    ],
)
def test_the_library_runs_without_what_the_platform_lacks(platform: str) -> None:
    """All kinds of use, in both variants, to the exit of the interpreter."""
    script = "import sys\n" + _PREPARE + platform + _USE + _END
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr.decode(), done.returncode) == ("", 0)


_TAKE_POLL = """
import select
del select.poll
if hasattr(select, "epoll"):
    del select.epoll
"""

_REPLACE_POPEN = """
import subprocess, unittest.mock
real = subprocess.Popen
subprocess.Popen = {double}
"""

_DOUBLES = ["unittest.mock.Mock()", "lambda *_: None", "type('Popen', (), {})"]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "change",
    [_TAKE_POLL, *[_REPLACE_POPEN.format(double=double) for double in _DOUBLES]],
    ids=["poll", "mock", "function", "class"],
)
def test_a_program_has_changed_the_standard_library(change: str, late: bool) -> None:
    """Before the first process is started, or after that: the library works all the same."""
    first = "from process import Process\nwith Process(['true']): pass\n"
    script = (first + change if late else change) + _USE_SYNC
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr.decode(), done.returncode) == ("", 0)


def test_a_derived_class_is_used() -> None:
    """It may be there to watch what is started."""
    script = """
import subprocess
class Watched(subprocess.Popen):
    seen = []
    def __init__(self, *arguments, **options):
        self.seen.append(arguments)
        super().__init__(*arguments, **options)
subprocess.Popen = Watched
from process import Process
with Process(["true"]) as child:
    assert isinstance(child.process, Watched)
assert Watched.seen == [(["true"],)]
"""
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr.decode(), done.returncode) == ("", 0)


def test_a_popen_that_starts_children_in_a_way_of_its_own() -> None:
    """A method that does not use `fork_exec` of `subprocess` is left as it is."""

    class Other:
        def _execute_child(self) -> str:
            return "started"

    method = Other()._execute_child
    assert losing_nothing(method) is method
    assert losing_nothing(len) is len


def test_processes_are_started_by_a_program_without_stdin() -> None:
    """`Popen` moves its own pipe out of the way of the three standard streams."""
    script = """
import os
os.close(0)
from process import Process
with Process(["echo", "found"], stdin=b"") as child:
    assert child.output() == b"found\\n"
"""
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr.decode(), done.returncode) == ("", 0)


def test_without_poll_it_is_seen_that_the_last_reader_leaves() -> None:
    """By `select`, whatever else the pipe is asked."""
    script = (
        _TAKE_POLL
        + """
from process._descriptor import Descriptor
from process._platform import _posix
read, write = Descriptor.pipe()
end = _posix.PipeEnd(Descriptor.pipe()[0], writing=False)
assert _posix.has_reader(write)
assert end.wait_relay(write, False, True, None) == (False, True, False, False)
read.close()
assert not _posix.has_reader(write)
assert end.wait_relay(write, False, False, None) == (False, False, True, False)
assert end.wait_relay(write, False, True, None) == (False, False, True, False)
"""
    )
    done = subprocess.run(
        start_library(script), capture_output=True, timeout=10 * PROMPT, check=False
    )
    assert (done.stderr.decode(), done.returncode) == ("", 0)


def test_only_one_module_imports_what_only_posix_has() -> None:
    """And that one is imported on POSIX only."""
    root = Path(process.__file__).parent
    lacking = {"fcntl", "grp", "pty", "pwd", "resource", "select", "termios", "tty"}
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name in lacking
    }
    assert found == {"_platform/_posix.py"}


class Kernel:
    """A stand-in for `_winapi` and `msvcrt`: a pipe whose state is made up."""

    def __init__(self, answers: List[Optional[int]]) -> None:
        #: How many bytes the pipe holds at each look; `None` once it is broken.
        self.answers = answers
        self.asked: List[int] = []

    def get_osfhandle(self, descriptor: int) -> int:
        """The handle behind a descriptor."""
        return 1000 + descriptor

    def PeekNamedPipe(self, handle: int, size: int) -> Tuple[int, int]:  # noqa: N802
        """How many bytes there are, and how many remain of a message."""
        self.asked.append(handle)
        held = self.answers.pop(0)
        if held is None:
            raise BrokenPipeError
        return held, 0


@pytest.mark.parametrize(
    ("answers", "timeout", "ready"),
    [
        ([7], 0, True),
        ([0], 0, False),
        ([None], 0, True),  # broken: a read will find the end of file
        ([0, 0, 0, 7], 1000, True),
        ([0, 0, None], 1000, True),
    ],
)
def test_windows_is_asked_what_a_pipe_holds(
    monkeypatch: pytest.MonkeyPatch,
    answers: List[Optional[int]],
    timeout: float,
    ready: bool,
) -> None:
    """By its handle, and again as long as it holds nothing and there is time."""
    kernel, looks = Kernel(answers), len(answers)
    monkeypatch.setitem(sys.modules, "msvcrt", kernel)
    monkeypatch.setitem(sys.modules, "_winapi", kernel)
    assert _windows.wait_readable(5, timeout) is ready
    assert kernel.asked == [1005] * looks


class Transport:
    """A stand-in for the transport of a loop."""

    def __init__(self) -> None:
        self.signals: List[int] = []

    def send_signal(self, number: int) -> None:
        """Take note of it."""
        self.signals.append(number)


def test_what_windows_leaves_to_others() -> None:
    """Signals for a loop's child go by the loop; what cannot be known is not made up."""
    transport: Any = Transport()
    _windows.send_signal(transport, 15)
    assert transport.signals == [15]
    assert _windows.exit_code(1) is None


def test_a_thread_watches_for_the_end() -> None:
    """It reports the end of the child, to waits and to callbacks."""
    popen: Any = Popen()
    told = threading.Event()
    watch = _exit.ExitWatch(popen)
    watch.start()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "process-7-exit"]
    assert thread.daemon
    watch.notify(told.set)
    watch.wait(0)
    assert watch.look() is None
    assert watch.fileno() == -1
    assert not told.is_set()
    watch.send_signal(15)
    assert popen.signals == [15]
    popen.over.set()
    watch.wait(FOREVER)
    assert watch.look() == 3
    thread.join()
    assert told.is_set()
    told.clear()
    watch.notify(told.set)  # late
    assert told.is_set()
    watch.release()


class Popen:
    """A stand-in for a child."""

    pid = 7

    def __init__(self) -> None:
        self.over = threading.Event()
        self.signals: List[int] = []

    def wait(self) -> int:
        """Wait for the end."""
        self.over.wait()
        return 3

    def poll(self) -> Optional[int]:
        """Look for it."""
        return 3 if self.over.is_set() else None

    def send_signal(self, number: int) -> None:
        """Take note of it."""
        self.signals.append(number)


def test_an_end_that_blocks_moves_bytes() -> None:
    """Reads and writes block, and nothing is known before they are tried."""
    read, write = Descriptor.pipe()
    reader = _windows.PipeEnd(read, writing=False)
    writer = _windows.PipeEnd(write, writing=True)
    assert writer.write(memoryview(b"data")) == 4
    assert reader.pending() is False
    assert reader.broken() is False
    assert reader.read(2) == b"da"
    assert reader.read(100) == b"ta"
    reader.moved(full=True, bulk=True)
    assert reader.share() == read.fileno()
    assert _windows.is_blocking(read.fileno())
    writer.close()
    assert reader.read(1) == b""
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.write(memoryview(b"x"))


def test_what_windows_does_not_tell() -> None:
    """A pipe has no second description, and its reader is not known."""
    read, write = Descriptor.pipe()
    assert not _windows.has_reader(write)
    assert not _windows.writes_raise_signals()
    assert _windows.reopen(read.fileno(), os.O_RDONLY) is None
    _windows.block_signals()
