"""POSIX: every wait is a `poll`, so every wait can be woken.

The library's ends of its pipes are non-blocking (the flag belongs to the open file description, and
the child has the description of the other end, so the child never sees it). A pump tries first and
polls only when there is nothing to do.

Who wakes a poll. One `Wakeup` serves all threads of a process: descriptors are scarce (macOS allows
256 by default). It is level-triggered: it stays readable until every port that was rung has woken
up and answered. The argument that no ring is lost:

1. `ring` puts the port into the set of those rung, and only then makes the descriptor readable.
2. `answer` takes the port out of the set, and only if the set is empty clears the descriptor.
3. A ring may fall between the two steps of 2 and be cleared with the rest. So `answer` looks at the
   set once more, after clearing, and makes the descriptor readable again if anybody is in it.
4. A port that has been released does not answer by itself, and the others would spin. So `release`
   answers for it, after saying so; and a ring that comes later sees that, and answers as well.

Ringing takes no lock and does not block: a finalizer may do it at any line.
"""

import contextlib
import errno
import fcntl
import os
import select
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from process._descriptor import Descriptor
from process._platform import _portable
from process._polling import poll_until

if TYPE_CHECKING:
    import asyncio

spawn_options: Dict[str, Any] = {}

#: POSIX promises that a pipe that polls as writable takes at least this much at once.
_ATOMIC_WRITE: int = getattr(select, "PIPE_BUF", 512)

#: Seconds between two looks at what cannot be polled.
_LOOK_AGAIN = 0.02

_ONE = (1).to_bytes(8, sys.byteorder)

#: Bytes moved at once: to begin with, as many as a pipe holds.
_CHUNK = 64 * 1024

#: The same once the pipe was full several times in a row, and how many times.
_LARGER = 256 * 1024, 8

#: The same if all of the bytes are in memory anyway.
#:
#: The C library of GNU gives free memory back to the kernel at once if it is more than twice the
#: largest block that was ever freed (mallopt(3), M_TRIM_THRESHOLD). Chunks of `_LARGER` would have
#: to be faulted in anew, each one, if none of this size had been freed before.
_LARGEST = 1024 * 1024, 2

#: Linux, `fcntl.F_SETPIPE_SZ`, for which Python has a name from 3.10 on only.
_SET_PIPE_SIZE = 1031

#: Pipes that are large at the same time. Linux gives a user 64 pipes of 1 MiB in all, and beyond
#: that new ones of a page or two: see /proc/sys/fs/pipe-user-pages-soft.
_MOST_ENLARGED = 8

