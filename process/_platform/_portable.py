"""Pipes and child processes with nothing but what every platform has.

A read or a write blocks, and closing the descriptor under it would not wake it (the number might
even be reused): a pump that is stuck in one is left to end by itself, when the other end of the
pipe closes. It is a daemon thread on a raw descriptor, so it neither holds up nor aborts the exit
of the interpreter.
"""

import os
import threading
from abc import ABC, abstractmethod
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Generic,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from process._descriptor import Descriptor
from process._polling import poll_until

if TYPE_CHECKING:
    import asyncio

spawn_options: Dict[str, Any] = {}

P = TypeVar("P")
W = TypeVar("W")


class Wakeup:
    """What the ports of a process share to be woken by: here each has a bell of its own."""


class Port:
    """One end of a pipe, as its pump sees it."""

    #: Whether `read` and `write` block, so that a pump inside one has nothing in hand yet.
    blocking = True
    #: Whether only a caller who has the descriptor could make it block.
    shared = False

    def __init__(
        self, descriptor: Descriptor, wakeup: Wakeup, watch: "ExitWatch", writing: bool
    ) -> None:
        self.descriptor = descriptor
        #: How many bytes to move at once.
        self.chunk = 64 * 1024
        self._bell = threading.Lock()
        self._bell.acquire()

    def read(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, `b""` at end of file, `None` if there is nothing yet."""
        return os.read(self.descriptor.fileno(), size)

    def write(self, data: memoryview) -> Optional[int]:
        """The number of bytes written, `None` if there is no room yet."""
        return os.write(self.descriptor.fileno(), data[:65536])

    def moved(self, full: bool, bulk: bool) -> None:
        """Bytes were read or written: here the pipe stays as it is."""

    def wait(self, ready: bool) -> bool:
        """Wait to be rung, or, with `ready`, for the pipe; whether the process has ended."""
        if not ready:
            self._bell.acquire()
        return False

    def ring(self) -> None:
        """Make the present or the next `wait` return. Safe in finalizers."""
        try:
            self._bell.release()
        except RuntimeError:
            pass  # rung before, and not yet heard

    def release(self) -> None:
        """The pump has ended: there is nothing shared."""

    def pending(self) -> bool:
        """Whether bytes wait in the pipe, as far as can be told without reading them."""
        return False

    def broken(self) -> bool:
        """Whether nobody reads what is written, as far as can be told without writing."""
        return False

    def share(self) -> int:
        """The number of the descriptor, for the caller to use."""
        return self.descriptor.fileno()


class ExitWatch:
    """The end of a child: a thread waits for it.

    Args:
        pid: the process id of the child, which has not been reaped.
        wait: blocks until the child has ended.
        ended: is called, in any thread, when it has.
    """

    def __init__(self, pid: int, wait: Callable[[], object], ended: Callable[[], None]) -> None:
        self._over = threading.Event()

        def watch() -> None:
            wait()
            self._over.set()
            ended()

        threading.Thread(target=watch, name=f"process-{pid}-exit", daemon=True).start()

    def wait(self, timeout: float) -> None:
        """Return when the process has ended or `timeout` seconds have passed."""
        self._over.wait(timeout)


class AnyHub(ABC, Generic[P, W]):
    """Several ports of one process, waited for at once by a caller.

    There is none here: where reads block, each pipe needs a thread.
    """

    @abstractmethod
    def wait(
        self, ports: Tuple[P, ...], timeout: float, watch: Optional[W]
    ) -> Tuple[List[P], bool]:
        """Wait to be rung, for one of the ports, for `timeout` seconds, or for the process to end.

        One caller at a time. The end of the process counts if there is a `watch` for it.

        Returns:
            The ports that are ready, and whether the process has ended.
        """

    @abstractmethod
    def ring(self) -> None:
        """Make the present or the next `wait` return. Safe in finalizers."""


Hub = AnyHub[Port, ExitWatch]


def make_hub() -> Optional[Hub]:
    """The hub of a process, where there can be one."""
    return None


def await_end(pid: int, ended: Callable[[], bool], timeout: float) -> bool:
    """Wait until `ended()`, at most `timeout` seconds; whether it holds. Takes no thread."""
    return poll_until(ended, timeout)


def await_ends(watches: Sequence[ExitWatch], ports: Sequence[Port], timeout: float) -> Set[Port]:
    """Wait until one of several children has ended, at most `timeout` seconds.

    Args:
        watches: one for each of the children.
        ports: pipes from which nobody reads; here each has a thread, and there are none.
        timeout: in seconds.

    Returns:
        The ports that are at their end.
    """
    for watch in watches[:1]:
        watch.wait(timeout)
    return set()


def exit_code(pid: int) -> Optional[int]:
    """The exit code of a child that has ended but has not been reaped: here, no way to know."""
    return None


def reap(pid: int) -> bool:
    """Reap a child, if it has ended: here nobody has to."""
    return False


def send_signal(transport: "asyncio.SubprocessTransport", number: int) -> None:
    """Send a signal to the child of a loop, as the loop does it."""
    transport.send_signal(number)
