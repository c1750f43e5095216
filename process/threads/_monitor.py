"""The monitor of one process: a lock, and those who wait for what it guards to change.

Theory of operation. One lock guards the pure state (`core`) of all streams of a process. It is held
for a few assignments, the copy of one chunk or a system call that does not block; never across one
that may block, never across a call into the caller's code.

1. *Waiting.* A caller that has to wait makes a `Waiter`, which is a lock to sleep on and a
   condition. It registers it under the monitor's lock, leaves the lock, and sleeps. Every change is
   made under the lock and followed by `notify`, which wakes the waiters whose condition holds by
   then. So a change cannot fall between looking and sleeping.
2. *Ends of waits.* A waiter is known to others by weak reference only. When an exception ends the
   call that has made it, the wait is over, whether the caller gets to say so or not.
3. *Looking again.* No caller sleeps longer than `LOOK_AGAIN` at a time. The interpreter runs signal
   handlers in the main thread, between two instructions: a signal that arrives just before the wait
   begins, or that the kernel delivers to another thread, does not end the wait. On Windows no
   signal ends a wait for a lock.
4. *The lock is released.* A signal handler may raise just after the lock was taken and before the
   `with` block begins (gh-148874, CPython 3.14), or just before it is released (CPython 3.9, which
   looks for signals after almost any instruction). So each public call is made inside
   `with monitor`, which releases, at the end, a lock that is still held. (The calls for which two
   more calls matter do the same in a `finally` of their own.)
5. *Refusal.* A call that begins while its own thread holds the lock has been made by a signal
   handler that interrupted a locked section: it would deadlock, or find state half changed, and
   gets a `ProcessError` instead. That is decided by the stack (`_interrupts_a_call`): without such
   a section further down, the lock was left behind after all, and is released.
"""

import sys
import threading
import time
import weakref
from itertools import count
from threading import get_ident
from types import FrameType
from typing import Any, Callable, Dict, Optional, Protocol, Tuple

from process import _platform
from process._interpreter import enters_blocks_at_once
from process.core._flow import Flow, Wait
from process.core.errors import ProcessError

#: Seconds after which a caller that waits wakes up.
LOOK_AGAIN = 1.0

#: How often a caller sleeps so long before it looks again.
_SLEEPS = 4


def limited(timeout: Optional[float]) -> float:
    """How long to wait before the next look, of `timeout` seconds; `None`: no limit."""
    return LOOK_AGAIN if timeout is None else min(timeout, LOOK_AGAIN)


#: Of waiters, in the order in which they are made.
_numbers = count()


def _never() -> bool:
    return False


