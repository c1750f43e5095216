"""Windows: a thread is the only way to wait, and a wait for a pipe cannot be ended.

A read or a write blocks, and closing the descriptor would not wake it (the number might even be
reused): a thread that is stuck in one ends by itself, when the other end of the pipe closes. It is
a daemon thread on a raw descriptor, so it neither delays nor aborts the exit of the interpreter.

1. The thread of a stream blocks in a read until the stream gets a second pipe. From then on it is a
   relay, which has other work to do: it reads only when the pipe says that it holds something, and
   asks again and again, with pauses that grow and that `wake` ends (`stop_blocking`).
2. A read that had begun before goes on until there are bytes. So the second pipe is made large
   enough for all that was read before: none of it waits for that read (`make_pipe`).
3. Nothing says when a second pipe has room again, or when its last reader has left: a write is
   tried, after a pause. It does not block.
4. `PeekNamedPipe` says what an anonymous pipe holds. While a thread is inside a read,
   `PeekNamedPipe` in another thread blocks (the system serves one request at a time for each file),
   so for a child's pipe only its thread calls it, once that no longer blocks in reads.
5. Only the thread can tell whether its pipe is empty: the read in which it blocks is cancelled, and
   it says that it has waited in vain before it reads again. A thread that has bytes, and no
   processor time to record them, is not in such a read, and says nothing (`found_empty`).

Each child is in a process group of its own, so Ctrl-C at the console does not reach it, and a
`CTRL_BREAK_EVENT` for it does not reach the parent.
"""

import _thread
import errno
import os
import subprocess
import time
from functools import partial
from importlib import import_module
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from process._descriptor import Descriptor
from process._platform import _exit
from process._polling import FIRST_PAUSE, LONGEST_PAUSE, poll_until

if TYPE_CHECKING:
    import asyncio

spawn_options: Dict[str, Any] = {
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x00000200)
}

#: Bytes to try to write at once; as many as fit are written, without blocking.
_ATOMIC_WRITE = 4096

#: Seconds in which a thread says whether its pipe is empty, unless it is starved.
PATIENCE = 5.0

#: A mode of pipes: reads and writes do not block.
_PIPE_NOWAIT = 1

ExitWatch = _exit.ExitWatch


class Reaper:
    """What the `Popen` of a child does otherwise than usual: nothing, as nothing is reaped."""


