"""The thread of one stream: what readers and writers have in common.

Theory of operation. From the start of the process to the end of its stream a daemon thread moves
the bytes of one pipe. No signal handler runs in it, since handlers run in the main thread, and all
signals are blocked in it: what it does needs no protection against exceptions.

A hand-over between threads costs 10 to 100 µs, so callers may move bytes of the pipe, too.

1. *The claim.* The pipe belongs to the thread while its state is `MOVING`, and to a caller while
   `_owner` refers to that caller's waiter. It never belongs to both: the claim changes under the
   lock of the monitor, the thread takes it only when no caller has it, and a caller only when the
   thread is not moving. Without the claim nothing reads, writes or enlarges the pipe; reads and
   writes that do not block are made under the lock, which is as good.
2. *Standing by.* After a caller has used the stream, and when the first bytes have come, the
   thread leaves the pipe alone until no caller has come for `STAND_BY` seconds. Then it takes the
   claim and waits in its pipe without a limit, so an idle process costs nothing. It does not stand
   by while another caller waits for what it can do.
3. *Progress.* A thread that sleeps although it could move is woken by the caller that begins to
   wait (`wake_if_needed`), or by the end of its timer. A thread that waits for the pipe waits for
   nothing else but to be woken. A caller that has the claim releases it when it stops waiting. If
   it is interrupted, its waiter disappears, which wakes the thread (`on_abandoned`). When a second
   caller waits, the thread takes the claim away (`_revoke`).
4. *The end.* `stop` is a store and two wake-ups, and takes no lock: a finalizer may call it at any
   line, in this very thread as well. The thread closes the pipe as its last act; it chooses to end
   and does so without giving the lock back in between.

| state | meaning | left when |
| --- | --- | --- |
| NEW | not running yet | the thread runs |
| MOVING | has the claim: reads, writes or waits for the pipe | the next choice |
| STANDING_BY | leaves the pipe to callers for a time | woken, or after `STAND_BY` seconds |
| SLEEPING | there is nothing to move, or a caller has the claim | woken |
| ENDED | the pipe is closed | never |
"""

import _thread
import contextlib
import enum
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from threading import get_ident
from typing import Deque, Optional, Sequence, Union

from process import _platform
from process._interpreter import run_uninterrupted
from process._polling import poll_until
from process.core.errors import ProcessError
from process.threads._monitor import Monitor, Waiter, limited

#: Seconds that a thread leaves its pipe to callers after one has used it.
STAND_BY = 0.005

#: Seconds to wait for the end of a thread that may be stuck, for once.
_PATIENCE = 1.0

#: Threads that callers have waited for. `threading` has finalizers for them that are Python code,
#: and what a signal handler raises in one of these is lost: they are freed by the next thread.
_ended: "Deque[threading.Thread]" = deque()


class State(enum.Enum):
    """What the thread of a stream does; see the module's header."""

    NEW = enum.auto()
    MOVING = enum.auto()
    STANDING_BY = enum.auto()
    SLEEPING = enum.auto()
    ENDED = enum.auto()


#: For calls: on CPython 3.11 it takes 50 ns to look up a member.
_MOVING, _SLEEPING, _ENDED = State.MOVING, State.SLEEPING, State.ENDED