class Waiter(Wait):
    """A caller that waits: a lock to sleep on, and what it waits for.

    It must be referred to by the caller's frame alone.
    """

    __slots__ = ("_lock", "condition", "interrupted", "number", "offers", "thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        #: What the caller waits for. It is asked under the monitor's lock, by any thread.
        self.condition: Callable[[], bool] = _never
        #: The claim that was taken over, by a signal handler, from the call that it interrupted.
        self.interrupted: Optional[weakref.ref[Waiter]] = None
        self.thread = get_ident()
        #: Greater than that of each call that this one has interrupted.
        self.number = next(_numbers)
        #: It has the claim to offer the pipe to another process, and not to move bytes.
        self.offers = False

    def sleep(self, timeout: Optional[float] = None) -> None:
        """Return when woken, or when it is time to look again.

        Without `timeout` only signal handlers run every `LOOK_AGAIN` seconds, and the caller looks
        at everything less often, since that costs many times as much.
        """
        for _ in range(_SLEEPS if timeout is None else 1):
            if self._lock.acquire(timeout=max(0.0, limited(timeout))):
                break

    def wake(self) -> None:
        """End the present or the next sleep. Safe in finalizers."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # woken before, and not asleep again


class Stream(Protocol):
    """The thread of a stream, as the monitor sees it."""

    def wake_if_needed(self) -> None:
        """Wake the thread if it sleeps and a caller waits for what it can do. The lock is held."""

    def wake_if_movable(self) -> None:
        """Wake the thread if it sleeps though it could move. The lock is held."""

    def nudge(self) -> None:
        """Make the thread choose anew. Takes no lock."""

    def process_ended(self, now: float) -> None:
        """The process has ended. The lock is held."""


_RLock: Any = type(threading.RLock())


class Lock(_RLock):  # type: ignore[misc]
    """A lock that is not left locked by an exception that is raised while it is being taken."""

    __slots__ = ()

    def __enter__(self) -> bool:
        try:
            return bool(self.acquire())
        except BaseException:
            if self._is_owned():
                self.release()
            raise


#: Makes the lock of a monitor: where the interpreter allows it, one that is entered in C.
new_lock: Callable[[], Any] = threading.RLock if enters_blocks_at_once() else Lock


class Monitor:
    """The lock, the flow and the waiters of one process."""

    def __init__(self) -> None:
        self.lock: Any = new_lock()
        self.flow = Flow(self)
        #: The threads that have not ended; replaced rather than changed.
        self.streams: Tuple[Stream, ...] = ()
        self._waiters: Dict[int, weakref.ref[Waiter]] = {}
        #: The end of the process; `None` before it is started, and after it is released.
        self.watch: Optional[_platform.ExitWatch] = None
        #: When the process was seen to have ended.
        self._ended: Optional[float] = None
        #: This is a fork.
        self.inherited = False

    def __enter__(self) -> None:
        """A public call begins; see the module's header, 4 and 5."""
        if self.inherited or self.lock._is_owned():
            self.check_entry()

    def __exit__(self, *_: object) -> None:
        lock = self.lock
        if lock._is_owned():
            lock.release()

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self._ended is not None

    @property
    def pending_watch(self) -> Optional[_platform.ExitWatch]:
        """What to wait for to learn that the process has ended, unless that is known."""
        return self.watch if self._ended is None else None

    def inherit(self) -> None:
        """This is a fork, in which no thread of the library runs, and the lock may be held."""
        self.lock = new_lock()
        self.inherited = True

    def check_entry(self) -> None:
        """See that a call may begin.

        Raises:
            ProcessError: it is made in a fork; or a signal handler makes it, and has interrupted
                another call on the same process just where that holds the lock.
        """
        if self.inherited:
            raise ProcessError("Process was started by another process, of which this is a fork")
        if self.lock._is_owned():
            if _interrupts_a_call(_get_frame()):
                raise ProcessError("A signal handler has interrupted another call on this process")
            self.lock.release()

    def add(self, stream: Stream) -> None:
        """The thread of a stream begins."""
        with self.lock:
            self.streams = (*self.streams, stream)
            if self._ended is not None:
                stream.process_ended(self._ended)

    def remove(self, stream: Stream) -> None:
        """The thread of a stream has ended. The lock is held."""
        self.streams = tuple([other for other in self.streams if other is not stream])

    def enter(
        self,
        waiter: Waiter,
        condition: Callable[[], bool] = _never,
        own: Any = None,
        need: float = 0,
    ) -> None:
        """A caller is going to wait for `condition`; see `Flow.enter`. The lock is held."""
        waiter.condition = condition
        self.flow.enter(waiter, own, need)
        self._waiters[id(waiter)] = weakref.ref(waiter)
        for stream in self.streams:
            stream.wake_if_needed()

    def waited_by_other(self, waiter: Waiter) -> bool:
        """Whether another caller waits than `waiter`, and that is what `waiter` has to yield to.

        An offer takes no longer than the start of a process, and bytes that were read meanwhile
        would be missing there. So it yields only to a signal handler that has interrupted it.
        """
        if waiter.offers:
            return self.is_interrupted(waiter)
        return len(self.flow.others(waiter)) > 0

    def is_interrupted(self, waiter: Waiter) -> bool:
        """Whether a signal handler waits on top of that caller."""
        return True in [
            other.thread == waiter.thread and other.number > waiter.number
            for other in self.flow.others(waiter)
            if isinstance(other, Waiter)  # and not one of a loop
        ]

    def leave(self, waiter: Waiter) -> None:
        """The caller no longer waits, if it ever did. The lock is held."""
        self.flow.leave(waiter)
        self._waiters.pop(id(waiter), None)

    def notify(self) -> bool:
        """Something has changed: wake the callers that can go on. Return whether there was one.

        The lock is held.
        """
        if not self._waiters:
            return False
        found = False
        for key, reference in list(self._waiters.items()):
            waiter = reference()
            if waiter is None:
                self._waiters.pop(key, None)
            elif waiter.condition():
                # It no longer counts as waiting: the thread that has served it may stand by.
                self.leave(waiter)
                waiter.wake()
                found = True
        return found

    def wake_all(self, _: object = None) -> None:
        """Make every caller look again. Takes no lock: safe in finalizers."""
        for reference in list(self._waiters.values()):
            waiter = reference()
            if waiter is not None:
                waiter.wake()

    def process_ended(self) -> None:
        """The process has ended: a thread, or a caller, has seen it."""
        with self.lock:
            if self._ended is None:
                self._ended = time.monotonic()
                for stream in self.streams:
                    stream.process_ended(self._ended)
            self.wake_all()

    def poll(self) -> None:
        """A caller has looked whether the process, or a connected one, still runs."""
        with self.lock:
            self.flow.poll()
            for stream in self.streams:
                stream.wake_if_movable()

    def poll_all(self) -> None:
        """A caller has looked whether the process still runs."""
        self.poll()
        for shell in self.flow.shells:
            shell.poll()

    def wake(self) -> None:
        """A caller begins to wait for a connected process. Takes no lock."""
        for stream in self.streams:
            stream.nudge()

    def release(self) -> None:
        """The process has ended and is reaped. Safe in finalizers."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.release()
            self.wake_all()  # the thread of the watch, if it has one, no longer tells anybody


#: The frame of the caller.
_get_frame: Callable[[], FrameType] = vars(sys)["_getframe"]

_PACKAGE = __name__.partition(".")[0]


def _interrupts_a_call(frame: Optional[FrameType]) -> bool:
    """Whether, below the call that begins here, there is another one into the library."""
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    while frame is not None and not _is_ours(frame):
        frame = frame.f_back
    return frame is not None


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and name.partition(".")[0] == _PACKAGE
