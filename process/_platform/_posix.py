"""POSIX: a wait for a pipe is a `poll`, so it can be woken.

The library's ends of its pipes are non-blocking (the flag belongs to the open file description, and
the child has the description of the other end, so the child never sees it). Each `PipeEnd` has a
wake-up descriptor of its own, which is polled together with the pipe and cleared by the thread that
polls.

The exit of the child is watched by a pidfd where the kernel has one, otherwise by a thread. Where
`waitid` exists, the exit code is read without reaping the child (`WNOWAIT`), so an interrupted read
loses nothing. It is stored in the `Popen`, and then the child is reaped, since `Popen` neither
waits for nor signals a child whose code it has.

What the system and the interpreter support is probed at each use: a program may have removed
`select.poll` (eventlet does: its `select.select` lets the other green threads run).
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
import weakref
from collections import deque
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    Dict,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
)

from process._descriptor import Descriptor
from process._platform import _exit
from process._polling import poll_until

if TYPE_CHECKING:
    import asyncio
    import subprocess

spawn_options: Dict[str, Any] = {}

#: `os` without types: for names that some systems lack, which is checked where they are used.
_os: Any = os

#: POSIX promises that a pipe that polls as writable takes at least this much at once.
_ATOMIC_WRITE: int = getattr(select, "PIPE_BUF", 512)

#: The events of poll(2), which are the same on Linux, macOS and BSD.
_IN: int = getattr(select, "POLLIN", 1)
_OUT: int = getattr(select, "POLLOUT", 4)
_ERROR: int = getattr(select, "POLLERR", 8)
_HUNG_UP: int = getattr(select, "POLLHUP", 16)

_ONE = (1).to_bytes(8, sys.byteorder)

#: Bytes moved at once: to begin with, as many as a pipe holds.
_CHUNK = 64 * 1024

#: Bytes moved at once when the pipe was full so many times in a row, and how many times that is.
_LARGER = 256 * 1024, 8

#: The same for a bulk read or write (see `moved`).
#:
#: The GNU C library returns free memory to the kernel at once if it is more than twice the largest
#: block that was ever freed (mallopt(3), M_TRIM_THRESHOLD). Each chunk of `_LARGER` would be
#: faulted in anew if no block of `_LARGEST` had been freed before.
_LARGEST = 1024 * 1024, 2

#: Linux, `fcntl.F_SETPIPE_SZ`, which Python names from 3.10 on.
_SET_PIPE_SIZE = 1031

#: At most so many pipes are large at a time. Linux gives a user 64 pipes of 1 MiB in all, and
#: beyond that new ones of a page or two: see /proc/sys/fs/pipe-user-pages-soft.
_MOST_ENLARGED = 8

_enlarged: "Set[PipeEnd]" = set()

#: Those that nobody waits for any more, as long as they have not been freed.
_idle_events: "Deque[weakref.ref[_Event]]" = deque()

#: The descriptor of a closed pipe.
_CLOSED = Descriptor()

#: The functions of `signal` without the enumerations, which take ten times as long.
_get_signal: Callable[[int], Any] = getattr(signal, "_signal", signal).getsignal
_set_mask: Callable[[int, Any], Any] = getattr(signal, "_signal", signal).pthread_sigmask
_BLOCK = int(signal.SIG_BLOCK)
_UNBLOCK = int(signal.SIG_UNBLOCK)
_SIGPIPE = int(signal.SIGPIPE)
_ONLY_SIGPIPE = frozenset({_SIGPIPE})
_IGNORED = int(signal.SIG_IGN)

_ALL_SIGNALS = frozenset(map(int, signal.valid_signals()))

_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

#: Seconds that a thread inside `Popen.wait` has to reap a child that is known to have ended.
_REAPING = 0.1


def _make_pidfd(pid: int) -> Descriptor:
    """A descriptor that becomes readable when the process ends.

    Raises:
        OSError: with ENOSYS where there is no such thing.
    """
    if hasattr(os, "pidfd_open"):
        return Descriptor.own(os.pidfd_open, pid)
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _poll(wanted: Dict[int, int], timeout: Optional[float] = None) -> Dict[int, int]:
    """Wait for events of descriptors, errors among them, for `timeout` seconds at the longest.

    Without `select.poll` this uses `select`, for which a writing end is readable if and only if
    there is no reader, and which cannot wait for descriptors above 1023.
    """
    if not hasattr(select, "poll"):
        targets = [number for number, events in wanted.items() if events == _OUT]
        readable, writable, _ = select.select(list(wanted), targets, [], timeout)
        found = dict.fromkeys(writable, _OUT)
        for number in readable:
            found[number] = _IN if wanted[number] == _IN else _ERROR
        return found
    poll = select.poll()
    for number, events in wanted.items():
        poll.register(number, events)
    return dict(poll.poll(None if timeout is None else 1000 * timeout))


def wait_readable(descriptor: int, timeout: float) -> bool:
    """Whether a read of `descriptor` would not block, after `timeout` seconds at the latest."""
    return bool(_poll({descriptor: _IN}, timeout))


def exit_code(pid: int) -> Optional[int]:
    """The exit code of a child that has ended but has not been reaped; `None` while it runs.

    The child stays as it is: it can still be reaped, by a child watcher of asyncio for example.

    Raises:
        ChildProcessError: it has been reaped, or is not ours.
    """
    if not hasattr(os, "waitid"):  # macOS before 3.13, PyPy: the loop will tell
        return None
    return _peek(os.P_PID, pid)


def _peek(kind: int, number: int, flags: int = os.WNOHANG) -> Optional[int]:
    result = _os.waitid(kind, number, os.WEXITED | os.WNOWAIT | flags)
    if result is None:
        return None
    status: int = result.si_status
    return status if result.si_code == os.CLD_EXITED else -status


def send_signal(transport: "asyncio.SubprocessTransport", number: int) -> None:
    """Send a signal to the child of a loop, unless it has ended.

    Not by way of the transport. Before Python 3.13 that asks `Popen`, which reaps a child that has
    just ended; the loop then has to invent an exit code (gh-87744). From then until recent releases
    of 3.14 it does not check whether the pid belongs to another process by now (gh-127049).

    Raises:
        ProcessLookupError: the child has ended.
        ChildProcessError: it has been reaped, too.
    """
    pid = transport.get_pid()
    if exit_code(pid) is None:
        os.kill(pid, number)


def await_end(pid: int, ended: Callable[[], bool], timeout: float) -> bool:
    """Wait until `ended()`, at most `timeout` seconds. Return whether it holds. Takes no thread.

    Where there is a pidfd it becomes readable; else the child is checked repeatedly.
    """
    try:
        pidfd = _make_pidfd(pid)
    except OSError:  # there is none, or the child has been reaped
        return poll_until(ended, timeout)
    wait_readable(pidfd.fileno(), timeout)
    return ended()


def block_signals() -> None:
    """Let no signal be delivered to this thread, SIGPIPE included."""
    _set_mask(_BLOCK, _ALL_SIGNALS)


def reopen(descriptor: int, flags: int) -> Optional[Descriptor]:
    """A separate, non-blocking open file description of the same pipe, if possible."""
    try:
        return Descriptor.own(os.open, f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK)
    except OSError:
        return None


def read_at_once(descriptor: int, size: int, pieces: "Deque[bytes]") -> None:
    """Read at most `size` bytes, without waiting, by a descriptor whose reads wait.

    `pieces` is extended within the call into C that reads.

    Raises:
        BlockingIOError: there is nothing.
    """
    if hasattr(os, "RWF_NOWAIT"):
        buffer = bytearray(size)
        counts = map(os.preadv, (descriptor,), ((buffer,),), (-1,), (os.RWF_NOWAIT,))
        try:
            pieces.extend(map(bytes, map(memoryview(buffer).__getitem__, map(slice, counts))))
            return
        except BlockingIOError:
            raise
        except OSError:
            pass  # before Linux 6.4 it is not for pipes
    if not wait_readable(descriptor, 0):
        raise BlockingIOError
    # If another reader of the pipe has been quicker, this waits until more is relayed.
    pieces.extend(map(os.read, (descriptor,), (size,)))


def make_pipe(size: int) -> Tuple[Descriptor, Descriptor]:
    """The ends of a pipe to relay into: to read, and to write to, which does not block.

    Args:
        size: how many bytes it is to hold, where that can be chosen: here what does not fit waits.
    """
    read, write = Descriptor.pipe()
    os.set_blocking(write.fileno(), False)
    return read, write


def relay_write(outlet: Descriptor, data: memoryview) -> Iterator[int]:
    """An iterator of one item: to fetch it writes `data` to such a pipe, and gives the count.

    Both happen in one call into C, so no signal handler runs in between. What follows is raised by
    the fetch.

    Raises:
        BlockingIOError: there is no room; on Windows the count is 0 then.
        OSError: there is no reader.
    """
    return map(os.write, (outlet.fileno(),), (data,))


def writes_raise_signals() -> bool:
    """Whether a write of this thread to a pipe without a reader raises SIGPIPE.

    It does if the program has restored the default action, or handles the signal.
    """
    return bool(_get_signal(_SIGPIPE) != _IGNORED)


def write_without_signal(descriptor: int, data: memoryview, counts: List[int]) -> None:
    """Write to a pipe, and raise no SIGPIPE in this thread.

    A write raises the signal for the thread that writes. So it is blocked here, and taken back if
    it is pending after the write, before it is unblocked.

    Args:
        descriptor: of the pipe, which does not block.
        data: the bytes.
        counts: extended by the number of bytes written, in the call into C that writes them.

    Raises:
        BlockingIOError: there is no room.
        OSError: there is no reader.
    """
    if _SIGPIPE in _set_mask(_BLOCK, ()):
        counts.extend(map(os.write, (descriptor,), (data,)))
        return  # the program has blocked it
    try:
        _set_mask(_BLOCK, _ONLY_SIGPIPE)
        counts.extend(map(os.write, (descriptor,), (data,)))
    finally:
        try:
            _unblock_sigpipe()
        finally:
            _unblock_sigpipe()  # an exception may have struck in the middle of that


def _unblock_sigpipe() -> None:
    if hasattr(signal, "sigtimedwait"):
        signal.sigtimedwait(_ONLY_SIGPIPE, 0)
    elif _SIGPIPE in signal.sigpending():  # macOS
        signal.sigwait(_ONLY_SIGPIPE)
    _set_mask(_UNBLOCK, _ONLY_SIGPIPE)


def is_blocking(descriptor: int) -> bool:
    """Whether reads of a descriptor wait for bytes; a caller may have changed that."""
    return os.get_blocking(descriptor)


def is_duplicated(descriptor: Descriptor) -> bool:
    """Whether others have the same end of a pipe, where that can be asked: here it cannot."""
    return False


def has_reader(outlet: Descriptor) -> bool:
    """Whether the other end of a pipe, of which this is the end to write to, is open."""
    return not _poll({outlet.fileno(): 0}, 0)  # errors are reported all the same


class _Event:
    """A descriptor that can be read from the time it is set until it is cleared.

    It may be set at any time, in finalizers too, so it is not closed but left to be freed. Where
    references are not counted that may take a thousand processes; until then it is used again.
    """

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            flags = _os.EFD_NONBLOCK | _os.EFD_CLOEXEC
            self._read = self._write = Descriptor.own(_os.eventfd, 0, flags)
        else:
            self._read, self._write = Descriptor.pipe()
            os.set_blocking(self._read.fileno(), False)
            os.set_blocking(self._write.fileno(), False)

    @classmethod
    def take(cls) -> "_Event":
        """One that is new, or as good as new.

        Raises:
            OSError: there is no descriptor left.
        """
        while True:
            try:
                event = _idle_events.pop()()
            except IndexError:
                return cls()
            if event is not None and event.fileno() >= 0:  # a fork has closed it
                event.clear()
                return event

    def give_back(self) -> None:
        """Nobody waits for it any more. It may still be set: that wakes a wait for nothing."""
        _idle_events.append(weakref.ref(self))

    def fileno(self) -> int:
        return self._read.fileno()

    def set(self) -> None:
        try:
            os.write(self._write.fileno(), _ONE)
        except OSError:
            pass  # full, hence readable; or closed, and then nothing polls it

    def clear(self) -> None:
        try:
            os.read(self._read.fileno(), 4096)
        except OSError:
            pass  # nothing to clear


class PipeEnd:
    """The library's end of a pipe of the child.

    `wait` and `wake` may be called from any thread, `wake` also from finalizers. The rest needs the
    claim, or the lock of the monitor for what does not block.
    """

    #: Whether reads and writes return at once, and waits can be woken.
    pollable = True

    #: How many bytes a pipe takes as a whole or not at all.
    atomic = _ATOMIC_WRITE

    def __init__(self, descriptor: Descriptor, writing: bool) -> None:
        #: `_CLOSED` once the pipe is closed.
        self.descriptor = descriptor
        self._writing = writing
        #: Wakes the present owner of the claim; nothing once the pipe is closed.
        self.event: Optional[_Event] = _Event.take()
        #: The descriptor blocks, because a caller or another process shares it.
        self.blocks = False
        #: What was given to callers, if it is not `descriptor`.
        self._given: Optional[Descriptor] = None
        #: How many bytes to move at once.
        self.chunk = _CHUNK
        #: The last `wait` has found the other end closed, and nothing left to be read.
        self.hung_up = False
        #: What was `descriptor` when the pipe was closed, if a caller was to close it.
        self._left = _CLOSED
        self._full = 0
        if descriptor.fileno() >= 0:
            os.set_blocking(descriptor.fileno(), False)

    def read(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, `b""` at end of file, `None` if there is nothing yet."""
        if self.blocks and not self.pending():
            return None
        try:
            return os.read(self.descriptor.fileno(), size)
        except BlockingIOError:
            return None

    def write(self, data: memoryview) -> Optional[int]:
        """The number of bytes written, `None` if there is no room yet."""
        if self.blocks:
            # Write only what is sure to fit.
            if not _poll({self.descriptor.fileno(): _OUT}, 0):
                return None
            data = data[:_ATOMIC_WRITE]
        try:
            return os.write(self.descriptor.fileno(), data)
        except BlockingIOError:
            return None

    def can_write_directly(self) -> bool:
        """Whether a caller may write to the pipe, in a thread where signals are delivered.

        Not where that could raise SIGPIPE: `writes_raise_signals`, without a call, as this is asked
        for each write.
        """
        return not self.blocks and _get_signal(_SIGPIPE) == _IGNORED

    def moved(self, full: bool, bulk: bool) -> None:
        """Bytes were read or written.

        If the pipe is full repeatedly, the context switches cost time, and next to a busy Python
        thread each costs a whole switch interval. A larger pipe saves some of them.

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
            # EPERM: this user has used up its share.
            with contextlib.suppress(OSError, MemoryError):
                self.chunk = fcntl.fcntl(self.descriptor.fileno(), _SET_PIPE_SIZE, larger)
                _enlarged.add(self)
                bytes(_LARGEST[0])  # raises the trim threshold, see `_LARGEST`

    def wait(
        self,
        watch: "Optional[ExitWatch]",
        timeout: Optional[float],
        event: Optional[_Event] = None,
    ) -> bool:
        """Wait until the pipe is ready, the child exits or `wake` is called.

        Return whether the child is known to have exited; without a pidfd it is not known here.

        Args:
            watch: for the child, unless its end is known.
            timeout: in seconds; `None`: no limit.
            event: what wakes this wait, if it is one of a caller, which may have been evicted.
        """
        descriptor = self.descriptor  # so it stays open
        number = descriptor.fileno()
        wanted = {} if number < 0 else {number: _OUT if self._writing else _IN}
        try:
            events, ended = self._wait(wanted, watch, timeout, event or self.event)
        finally:
            if self.event is None:  # closed, perhaps before this began, and left to this caller
                self.close_left()
        if number in events:
            self.hung_up = events[number] == _HUNG_UP
        return ended

    def _wait(
        self,
        wanted: Dict[int, int],
        watch: "Optional[ExitWatch]",
        timeout: Optional[float],
        event: Optional[_Event],
    ) -> Tuple[Dict[int, int], bool]:
        """`wait` for any descriptors: return their events, and whether the child has exited.

        This ends because a wake-up makes the event readable, and it stays so until cleared here;
        a pipe becomes ready, or is hung up, when the child acts; the end of the child makes its
        pidfd readable.
        """
        if event is None:
            return {}, False
        wanted[event.fileno()] = _IN
        watched = -1 if watch is None else watch.fileno()
        if watched >= 0:
            wanted[watched] = _IN
        events = _poll(wanted, timeout)
        if event.fileno() in events:
            event.clear()
            if event is not self.event:  # an interrupted call may wait for it, too
                event.set()
        return events, watched in events

    def evict(self) -> None:
        """Make each `wait` for the present event return, now and later, and no other one.

        The thread that takes the pipe over has another event.

        Raises:
            OSError: there is no descriptor left for another one.
        """
        event, self.event = self.event, _Event.take()
        self.wake()  # a wake-up that came before this was for the thread, too
        if event is not None:
            event.set()

    def wait_relay(
        self, outlet: Descriptor, read: bool, write: bool, watch: "Optional[ExitWatch]"
    ) -> Tuple[bool, bool, bool, bool]:
        """`wait` for a thread that moves bytes from this pipe into `outlet`.

        Args:
            outlet: the end to write to of another pipe.
            read: whether to wait for bytes in this pipe.
            write: whether to wait for room in `outlet`.
            watch: for the child, unless its end is known.

        Returns:
            Whether this pipe can be read; whether `outlet` can be written; whether `outlet` has no
            reader any more; whether the child has ended.
        """
        number, source = outlet.fileno(), self.descriptor.fileno()
        if number < 0:
            return False, False, False, False  # closed by a caller, at this very moment
        wanted = {number: _OUT if write else 0}
        if read:
            wanted[source] = _IN
        events, ended = self._wait(wanted, watch, None, self.event)
        state = events.get(number, 0)
        readable = source in events
        if readable and hasattr(os, "sched_yield"):
            # Woken by the first page. Yield, so that a writer on the same core can fill the pipe,
            # and bytes are moved in few large pieces.
            os.sched_yield()
        return readable, bool(state & _OUT), bool(state & ~_OUT), ended

    def block(self, copy: Descriptor) -> None:
        """Reads block from now on, by this end and by its copy: both have one description."""
        self.blocks = True
        os.set_blocking(copy.fileno(), True)

    def unblock(self) -> None:
        """The copy has not been handed over: reads return at once again."""
        number = self.descriptor.fileno()
        if number >= 0:
            os.set_blocking(number, False)
        self.blocks = False

    def stop_blocking(self) -> None:
        """Let reads return at once: here they always do."""

    def relayed(self) -> None:
        """Bytes were moved into the outlet of a relay: `wait_relay` notices by itself."""

    def wake(self) -> None:
        """Make the present or the next `wait` return. Safe in finalizers."""
        event = self.event
        if event is not None:
            event.set()

    def pending(self) -> bool:
        """Whether bytes, or end of file, wait in the pipe."""
        return wait_readable(self.descriptor.fileno(), 0)

    def found_empty(self) -> bool:
        """Whether nothing waits in the pipe, if `pending` has not found anything: it is sure."""
        return True

    def broken(self) -> bool:
        """Whether the other end is closed."""
        return not has_reader(self.descriptor)

    def share(self) -> int:
        """The number of a descriptor, which blocks, for a caller to write to.

        If the pipe can be opened again, the library uses a separate non-blocking description from
        then on.
        """
        if self._given is not None:
            return self._given.fileno()
        number = self.descriptor.fileno()
        own = reopen(number, os.O_WRONLY)
        if own is None:
            self.blocks = True
            os.set_blocking(number, True)
            return number
        self._given, self.descriptor = self.descriptor, own
        os.set_blocking(number, True)
        return number

    def close(self, in_use: bool = False) -> None:
        """Close the pipe and its wake-up descriptor.

        Args:
            in_use: a caller may be about to poll the pipe; it is closed when that wait ends, or
                by `close_left`.
        """
        _enlarged.discard(self)
        event, self.event = self.event, None
        descriptor, self.descriptor = self.descriptor, _CLOSED
        if not in_use:
            descriptor.close()
            if event is not None:
                event.give_back()
        else:
            self._left = descriptor
            if event is not None:
                event.set()
        if self._given is not None:
            self._given.close()

    def close_left(self) -> None:
        """Close what was left to a caller, which is away. Safe in finalizers."""
        self._left.close()


class Reaper:
    """What the `Popen` of a child does otherwise than usual: it stores the code, and reaps then.

    `Popen` reaps the child first. A handler of SIGCHLD runs in between, as a rule, and then nobody
    could tell it the code; nor another thread that asks, or that would reap the child, too.
    """

    pid: int
    returncode: Optional[int]
    _waitpid_lock: Any

    def _try_wait(self, wait_flags: int) -> Tuple[int, int]:
        base: Any = super()
        if hasattr(os, "waitid"):
            # With an error the base class finds out that the child is not there any more.
            with contextlib.suppress(ChildProcessError):
                code = _peek(os.P_PID, self.pid, wait_flags & os.WNOHANG)
                if code is None:
                    return 0, 0
                if self.returncode is None:
                    self.returncode = code
        result: Tuple[int, int] = base._try_wait(wait_flags)
        return result

    def _handle_exitstatus(self, *arguments: Any) -> None:
        if self.returncode is None:
            base: Any = super()
            base._handle_exitstatus(*arguments)

    def _internal_poll(self, *_: Any, **__: Any) -> Optional[int]:
        """What `_wait` does, once and without waiting; if another thread is at it, nothing."""
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


class ExitWatch(_exit.ExitWatch):
    """The exit of a child: a pidfd where the kernel has one, else a thread that waits.

    Raises:
        OSError: there is no descriptor left.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        super().__init__(popen)
        self._pidfd: Optional[Descriptor] = None
        #: There is no pidfd, but a child.
        self._threaded = False
        self._reaped = False
        try:
            # If this is not our child any more (SIGCHLD is ignored), `_peek` says so.
            pidfd = _make_pidfd(popen.pid)
            _peek(_os.P_PIDFD, pidfd.fileno())
            self._pidfd = pidfd
        except (ProcessLookupError, ChildProcessError):
            self._ended = True  # SIGCHLD is ignored: the kernel has reaped it already, see `look`
        except (OSError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS:
                raise
            self._threaded = True

    def start(self) -> None:
        if self._threaded:
            super().start()

    def _await_end(self) -> None:
        """Wait for the end; the thread reaps the child only where there is no other way."""
        block_signals()
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # reaped already
                _os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._popen.wait()

    def notify(self, callback: Callable[[], None]) -> None:
        if self._pidfd is None:  # else it is left to the threads that poll it
            super().notify(callback)

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended. It is reaped, too, unless `Popen` is doing that.

        Every step can be interrupted and done again.
        """
        popen = self._popen
        if not hasattr(os, "waitid"):
            # The thread stores it. `Popen.poll` would take a lock of `Popen`, for which that thread
            # waits, and which a signal handler that raises may leave locked.
            self._reaped = popen.returncode is not None
            return popen.returncode
        if popen.returncode is None:
            try:
                code = self._peek_code()
            except ChildProcessError:
                # Reaped: by another thread inside `Popen`, which has stored the code before, see
                # `Reaper`; or by the kernel, since SIGCHLD is ignored, and then `Popen`, too,
                # says 0.
                code = 0
            if code is None:
                return None
            if popen.returncode is None:
                popen.returncode = code
        if not self._reaped:
            lock = getattr(popen, "_waitpid_lock", None)
            # A thread inside `Popen.wait` is about to reap it, and takes an error for the code 0.
            if lock is None or not lock.locked():
                self._reap()
        return popen.returncode

    def _peek_code(self) -> Optional[int]:
        pidfd = self._pidfd
        if pidfd is not None:
            return _peek(_os.P_PIDFD, pidfd.fileno())
        if self._threaded:
            return _peek(os.P_PID, self._popen.pid)
        return 0

    def _reap(self) -> None:
        pidfd = self._pidfd
        with contextlib.suppress(ChildProcessError):  # reaped already
            if pidfd is not None:
                _os.waitid(_os.P_PIDFD, pidfd.fileno(), os.WEXITED | os.WNOHANG)
            elif self._threaded and hasattr(os, "waitid"):
                _os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG)
        self._reaped = True

    def fileno(self) -> int:
        pidfd = self._pidfd
        return -1 if pidfd is None else pidfd.fileno()

    def wait(self, timeout: float) -> None:
        pidfd = self._pidfd
        if pidfd is not None:
            wait_readable(pidfd.fileno(), timeout)  # it stays readable from the end of the child on
        else:
            super().wait(timeout)

    def send_signal(self, number: int) -> None:
        pidfd = self._pidfd  # another thread may release it at any time
        if self.look() is None:
            with contextlib.suppress(ProcessLookupError):
                if pidfd is not None and hasattr(signal, "pidfd_send_signal"):
                    signal.pidfd_send_signal(pidfd.fileno(), number)
                else:
                    os.kill(self._popen.pid, number)

    def release(self) -> None:
        """See that the child, which has ended, is reaped, whatever has become of `Popen`'s lock."""
        super().release()
        if self.look() is not None:
            if not poll_until(lambda: self.look() is not None and self._reaped, _REAPING):
                self._reap()
            self._pidfd = None
