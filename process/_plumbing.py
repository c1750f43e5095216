"""What the pumps and the callers of one process share.

Theory of operation. There is one lock a process. It guards the pure state (`core`) and is held for
a few assignments or the copy of one chunk; never across a call that can block, never across a call
into the caller's code. Whoever has to wait does so outside of it:

- a caller looks at the state and at the number of `changes` under the lock, leaves the lock, and
  waits for that number to grow, so a change cannot fall between looking and waiting;
- the thread of a pump waits in its `Port`, which is rung when there is something to do.

A signal handler runs on top of the call it interrupts. It may call for the same process: it never
waits for that call, except for the lock, and there it gets an error instead (`check_entry`).

Who moves the bytes. A caller who waits alone drives: he waits for all pipes that no thread serves,
at once, and moves what can be moved. So a short conversation costs neither a thread nor a
hand-over. Threads are employed for what a caller cannot do, or not be relied on to do: to feed
input while he is elsewhere, to write what overflows to a file, to fill the pipe behind `fileno()`;
and as soon as a second caller waits. He may be a signal handler that has interrupted the first, and
what handlers do may take for ever. So nobody depends on a caller who drives, save for the moment in
which he holds the lock.

Invariant (somebody moves it). While a caller waits, each pipe that has something to be moved is
served by its thread or polled by a caller. For a caller who begins to wait either becomes the one
who drives, or he employs threads for all pipes; and one who stops driving releases all who wait, of
whom one drives next.

Invariant (no lost wake-up). A thread that is about to wait has said so under the lock (`_waits`). A
caller who is about to wait has first registered with the `Flow` and then, under the same lock, rung
every thread that may move now. So either the pump sees the caller, or the caller sees the pump. One
who drives has said so under the lock as well, and every change rings him.

The pumps refer to the plumbing, and the plumbing refers neither to the `Process` nor to the stream
objects: a live pump does not keep a dropped process alive.

Clean-up. The wake-up descriptor and the watch for the exit are used by pumps and callers in any
thread. They are closed when nobody refers to them any more: each pump lets go of them when it ends,
each caller when he returns, however he does, and the plumbing when the process is closed (`release`
is a few stores and a ring: a finalizer may do it at any line). Pumps that have ended leave the
plumbing, so that what is kept of a closed process is no part of a cycle: large output is given back
when the last reference to it goes, and not when the garbage collector comes.
"""

import contextlib
import subprocess
import threading
import time
import weakref
from typing import Any, List, Optional, Protocol

from process import _platform
from process._descriptor import Descriptor
from process._waiting import Waiter, Waiters, limited
from process.core._flow import Flow, Wait
from process.core.errors import ProcessError

#: Seconds that another caller may take to reap a process that has ended.
_REAPING = 0.1


class Member(Protocol):
    """A pump, as the plumbing sees it: see `_pump.Pump` for what these mean."""

    port: _platform.Port
    done: bool
    attended: bool
    eager: bool
    drains: bool

    @property
    def needs_thread(self) -> bool:
        """Whether there is work that callers cannot do. The lock is held."""
        ...

    @property
    def deserted(self) -> bool:
        """Whether its thread is about to be started by a call that this one has interrupted."""
        ...

    def employ(self) -> None:
        """Let the thread serve the pipe from now on."""

    def poll(self) -> bool:
        """Whether a caller who waits is to wait for the pipe and `move`. The lock is held."""
        ...

    def move(self) -> bool:
        """Read or write once, without waiting. The lock is held."""
        ...

    def kick(self) -> None:
        """Ring the pump if it waits although it may move. The lock is held."""

    def process_ended(self, now: float) -> None:
        """The process has ended. The lock is held."""