_enlarged: "Set[Port]" = set()

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def _make_pidfd(pid: int) -> Descriptor:
    """A descriptor that becomes readable when the process ends.

    Raises:
        OSError: with ENOSYS where there is no such thing.
    """
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        return Descriptor.own(os.pidfd_open, pid)
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def wait_readable(descriptor: int, timeout: float) -> bool:
    """Whether a read of `descriptor` would not block, after `timeout` seconds at the latest."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000 * timeout))


def exit_code(pid: int) -> Optional[int]:
    """The exit code of a child that has ended but has not been reaped; `None` otherwise.

    The child stays as it is: whoever is to reap it (a child watcher of asyncio) still can.

    Raises:
        ChildProcessError: it has been reaped, or is not ours.
    """
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: the loop will tell
        return None
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result is None:
        return None
    status: int = result.si_status
    return status if result.si_code == os.CLD_EXITED else -status


def reap(pid: int) -> bool:
    """Reap a child that nobody else is going to, if it has ended; whether it has.

    Raises:
        ChildProcessError: it has been reaped, or is not ours.
    """
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def send_signal(transport: "asyncio.SubprocessTransport", number: int) -> None:
    """Send a signal to the child of a loop, unless it has ended.

    Not by way of the transport. Before Python 3.13 that asks `Popen` to, which reaps a child that
    has just ended, so that the loop has to make an exit code up (gh-87744); from then on it does
    not look whether the number belongs to somebody else by now (gh-127049).

    Raises:
        ProcessLookupError: the child has ended.
        ChildProcessError: it has been reaped, too.
    """
    pid = transport.get_pid()
    if exit_code(pid) is None:
        os.kill(pid, number)


def await_end(pid: int, ended: Callable[[], bool], timeout: float) -> bool:
    """Wait until `ended()`, at most `timeout` seconds; whether it holds. Takes no thread.

    Where there is a pidfd it becomes readable; else the child is looked at again and again.
    """
    try:
        pidfd = _make_pidfd(pid)
    except OSError:  # there is none, or the child has been reaped
        return poll_until(ended, timeout)
    wait_readable(pidfd.fileno(), timeout)
    return ended()


def await_ends(
    watches: "Sequence[ExitWatch]", ports: "Sequence[Port]", timeout: float
) -> "Set[Port]":
    """Wait until one of several children has ended, or may go on, at most `timeout` seconds.

    What waits in `ports` is thrown away, so that no child is held up by it.

    Returns:
        The ports that are at their end, and need not be looked at again.
    """
    over: Set[Port] = set()
    poll = select.poll()
    for watch in watches:
        if watch.fileno() >= 0:
            poll.register(watch.fileno(), select.POLLIN)
        else:  # a thread waits for it
            timeout = min(timeout, _LOOK_AGAIN)
    numbers = {port.descriptor.fileno(): port for port in ports}
    numbers.pop(-1, None)
    for number in numbers:
        poll.register(number, select.POLLIN)
    ready = dict(poll.poll(1000 * timeout))
    for number in ready.keys() & numbers.keys():
        with contextlib.suppress(OSError):  # closed in this very moment
            if not os.read(number, _CHUNK):
                over.add(numbers[number])
    return over


class _Event:
    """A descriptor that can be read from the time it is set until it is cleared."""

    def __init__(self) -> None:
        if sys.platform == "linux" and sys.version_info >= (3, 10):
            flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
            self._read = self._write = Descriptor.own(os.eventfd, 0, flags)
        else:
            self._read, self._write = Descriptor.pipe()
            os.set_blocking(self._read.fileno(), False)
            os.set_blocking(self._write.fileno(), False)

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._read.fileno()

    def set(self) -> None:
        """Make it readable."""
        try:
            os.write(self._write.fileno(), _ONE)
        except OSError:
            pass  # full, hence readable; or closed, and then nobody waits

    def clear(self) -> None:
        """Make it unreadable."""
        try:
            os.read(self._read.fileno(), 4096)
        except OSError:
            pass  # nothing to clear


class Wakeup:
    """Wakes the threads of one process. Safe in finalizers: takes no lock and never blocks."""

    def __init__(self) -> None:
        self._rung: Set[Port] = set()
        self._event = _Event()

    def fileno(self) -> int:
        """The descriptor to poll for input."""
        return self._event.fileno()

    def ring(self, port: "Port") -> None:
        """Make the present or the next `wait` of `port` return."""
        self._rung.add(port)
        self._event.set()
        if port.released:
            self.answer(port)  # nobody else will

    def answer(self, port: "Port") -> None:
        """`port` has woken up, or will not wait any more."""
        self._rung.discard(port)
        if not self._rung:
            self._event.clear()  # unless another port has
            if self._rung:
                self._event.set()


class Port:
    """One end of a pipe, as its pump sees it."""

    #: Whether `read` and `write` block, so that a pump inside one has nothing in hand yet.
    blocking = False

    def __init__(
        self, descriptor: Descriptor, wakeup: Wakeup, watch: "ExitWatch", writing: bool
    ) -> None:
        self.descriptor = descriptor
        #: What to poll it for.
        self.ready = select.POLLOUT if writing else select.POLLIN
        self._wakeup: Optional[Wakeup] = wakeup
        self._watch: Optional[ExitWatch] = watch
        #: A caller has the descriptor, and it blocks.
        self.shared = False
        #: How many bytes to move at once.
        self.chunk = _CHUNK
        self._full = 0
        #: The pump has ended.
        self.released = False
        os.set_blocking(descriptor.fileno(), False)

    def read(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, `b""` at end of file, `None` if there is nothing yet."""
        try:
            return os.read(self.descriptor.fileno(), size)
        except BlockingIOError:
            return None

    def write(self, data: memoryview) -> Optional[int]:
        """The number of bytes written, `None` if there is no room yet."""
        if self.shared:
            # The descriptor blocks, for the caller's sake: write only what is sure to fit.
            poll = select.poll()
            poll.register(self.descriptor.fileno(), select.POLLOUT)
            if not poll.poll(0):
                return None
            data = data[:_ATOMIC_WRITE]
        try:
            return os.write(self.descriptor.fileno(), data)
        except BlockingIOError:
            return None

    def moved(self, full: bool, bulk: bool) -> None:
        """Bytes were read or written.

        Where the pipe is full again and again, it is taking turns with the child that costs time,
        and next to a busy Python thread it costs a whole switch interval a turn. A larger pipe
        makes for fewer turns.

        Args:
            full: the pipe was full, or is full now.
            bulk: all that passes through it is in memory anyway.
        """
        if not full:
            self._full = 0
            return
        larger, times = _LARGEST if bulk else _LARGER
        self._full += 1
        if self._full < times or self.chunk >= larger:
            return
        self._full = 0
        if (self in _enlarged or len(_enlarged) < _MOST_ENLARGED) and sys.platform == "linux":
            # EPERM: this user has had his share.
            with contextlib.suppress(OSError, MemoryError):
                self.chunk = fcntl.fcntl(self.descriptor.fileno(), _SET_PIPE_SIZE, larger)
                _enlarged.add(self)
                bytes(_LARGEST[0])  # see there

    def wait(self, ready: bool) -> bool:
        """Wait to be rung, or, with `ready`, for the pipe; whether the process has ended.

        Ends because: a ring makes the wake-up descriptor readable and it stays so until answered;
        the pipe becomes ready, or is hung up, when the child acts; the end of the process, reported
        once, makes its watch readable.
        """
        wakeup = self._wakeup
        assert wakeup is not None, "a pump waits before it ends"
        poll = select.poll()
        poll.register(wakeup.fileno(), select.POLLIN)
        if ready:
            poll.register(self.descriptor.fileno(), self.ready)
        watched = -1 if self._watch is None else self._watch.fileno()
        if watched >= 0:
            poll.register(watched, select.POLLIN)
        events = [descriptor for descriptor, _ in poll.poll()]
        if wakeup.fileno() in events:
            wakeup.answer(self)
        if watched in events:
            self._watch = None
            return True
        return False

    def ring(self) -> None:
        """Make the present or the next `wait` return. Safe in finalizers."""
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.ring(self)

    def release(self) -> None:
        """The pump has ended: let go of what it shares with others."""
        self.released = True
        _enlarged.discard(self)
        wakeup, self._wakeup, self._watch = self._wakeup, None, None
        if wakeup is not None:
            wakeup.answer(self)

    def pending(self) -> bool:
        """Whether bytes, or end of file, wait in the pipe."""
        return wait_readable(self.descriptor.fileno(), 0)

    def broken(self) -> bool:
        """Whether nobody reads what is written, or ever will."""
        poll = select.poll()
        poll.register(self.descriptor.fileno(), 0)  # errors are reported all the same
        return bool(poll.poll(0))

    def share(self) -> int:
        """The number of the descriptor, for the caller to use: it blocks from now on.

        Not to be called while the pump is inside `write`.
        """
        self.shared = True
        os.set_blocking(self.descriptor.fileno(), True)
        return self.descriptor.fileno()


