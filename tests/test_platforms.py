"""Other platforms, by construction: the library runs without what they lack.

First as a whole, then the portable ways and what is asked of Windows, one by one. The platform is
chosen by its name when the library is imported. So the scripts change the name, and let the library
import modules that lack what that platform does not have; the standard library, which has been
imported by then, keeps its own.
"""

import ast
import ctypes
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, List, Optional

import pytest

import process
from process._descriptor import Descriptor
from process._platform import _portable, _windows
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

_USE = """
import threading
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

_ENDS = {
    # Reads block there, so each pipe has a thread from the beginning, and there is no pidfd.
    _WINDOWS: "assert len(names) == 3, names",
    # The callers wait in `poll`; there is no pidfd.
    _MACOS: "assert len(names) == 1, names",
}


@pytest.mark.parametrize("platform", [_WINDOWS, _MACOS], ids=["windows", "macos"])
def test_the_library_runs_without_what_the_platform_lacks(platform: str) -> None:
    """All kinds of use, in both variants, to the exit of the interpreter."""
    script = "import sys\n" + _PREPARE + platform + _USE + _ENDS[platform]
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
    """A stand-in for `ctypes.windll` and `msvcrt`: a pipe whose state is made up."""

    def __init__(self, answers: List[Optional[int]]) -> None:
        #: How many bytes the pipe holds at each look; `None` once it is broken.
        self.answers = answers
        self.asked: List[int] = []

    @property
    def kernel32(self) -> "Kernel":
        return self

    def get_osfhandle(self, descriptor: int) -> int:
        """The handle behind a descriptor."""
        return 1000 + descriptor

    def PeekNamedPipe(self, handle: Any, *arguments: Any) -> int:  # noqa: N802
        """Whether there was an answer, which goes where the caller says."""
        self.asked.append(handle.value)
        held = self.answers.pop(0)
        if held is None:
            return 0
        arguments[3]._obj.value = held
        return 1


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
    monkeypatch.setattr(ctypes, "windll", kernel, raising=False)
    assert _windows.wait_readable(5, timeout) is ready
    assert kernel.asked == [1005] * looks


class Transport:
    """A stand-in for the transport of a loop."""

    def __init__(self) -> None:
        self.signals: List[int] = []

    def send_signal(self, number: int) -> None:
        """Take note of it."""
        self.signals.append(number)


def test_what_the_portable_way_leaves_to_others() -> None:
    """Signals for a loop's child go by the loop; what cannot be known is not made up."""
    transport: Any = Transport()
    _portable.send_signal(transport, 15)
    assert transport.signals == [15]
    assert _portable.exit_code(1) is None
    assert not _portable.reap(1)
    assert _portable.make_hub() is None
    assert _portable.spawn_options == {}


def test_the_portable_watch_waits_in_a_thread() -> None:
    """It says when the child has ended, to those who wait and to those who are to be told."""
    over, told = threading.Event(), threading.Event()
    watch = _portable.ExitWatch(7, over.wait, told.set)
    threads = [thread for thread in threading.enumerate() if thread.name == "process-7-exit"]
    watch.wait(0)
    assert not told.is_set()
    over.set()
    watch.wait(FOREVER)
    assert told.wait(PROMPT)
    for thread in threads:
        assert thread.daemon
        thread.join()


def test_a_portable_port_moves_bytes() -> None:
    """Reads and writes block, and nothing is known before they are tried."""
    watch: Any = None
    read, write = Descriptor.pipe()
    reader = _portable.Port(read, _portable.Wakeup(), watch, writing=False)
    writer = _portable.Port(write, _portable.Wakeup(), watch, writing=True)
    assert reader.blocking
    assert writer.write(memoryview(b"data")) == 4
    assert reader.pending() is False
    assert reader.read(2) == b"da"
    assert reader.read(100) == b"ta"
    reader.moved(full=True, bulk=True)
    assert reader.share() == read.fileno()
    write.close()
    assert reader.read(1) == b""
    read.close()
    writer.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.write(memoryview(b"x"))