class Plumbing:
    """The lock, the flow and the wake-ups of one process."""

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        self.flow = Flow()
        #: How often the state has changed in a way that somebody may wait for.
        self.changes = 0
        self._waiters = Waiters()
        #: Those that have not ended; replaced rather than changed, so whoever looks through it can.
        self._members: List[Member] = []
        self._wakeup: Optional[_platform.Wakeup] = None
        self._watch: Optional[_platform.ExitWatch] = None
        self._hub: Optional[_platform.Hub] = None
        #: Refers to what lives as long as the call of the caller who drives.
        self._driver: Optional[weakref.ref[Wait]] = None
        #: The pump he waits for while he waits, and has to be rung.
        self._interest: Optional[object] = None
        #: There may be something for him to close.
        self._overdue = False
        self._ended: Optional[float] = None
        #: This is a fork.
        self._inherited = False

    def open(self) -> None:
        """Make what callers and pumps are woken by.

        Raises:
            OSError: there is no descriptor left.
        """
        self._wakeup = _platform.Wakeup()
        self._hub = _platform.make_hub()

    def inherit(self) -> None:
        """This is a fork, which has neither the pumps nor, perhaps, who holds the lock."""
        self.lock = threading.RLock()
        self._inherited = True

    def check_entry(self) -> None:
        """See that a call may begin.

        Raises:
            ProcessError: it is made in a fork; or a signal handler makes it, and has interrupted
                another call on the same process just where that holds the lock.
        """
        if self._inherited:
            raise ProcessError("Process is that of another process, of which this is a fork")
        if self.lock._is_owned():
            raise ProcessError("A signal handler has interrupted another call on this process")

    def port(self, descriptor: Descriptor, writing: bool) -> _platform.Port:
        """A port for a pump of this process.

        Raises:
            ValueError: the process has been closed, perhaps in this very moment.
        """
        wakeup, watch = self._wakeup, self._watch
        if wakeup is None or watch is None:
            raise ValueError("I/O operation on closed file")
        return _platform.Port(descriptor, wakeup, watch, writing)

    def watch_exit(self, popen: "subprocess.Popen[bytes]") -> None:
        """Begin to watch for the end of `popen`."""
        self._watch = _platform.ExitWatch(popen.pid, popen.wait, self.process_ended)

    def add(self, member: Member) -> None:
        """A pump joins."""
        with self.lock:
            self._members = [*self._members, member]
            if self._ended is not None:
                member.process_ended(self._ended)

    def remove(self, member: Member) -> None:
        """A pump has ended. The lock is held."""
        self._members = [other for other in self._members if other is not member]

    def employ_all(self) -> None:
        """Let threads serve all pipes from now on.

        Raises:
            RuntimeError: there is no thread to be had.
        """
        for member in self._members:
            member.employ()

    @property
    def watch(self) -> Optional[_platform.ExitWatch]:
        """The end of the process, to be waited for without a lock; unless all is over."""
        return self._watch

    def drainable(self) -> List[_platform.Port]:
        """The pipes from which nobody reads, and nobody will. Safe in finalizers.

        Where somebody drives, he does; it may be a call that a finalizer has interrupted, and then
        nobody does.
        """
        if self.driven:
            return []
        return [member.port for member in self._members if member.drains and not member.attended]

    def release(self) -> None:
        """No more pumps will be started, and the process has been reaped. Safe in finalizers."""
        self._wakeup = None
        self._watch = None
        if self.undriven():  # else he lets go of them
            self._members = [member for member in self._members if member.attended]
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.ring()  # from now on every change releases those who wait, and rings nobody

    def process_ended(self) -> None:
        """The process has ended: some pump, or the watch, has seen it."""
        with self.lock:
            if self._ended is None:
                self._ended = time.monotonic()
                for member in self._members:
                    member.process_ended(self._ended)
            self.notify()

    @property
    def driven(self) -> bool:
        """Whether a caller waits for the pipes that no thread serves. Safe in finalizers."""
        driver = self._driver  # once: another thread may just put it away
        return driver is not None and driver() is not None

    def undriven(self) -> bool:
        """Whether nobody drives; else he will close what is to be closed. Safe in finalizers.

        He cannot miss it: here he is first told and then looked for; there he is first gone, and
        then asks what he was told.
        """
        self._overdue = True
        return not self.driven

    def notify(self, pump: Optional[object] = None) -> None:
        """Something has changed: release everybody who waits. The lock is held.

        Args:
            pump: what has moved some bytes, which does not concern a caller who drives and waits
                for something else; `None` if the change may concern him anyway.
        """
        self.changes += 1
        self._waiters.notify()
        if self._interest is not None and (pump is None or pump is self._interest):
            self.ring()

    def ring(self) -> None:
        """Make the caller who drives look again. Safe in finalizers."""
        hub = self._hub
        if hub is not None:
            hub.ring()

    def kick(self) -> None:
        """Ring every thread that waits although it may move. The lock is held."""
        for member in self._members:
            if member.attended:
                member.kick()

    def poll(self) -> None:
        """A caller has looked whether the process still runs."""
        if self.lock._is_owned():
            return  # see `check_entry`; nothing depends on a single poll
        wait = Wait()
        with self.lock:
            self.flow.poll()
            self.kick()
            if self.driven:
                return
            changes = self.changes
        self.wait(wait, self, changes, 0)

    def wait(
        self, wait: Wait, interest: object, changes: int, timeout: Optional[float] = None
    ) -> None:
        """Wait for a change; in the meantime, move what no thread moves.

        Ends with a change, when bytes have moved, after `timeout`, or when it is time to look again
        (see `_waiting`): callers look again in any case. Ends because a caller who drives is rung,
        or released by the pipes, and others are released, by every change and by him when he stops.

        Args:
            wait: what the caller has registered with the flow, or would.
            interest: the pump that he waits for, or the end of the process.
            changes: how many there had been when he looked at the state.
            timeout: in seconds; `None`: as long as it takes.
        """
        timeout = limited(timeout)
        waiter: Optional[Waiter] = None
        polled: List[Member] = []
        work: List[Member] = []
        try:
            with self.lock:
                hub = self._hub
                watch = self._watch if self._ended is None else None
                if hub is None or self.driven:
                    waiter = self._waiters.enrol()
                else:
                    self._driver = weakref.ref(wait, self.forsaken)
                served = False
                for member in self._members:
                    if member.done or member.attended:
                        served = served or not member.done
                        if member.deserted:
                            work.append(member)
                        continue
                    ready = member.poll()
                    if waiter is not None or member.needs_thread:
                        work.append(member)
                    elif ready:
                        polled.append(member)
                if self.changes != changes:
                    return  # before, or just now: a poll closes a pipe if it is time
                if waiter is None and served and not (polled or work):
                    # Threads see to everything, the end of the process included.
                    waiter = self._waiters.enrol()
                    self._driver = None
                elif waiter is None:
                    self._interest = interest
                    if not work and [True for member in polled if member.eager and member.move()]:
                        return  # there was no need to wait
            for member in work:
                try:
                    member.employ()
                except RuntimeError:  # no thread to be had
                    polled.append(member)
            if waiter is None:
                assert hub is not None
                self._drive(hub, polled, timeout, watch)
            elif isinstance(interest, _platform.ExitWatch):
                # Changes do not wake him, but he looks again. What has been found out about others
                # need not last: a thread may not have been to be had, or its start have been
                # interrupted, and then it is for him to drive.
                interest.wait(timeout)
            else:
                waiter.wait(timeout)
        finally:
            if self._is_driver(wait):
                with self.lock:
                    self._leave()
            if waiter is not None:
                self._waiters.withdraw(waiter)

    def _drive(
        self,
        hub: _platform.Hub,
        polled: List[Member],
        timeout: float,
        watch: Optional[_platform.ExitWatch],
    ) -> None:
        """Wait until something can be moved, and move it; or be rung, or see the process end."""
        ports = tuple([member.port for member in polled])
        ready_ports, ended = hub.wait(ports, timeout, watch)
        with self.lock:
            ready_members = [polled[ports.index(port)] for port in ready_ports]
            for member in ready_members:
                if not member.attended:
                    member.move()
            self._leave()
            for member in ready_members:
                member.poll()  # at the end of the stream it closes the pipe
        if ended:
            self.process_ended()

    def take_turn(self, turn: Wait) -> None:
        """Drive without waiting, unless somebody else drives. The lock is held until `end_turn`.

        So a finalizer knows that a pipe is being used, and leaves it to be closed there.
        """
        if not self.driven:
            self._driver = weakref.ref(turn, self.forsaken)

    def end_turn(self, turn: Wait) -> None:
        """What `take_turn` was for is done. The lock is held."""
        if self._is_driver(turn):
            self._leave()

    def forsaken(self, reference: "weakref.ref[Any]") -> None:
        """A caller was interrupted just where he was to say that it is the turn of others.

        Safe in finalizers.
        """
        self._waiters.notify()
        self.ring()

    def _is_driver(self, wait: Wait) -> bool:
        driver = self._driver
        return driver is not None and driver() is wait

    def _leave(self) -> None:
        """The caller who drives does so no longer; somebody else may. The lock is held."""
        self._driver = self._interest = None
        self._waiters.notify()
        if self._overdue:
            self._overdue = False
            for member in self._members:
                member.kick()

    def wait_exit(self, popen: "subprocess.Popen[bytes]", timeout: Optional[float]) -> bool:
        """Wait until the process itself has ended; whether it has.

        While we wait, every stream has room, so the child cannot be held up by us; it ends when it
        ends, or the timeout does.
        """
        self.check_entry()
        wait = Wait()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while popen.poll() is None:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    if not timeout or timeout < 0:
                        self.poll()  # else a loop of these would not move anything
                    return False
                with self.lock:
                    self.flow.enter(wait)
                    self.kick()
                    watch = self._watch
                    changes = self.changes
                    ended = self._ended is not None
                if ended:
                    # Somebody else is just reaping it, and is soon done; unless he has been
                    # interrupted by the signal handler that waits here, and has the code later.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        popen.wait(_REAPING)
                    return True
                if watch is not None:  # pragma: no branch - else another thread has just reaped it
                    self.wait(wait, watch, changes, remaining)
        finally:
            with self.lock:
                self.flow.leave(wait)
        return True
