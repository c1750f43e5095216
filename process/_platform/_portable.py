"""Pipes and child processes with what every platform has.

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
"""

import _thread
import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from process._descriptor import Descriptor
from process._polling import FIRST_PAUSE, LONGEST_PAUSE, poll_until

if TYPE_CHECKING:
    import asyncio
    import subprocess

spawn_options: Dict[str, Any] = {}


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

    @classmethod
    def reopened(cls) -> "PipeEnd":
        """An end for a pipe that is already closed, which can only be woken."""
        end = cls(Descriptor(), writing=False)
        end.stop_blocking()
        return end

    def stop_blocking(self) -> None:
        """Let reads return at once from now on, and `wait` make a pause that can be woken."""
        self._asks = True

    def readable(self) -> bool:
        """Whether a read would return at once, as far as can be told."""
        return True

    def read(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, `b""` at end of file, `None` if there is nothing yet."""
        if self._asks and not self.readable():
            return None
        self._pause = 0.0
        return os.read(self.descriptor.fileno(), size)

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
        self,
        watch: "Optional[ExitWatch]",
        timeout: Optional[float],
        ready: bool = True,
        event: None = None,
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

    def broken(self) -> bool:
        """Whether the other end is closed, as far as can be told without writing."""
        return False

    def share(self) -> int:
        """The number of the descriptor, for a caller to write to."""
        return self.descriptor.fileno()

    def close(self, in_use: bool = False) -> None:
        """Close the pipe."""
        self.descriptor.close()


class ExitWatch:
    """The end of a child. A thread waits for it and reaps it."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._ended = False
        self._callback: Optional[Callable[[], None]] = None

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it cannot be started.
        """
        name = f"process-{self._popen.pid}-exit"
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    def _watch(self) -> None:
        self._await_end()
        self._ended = True
        callback = self._callback
        if callback is not None:
            callback()

    def _await_end(self) -> None:
        self._popen.wait()

    def notify(self, callback: Callable[[], None]) -> None:
        """Call `callback`, once or twice, in any thread, when the child has ended."""
        self._callback = callback
        if self._ended:
            callback()

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended."""
        return self._popen.poll()

    def fileno(self) -> int:
        """A descriptor that is readable once the child has ended, or -1 if there is none."""
        return -1

    def wait(self, timeout: float) -> None:
        """Return when the child has ended, or after `timeout` seconds. Takes no lock.

        The callback of `notify` comes sooner.
        """
        poll_until(lambda: self.look() is not None, timeout)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended.

        Raises:
            PermissionError: it has taken rights that forbid it.
        """
        self._popen.send_signal(number)

    def release(self) -> None:
        """See that the child, which has ended, is reaped: the thread does that."""
        self._callback = None


def make_pipe(size: int) -> Tuple[Descriptor, Descriptor]:
    """The ends of a pipe to relay into: to read, and to write to, which does not block.

    Args:
        size: how many bytes it is to hold, where that can be chosen.
    """
    return Descriptor.pipe()


def writes_raise_signals() -> bool:
    """Whether a write to a pipe without a reader raises a signal: here there is no such signal."""
    return False


def write_without_signal(descriptor: int, data: memoryview, counts: List[int]) -> None:
    """Write to a pipe; `counts` is extended by the number of bytes written."""
    counts.extend(map(os.write, (descriptor,), (data,)))


def is_blocking(descriptor: int) -> bool:
    """Whether reads of a descriptor wait for bytes; a caller may have changed that: not here."""
    return True


def is_duplicated(descriptor: Descriptor) -> bool:
    """Whether others have the same end of a pipe, where that can be asked: here it cannot."""
    return False


def reopen(descriptor: int, flags: int) -> Optional[Descriptor]:
    """A non-blocking description of the same pipe, where there can be one: here there is none."""
    return None


def has_reader(outlet: Descriptor) -> bool:
    """Whether the other end of a pipe is open, as far as can be told: here it may be."""
    return False


def block_signals() -> None:
    """Block all signals in this thread: not needed here."""


def await_end(pid: int, ended: Callable[[], bool], timeout: float) -> bool:
    """Wait until `ended()`, at most `timeout` seconds; whether it holds. Takes no thread."""
    return poll_until(ended, timeout)


def exit_code(pid: int) -> Optional[int]:
    """The exit code of a child that has ended but has not been reaped: unknown here."""
    return None


def reap(pid: int) -> bool:
    """Reap a child, if it has ended: not needed here."""
    return False


def send_signal(transport: "asyncio.SubprocessTransport", number: int) -> None:
    """Send a signal to the child of a loop, as the loop does it."""
    transport.send_signal(number)