class PipeEnd:
    """The library's end of a pipe of the child."""

    #: Whether reads and writes return at once, and waits can be woken.
    pollable = False

    #: See `_posix`; here callers do not wait for the pipe.
    event = None

    #: See `_posix`; here writes may block, so callers do not make them.
    atomic = 0

    def __init__(self, descriptor: Descriptor, writing: bool) -> None:
        self.descriptor = descriptor
        #: How many bytes to move at once.
        self.chunk = 64 * 1024
        #: Reads are to return at once.
        self._asks = False
        #: Seconds until the next check.
        self._pause = 0.0
        self._alarm = _thread.allocate_lock()
        self._alarm.acquire()
        #: Whether there is known to be nothing left to be read.
        self.hung_up = False
        #: When the thread was asked first whether the pipe is empty.
        self._asked: Optional[float] = None
        #: Reads may be cancelled, to ask that.
        self._cancels = False
        #: Its last look at the pipe has found nothing.
        self._found_empty = False

    def stop_blocking(self) -> None:
        """Let reads return at once from now on, and `wait` make a pause that can be woken."""
        self._asks = True

    def read(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, `b""` at end of file, `None` if there is nothing yet."""
        while True:
            if self._asks and not _readable(self.descriptor.fileno()):
                self._found_empty = True
                return None
            self._pause = 0.0
            try:
                data = os.read(self.descriptor.fileno(), size)
            except OSError as error:
                if not self._cancels or error.errno != errno.EINVAL:
                    raise
                self._found_empty = True
            else:
                self._asked = None
                return data

    def write(self, data: memoryview) -> Optional[int]:
        """The number of bytes written, `None` if there is no room yet."""
        return os.write(self.descriptor.fileno(), data[:65536])

    def can_write_directly(self) -> bool:
        """Whether a caller may write to the pipe: here it would block."""
        return False

    def moved(self, full: bool, bulk: bool) -> None:
        """Bytes were read or written: here the pipe stays as it is."""

    def relayed(self) -> None:
        """Bytes were moved into the outlet of a relay: the next check comes at once."""
        self._pause = 0.0

    def wait(
        self, watch: "Optional[ExitWatch]", timeout: Optional[float], event: None = None
    ) -> bool:
        """Wait until it is time to check the pipe: at once if reads and writes block."""
        if self._asks:
            self._alarm.acquire(timeout=self._pause)
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        return False

    def wait_relay(
        self, outlet: Descriptor, read: bool, write: bool, watch: "Optional[ExitWatch]"
    ) -> Tuple[bool, bool, bool, bool]:
        """See `_posix.PipeEnd.wait_relay`: here the caller has to try."""
        self.wait(watch, None)
        return read, write, False, False

    def evict(self) -> None:
        """Make the `wait` of another thread return: here no other thread waits."""

    def wake(self) -> None:
        """Make the present or the next `wait` return. Safe in finalizers."""
        self._pause = 0.0
        try:
            self._alarm.release()
        except RuntimeError:
            pass  # woken before, and not asleep again

    def pending(self) -> bool:
        """Whether bytes wait in the pipe, as far as can be told without reading them."""
        return False

    def found_empty(self) -> bool:
        """Whether nothing waits in the pipe. It takes some calls, with pauses, to find out.

        They end after `PATIENCE` seconds even if the thread does not answer. Does not block.
        """
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            self._found_empty = False
        elif self._found_empty or now > self._asked + PATIENCE:
            self._asked = None
            return True
        self._cancels = True
        ctypes: Any = import_module("ctypes")
        handle = ctypes.c_void_p(_handle(self.descriptor.fileno()))
        ctypes.windll.kernel32.CancelIoEx(handle, None)
        return False

    def broken(self) -> bool:
        """Whether the other end is closed, as far as can be told without writing."""
        return False

    def share(self) -> int:
        """The number of the descriptor, for a caller to write to."""
        return self.descriptor.fileno()

    def close(self, in_use: bool = False) -> None:
        self.descriptor.close()

    def close_left(self) -> None:
        """Close what was left to a caller: nothing is."""


def make_pipe(size: int) -> Tuple[Descriptor, Descriptor]:
    """The ends of a pipe to relay into, which holds `size` bytes; see `_posix.make_pipe`."""
    msvcrt: Any = import_module("msvcrt")
    read, write = _winapi().CreatePipe(None, size)
    # `os.set_blocking` does the same, but only from Python 3.12 on.
    _winapi().SetNamedPipeHandleState(write, _PIPE_NOWAIT, None, None)
    flags = getattr(os, "O_NOINHERIT", 0)
    return (
        Descriptor.own(msvcrt.open_osfhandle, read, os.O_RDONLY | flags),
        Descriptor.own(msvcrt.open_osfhandle, write, os.O_WRONLY | flags),
    )


def relay_write(outlet: Descriptor, data: memoryview) -> Iterator[int]:
    """Write to such a pipe without blocking; see `_posix.relay_write`.

    Not by way of `os.write`, whose errors do not tell a full pipe from a broken one.
    """
    written = map(_winapi().WriteFile, (_handle(outlet.fileno()),), (data[:_ATOMIC_WRITE],))
    return map(itemgetter(0), written)


def is_duplicated(descriptor: Descriptor) -> bool:
    """Whether others have the same end of a pipe: another process, or a duplicate.

    The system counts the handles, so this does not block while another thread reads the pipe.
    """
    ctypes: Any = import_module("ctypes")
    # OBJECT_BASIC_INFORMATION, whose third field is the number of handles.
    answer = (ctypes.c_uint32 * 14)()
    handle = ctypes.c_void_p(_handle(descriptor.fileno()))
    size = ctypes.sizeof(answer)
    ctypes.windll.ntdll.NtQueryObject(handle, 0, ctypes.byref(answer), size, None)
    return bool(answer[2] > 1)


def writes_raise_signals() -> bool:
    """Whether a write to a pipe without a reader raises a signal: here there is no such signal."""
    return False


def write_without_signal(descriptor: int, data: memoryview, counts: List[int]) -> None:
    """Write to a pipe; `counts` is extended by the number of bytes written."""
    counts.extend(map(os.write, (descriptor,), (data,)))


def read_at_once(descriptor: int, size: int, pieces: "Deque[bytes]") -> None:
    """See `_posix`."""
    if not wait_readable(descriptor, 0):
        raise BlockingIOError
    pieces.extend(map(os.read, (descriptor,), (size,)))


def is_blocking(descriptor: int) -> bool:
    """Whether reads of a descriptor wait for bytes; a caller may have changed that: not here."""
    return True


def reopen(descriptor: int, flags: int) -> Optional[Descriptor]:
    """A non-blocking description of the same pipe, where there can be one: here there is none."""
    return None


def has_reader(outlet: Descriptor) -> bool:
    """Whether the other end of a pipe is open, as far as can be told: here it may be."""
    return False


def block_signals() -> None:
    """Block all signals in this thread: not needed here."""


def wait_readable(descriptor: int, timeout: float) -> bool:
    """Whether a read of a pipe would not block, after `timeout` seconds at the latest.

    It is checked repeatedly, with pauses.
    """
    return poll_until(partial(_readable, descriptor), timeout)


def await_end(pid: int, ended: Callable[[], bool], timeout: float) -> bool:
    """Wait until `ended()`, at most `timeout` seconds. Return whether it holds. Takes no thread."""
    return poll_until(ended, timeout)


def exit_code(pid: int) -> Optional[int]:
    """The exit code of a child that has ended but has not been reaped: unknown here."""
    return None


def send_signal(transport: "asyncio.SubprocessTransport", number: int) -> None:
    """Send a signal to the child of a loop, as the loop does it."""
    transport.send_signal(number)


def _readable(descriptor: int) -> bool:
    """Whether a pipe holds bytes, or is at end of file."""
    try:
        return bool(_winapi().PeekNamedPipe(_handle(descriptor), 0)[0])
    except OSError:
        return True  # broken, as a read will find


def _handle(descriptor: int) -> int:
    handle: int = import_module("msvcrt").get_osfhandle(descriptor)
    return handle


def _winapi() -> Any:
    """What `subprocess` and `multiprocessing` use; type checkers know it only on Windows."""
    return import_module("_winapi")