class Hub(_portable.AnyHub[Port, "ExitWatch"]):
    """See `_portable.AnyHub`.

    It has an event of its own: while a thread that was rung takes its time to answer, the wake-up
    stays readable, and who drives would spin.
    """

    def __init__(self) -> None:
        self._event = _Event()
        #: What the poll object is prepared for; `None`: for nothing, not even to be rung.
        self._polled: Optional[Tuple[Tuple[Port, ...], int]] = None
        self._poll = select.poll()
        self._numbers: Dict[int, Port] = {}

    def wait(
        self, ports: Tuple[Port, ...], timeout: float, watch: "Optional[ExitWatch]"
    ) -> Tuple[List[Port], bool]:
        # Ends for the reasons that `Port.wait` does.
        watched = -1 if watch is None else watch.fileno()
        if self._polled != (ports, watched):
            self._prepare(ports, watched)
        events = self._poll.poll(1000 * timeout)
        numbers = self._numbers
        ready = [numbers[number] for number, _ in events if number in numbers]
        if len(ready) == len(events):
            return ready, False
        others = {number for number, _ in events}
        if self._event.fileno() in others:
            self._event.clear()
        return ready, watched in others

    def _prepare(self, ports: Tuple[Port, ...], watched: int) -> None:
        self._polled = None  # in case that an exception strikes in the middle
        # One that is closed already was closed by a signal handler, just now: then we are rung.
        numbers = {port.descriptor.fileno(): port for port in ports}
        numbers.pop(-1, None)
        self._numbers = numbers
        self._poll = select.poll()
        self._poll.register(self._event.fileno(), select.POLLIN)
        if watched >= 0:
            self._poll.register(watched, select.POLLIN)
        for number, port in self._numbers.items():
            self._poll.register(number, port.ready)
        self._polled = ports, watched

    def ring(self) -> None:
        self._event.set()


def make_hub() -> Optional[Hub]:
    """The hub of a process.

    Raises:
        OSError: there is no descriptor left.
    """
    return Hub()


class ExitWatch:
    """The end of a child: a pidfd where the kernel has one, else a thread that waits.

    See `_portable.ExitWatch`. With a pidfd, `ended` is left to whoever polls it.
    """

    def __init__(self, pid: int, wait: Callable[[], object], ended: Callable[[], None]) -> None:
        self._pidfd: Optional[Descriptor] = None
        self._thread: Optional[_portable.ExitWatch] = None
        try:
            # Not reaped yet, so the number cannot belong to another process.
            self._pidfd = _make_pidfd(pid)
        except ProcessLookupError:
            # SIGCHLD is ignored: the kernel has reaped it already. `Popen.poll` copes with that.
            ended()
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                raise
            self._thread = _portable.ExitWatch(pid, wait, ended)

    def fileno(self) -> int:
        """A descriptor that is readable once the process has ended, or -1."""
        return -1 if self._pidfd is None else self._pidfd.fileno()

    def wait(self, timeout: float) -> None:
        """Return when the process has ended or `timeout` seconds have passed.

        Ends because the pidfd becomes readable when the process ends, and stays so.
        """
        if self._thread is not None:
            self._thread.wait(timeout)
        elif self._pidfd is not None:
            wait_readable(self._pidfd.fileno(), timeout)
