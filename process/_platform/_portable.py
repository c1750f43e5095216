"""Pipes and child processes with nothing but what every platform has.

A read or a write blocks, and closing the descriptor would not wake it (the number might even be
reused): a thread that is stuck in one ends by itself, when the other end of the pipe closes. It is
a daemon thread on a raw descriptor, so it neither delays nor aborts the exit of the interpreter.
"""

import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from process._descriptor import Descriptor
from process._polling import poll_until

if TYPE_CHECKING:
    import asyncio
    import subprocess

spawn_options: Dict[str, Any] = {}


class PipeEnd:
    """The library's end of a pipe of the child."""

    #: Whether reads and writes return at once, and waits can be woken.
    pollable = False

    def __init__(self, descriptor: Descriptor, writing: bool) -> None:
        self.descriptor = descriptor
        #: How many bytes to move at once.
        self.chunk = 64 * 1024
        #: Whether there is known to be nothing left to be read.
        self.hung_up = False

    @classmethod
    def reopened(cls) -> "PipeEnd":
        """An end for a pipe that is closed already, with nothing left but to be woken."""
        return cls(Descriptor(), writing=False)

    def read(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, `b""` at end of file, `None` if there is nothing yet."""
        return os.read(self.descriptor.fileno(), size)

    def write(self, data: memoryview) -> Optional[int]:
        """The number of bytes written, `None` if there is no room yet."""
        return os.write(self.descriptor.fileno(), data[:65536])

    def can_write_directly(self) -> bool:
        """Whether a caller may write to the pipe: here it would block."""
        return False

    def moved(self, full: bool, bulk: bool) -> None:
        """Bytes were read or written: here the pipe stays as it is."""

    def wait(
        self, watch: "Optional[ExitWatch]", timeout: Optional[float], ready: bool = True
    ) -> bool:
        """Wait for the pipe: here the read or the write does that."""
        return False

    def wait_relay(
        self, outlet: Descriptor, read: bool, write: bool, watch: "Optional[ExitWatch]"
    ) -> Tuple[bool, bool, bool, bool]:
        """See `_posix.PipeEnd.wait_relay`: here the read and the write wait."""
        return read, write, False, False

    def wake(self) -> None:
        """Make the present or the next `wait` return. Safe in finalizers."""

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
    """The end of a child. A thread waits for it and reaps it.

    Raises:
        RuntimeError: a thread cannot be started.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._ended = threading.Event()
        self._callback: Optional[Callable[[], None]] = None
        name = f"process-{popen.pid}-exit"
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    def _watch(self) -> None:
        self._popen.wait()
        self._ended.set()
        callback = self._callback
        if callback is not None:
            callback()

    def notify(self, callback: Callable[[], None]) -> None:
        """Call `callback`, once or twice, in any thread, when the child has ended."""
        self._callback = callback
        if self._ended.is_set():
            callback()

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended."""
        return self._popen.poll()

    def fileno(self) -> int:
        """A descriptor that is readable once the child has ended, or -1 if there is none."""
        return -1

    def wait(self, timeout: float) -> None:
        """Return when the child has ended, or after `timeout` seconds."""
        self._ended.wait(timeout)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended.

        Raises:
            PermissionError: it has taken rights that forbid it.
        """
        self._popen.send_signal(number)

    def release(self) -> None:
        """See that the child, which has ended, is reaped: the thread does that."""
        self._callback = None


def reopen(descriptor: int, flags: int) -> Optional[Descriptor]:
    """A non-blocking description of the same pipe, where there can be one: here there is none."""
    return None


def has_reader(outlet: Descriptor) -> bool:
    """Whether the other end of a pipe is open, as far as can be told: here it may be."""
    return False


def block_signals() -> None:
    """Let no signal be delivered to this thread: there is nothing to be done here."""


def await_end(pid: int, ended: Callable[[], bool], timeout: float) -> bool:
    """Wait until `ended()`, at most `timeout` seconds; whether it holds. Takes no thread."""
    return poll_until(ended, timeout)


def exit_code(pid: int) -> Optional[int]:
    """The exit code of a child that has ended but has not been reaped: here, no way to know."""
    return None


def reap(pid: int) -> bool:
    """Reap a child, if it has ended: here nobody has to."""
    return False


def send_signal(transport: "asyncio.SubprocessTransport", number: int) -> None:
    """Send a signal to the child of a loop, as the loop does it."""
    transport.send_signal(number)