class StreamThread(ABC):
    """What moves the bytes of one pipe."""

    def __init__(self, monitor: Monitor, end: _platform.PipeEnd, name: str) -> None:
        self.name = name
        self.monitor = monitor
        self.end = end
        #: What has ended the thread before its time, such as a lack of memory.
        self.failure: Optional[Exception] = None
        self._state = State.NEW
        self._stopping = False
        #: The pipe was used up at the last try, so the thread waits for it before the next one.
        self._used_up = False
        #: A caller has used the stream since the thread looked last.
        self._active = end.pollable
        #: The waiter of the caller that has the claim.
        self._owner: Optional[weakref.ref[Waiter]] = None
        #: The waiter of a caller that wants the claim.
        self._request: Optional[weakref.ref[Waiter]] = None
        self._alarm = _thread.allocate_lock()
        self._alarm.acquire()
        #: Weak, so that it is not freed by the main thread; see `_ended`.
        self._thread: Optional[weakref.ref[threading.Thread]] = None

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it cannot be started.
        """
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread = weakref.ref(thread)
        try:
            thread.start()
        except BaseException:
            self._thread = None  # the traceback refers to it
            raise

    def _begin_anew(self) -> None:
        """Start another thread, after the first one has ended. The lock is held."""
        self.monitor.streams = (*self.monitor.streams, self)
        self._state = State.NEW
        try:
            start([self])
        except BaseException:
            if self._thread is None or self._thread() is None:
                self._state = State.ENDED
                self.monitor.remove(self)
            raise

    # The thread's side.

    def _run(self) -> None:
        _platform.block_signals()
        _ended.clear()
        try:
            while True:
                with self.monitor.lock:
                    state = self._choose()
                    if state is State.ENDED:
                        self._close()
                        break
                    self._state = state
                    if self._request is not None:
                        self.monitor.notify()  # the pipe may be free by now
                if state is State.MOVING:
                    self._move()
                elif state is State.STANDING_BY:
                    self._alarm.acquire(timeout=STAND_BY)
                else:
                    self._alarm.acquire()  # see `progress` in the header for why this ends
        except Exception as error:  # callers are told, see `check`
            self.failure = error.with_traceback(None)
            with self.monitor.lock:
                self._close()
        finally:
            with contextlib.suppress(OSError):  # of a temporary file that is not read any more
                self._release_resources()

    def _close(self) -> None:
        """Close the pipe: the last act. The lock is held, and has been since the choice to end.

        A caller that finds the thread ended may begin another one, with another pipe.
        """
        self.end.close(in_use=self._polled)
        self._state = State.ENDED
        self._close_left()
        self._finish()
        self.monitor.remove(self)
        self.monitor.wake_all()

    def _close_left(self) -> None:
        """Close what was left to a caller that is away now. Takes no lock: safe in finalizers."""
        if self.done and not self.claimed:
            self.end.close_left()

    def _choose(self) -> State:
        """The next state of the thread. The lock is held."""
        self.commit()
        if self._stopping or self._over():
            return State.ENDED
        movable = self._movable()
        if self.claimed and movable and self._needed() and self._available:
            self._revoke()
        if self.claimed or self.requested:
            return State.SLEEPING
        if movable and (not self._active or self._needed()):
            return State.MOVING
        if not self._active:
            return State.SLEEPING
        self._active = False
        return State.STANDING_BY

    @property
    def _claimant(self) -> Optional[Waiter]:
        """The waiter of the caller that has the claim. Small calls do without this property."""
        return None if self._owner is None else self._owner()

    @property
    def _available(self) -> bool:
        """Whether no caller has the claim, or another caller waits, too. The lock is held."""
        owner = self._claimant
        return owner is None or self.monitor.waited_by_other(owner)

    @property
    def _polled(self) -> bool:
        """Whether a caller may be about to poll the pipe. The lock is held."""
        owner = self._claimant
        # One that offers the pipe does not.
        return owner is not None and not (owner.offers and owner.interrupted is None)

    def _revoke(self) -> None:
        """Take the claim from a caller, which finds out when it next looks. The lock is held.

        The caller may be kept from moving bytes, by a signal handler that waits for another thread,
        and then the others would wait for that handler. It may still be waiting for the pipe,
        which takes nothing from it, and no wake-up from the thread (`evict`).
        """
        owner, self._owner = self._owner, None  # before the next line: see `poll`
        try:
            self.end.evict()
        except OSError:  # no descriptor left: it keeps the claim
            self._owner = owner

    def _wait(self) -> None:
        """Wait for the pipe."""
        if self.end.wait(self.monitor.pending_watch, None):
            self.monitor.process_ended()

    @abstractmethod
    def _move(self) -> None:
        """Read or write once, or wait until that can be done. The lock is not held."""

    @abstractmethod
    def _movable(self) -> bool:
        """Whether there is something to move as soon as the pipe is ready. The lock is held."""

    @abstractmethod
    def _needed(self) -> bool:
        """Whether a caller waits for what could be moved. The lock is held."""

    @abstractmethod
    def _over(self) -> bool:
        """Whether the pipe is to be closed. The lock is held."""

    @abstractmethod
    def _finish(self) -> None:
        """The pipe is closed. The lock is held."""

    def _release_resources(self) -> None:  # noqa: B027 - of interest to readers only
        """Give back what only the thread uses. The lock is not held: this may take time.

        If the thread has been begun anew, another one may be at work already.
        """

    # The callers' side.

    def begin(self) -> bool:
        """Take part in the monitor. Return whether nothing is to do, and the pipe is closed."""
        self.monitor.add(self)
        with self.monitor.lock:
            if not self._over():
                return False
            self._close()
            return True

    @property
    def serves_others(self) -> bool:
        """Whether bytes go to a receiver, whatever becomes of the process. Safe in finalizers."""
        return False

    @property
    def done(self) -> bool:
        """Whether the thread has ended, and its pipe is closed."""
        return self._state is State.ENDED

    @property
    def alive(self) -> bool:
        """Whether the thread has been started and has not ended. Takes no lock."""
        thread = None if self._thread is None else self._thread()
        return thread is not None and thread.is_alive()

    @property
    def moving(self) -> bool:
        """Whether the thread has the claim."""
        return self._state is State.MOVING

    @property
    def claimed(self) -> bool:
        """Whether a caller has the claim."""
        owner = self._owner
        return owner is not None and owner() is not None

    @property
    def offered_here(self) -> bool:
        """Whether this thread has offered the pipe already, and so cannot wait for the outcome.

        The lock is held. It is a signal handler's call then, or that of another task of a loop.
        """
        owner = self._claimant
        return owner is not None and owner.offers and owner.thread == get_ident()

    @property
    def requested(self) -> bool:
        """Whether a caller wants the claim, so that no other one should take it. The lock is held.

        A signal handler that waits on top of that caller may depend on the pipe, and comes first.
        """
        request = None if self._request is None else self._request()
        return request is not None and not self.monitor.is_interrupted(request)

    @property
    def claimable(self) -> bool:
        """Whether this caller may move bytes. The lock is held.

        A signal handler takes the claim over from the call that it has interrupted.
        """
        if self._state is _MOVING or self._state is _ENDED or not self.end.pollable:
            return False
        if self.end.blocks:  # what a caller does must not: the lock is held meanwhile
            return False
        if self._owner is None:
            return True
        owner = self._owner()
        return owner is None or (owner.thread == get_ident() and not owner.offers)

    def claim(self, waiter: Waiter) -> bool:
        """Take the claim, if possible. Return whether the caller has it. The lock is held."""
        owner = None if self._owner is None else self._owner()
        if owner is waiter:
            return True
        if not self.claimable:
            return False
        waiter.interrupted = None if owner is None else self._owner
        self._owner = weakref.ref(waiter, self.on_abandoned)
        if self._request is not None and self._request() is waiter:
            self._request = None  # else it would go on when the claim is taken away
        return True

    def request(self, waiter: Waiter) -> None:
        """Make the thread give up the claim as soon as it can, for the caller. The lock is held."""
        self._request = weakref.ref(waiter, self.on_abandoned)
        self.end.wake()

    def release(self, waiter: Waiter) -> None:
        """Give up the claim, or the request for it. The lock is held."""
        if self._request is not None and self._request() is waiter:
            self._request = None
            self.touch()
            self.monitor.wake_all()  # one whose request this has replaced asks again
        if self._owner is not None and self._owner() is waiter:
            self._owner = waiter.interrupted
            self._close_left()
            self.touch()
            if self.requested:
                self.monitor.notify()

    def on_abandoned(self, _: object) -> None:
        """A caller was interrupted that had the claim, wanted it, or held up the thread.

        Safe in finalizers.
        """
        self._close_left()
        self.nudge()
        self.monitor.wake_all()

    def poll(self, waiter: Waiter) -> None:
        """Wait for the pipe, for a limited time, as the caller that has the claim.

        It may have lost the claim already, and with it the event: the new one is the thread's.
        """
        end, event, owner = self.end, self.end.event, self._owner
        if owner is None or owner() is not waiter:
            return
        if end.wait(self.monitor.pending_watch, limited(None), event=event):
            self.monitor.process_ended()

    def touch(self) -> None:
        """A caller uses the stream: the thread stands by, or goes on to. The lock is held."""
        self._active = self.end.pollable
        if self._state is _SLEEPING and not self.claimed:
            self._sound_alarm()

    def look(self) -> None:
        """Something has changed: the thread, and who has the claim, look anew. The lock is held."""
        moving = self._state is State.MOVING
        if moving or self.claimed:
            self.end.wake()
        if not moving:
            self._sound_alarm()

    def wake_if_needed(self) -> None:
        """Wake the thread if it sleeps and a caller waits for what it can do. The lock is held."""
        asleep = self._state is State.SLEEPING or self._state is State.STANDING_BY
        if asleep and self._movable() and self._needed() and self._available:
            self._sound_alarm()

    def wake_if_movable(self) -> None:
        """Wake the thread if it sleeps though it could move. The lock is held."""
        if self._state is _SLEEPING and not self.claimed and self._movable():
            self._sound_alarm()

    def nudge(self) -> None:
        """Make the thread choose anew. Takes no lock: safe in finalizers."""
        self._sound_alarm()
        self.end.wake()

    def _sound_alarm(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:
            pass  # done before, and not heard yet

    @abstractmethod
    def commit(self) -> None:
        """Record what callers have moved. The lock is held."""

    def process_ended(self, now: float) -> None:  # noqa: B027 - of interest to readers only
        """The process has ended. The lock is held."""

    def stop(self) -> None:
        """Make the thread end, whatever it is doing. Safe in finalizers."""
        self._stopping = True
        self.nudge()

    def join(self, timeout: float = _PATIENCE, by_polling: bool = False) -> None:
        """Wait until the thread, which has been told to end, has ended. Safe in finalizers.

        It does not wait for itself, nor for a thread that was never started, nor for one whose read
        or write blocks, nor once the interpreter has called its exit handlers. This ends because
        every wait of the thread can be woken; after a second even if a caller fills the pipe of a
        thread that shares it.

        Args:
            timeout: in seconds.
            by_polling: for callers that may be in a thread that `threading` does not know, such as
                those of `run_uninterrupted` and `Child.drop_elsewhere`. `Thread.join` would make a
                record of that thread, and keep it for good.
        """
        thread = None if self._thread is None else self._thread()
        if thread is None or thread.ident in {None, get_ident()} or not self.end.pollable:
            return
        if sys.is_finalizing():
            return  # it does not run any more, and has not ended either
        _ended.append(thread)
        if by_polling:
            poll_until(lambda: not thread.is_alive(), timeout)
        else:
            thread.join(timeout)

    def check(self) -> None:
        """See that the thread has not failed.

        Raises:
            ProcessError: it has. The cause is chained.
        """
        if self.failure is not None:
            raise ProcessError(f"{self.name} has failed: {self.failure!r}") from self.failure


def start(threads: "Sequence[Union[StreamThread, _platform.ExitWatch]]") -> None:
    """Start threads.

    A signal handler that raises in the middle of `Thread.start` leaves the books of `threading`
    wrong, and on CPython 3.14 their lock locked.

    Raises:
        RuntimeError: a thread cannot be started.
    """

    def start_all() -> None:
        for thread in threads:
            thread.start()

    run_uninterrupted(start_all)
