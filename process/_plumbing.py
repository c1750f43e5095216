"""What the pumps and the callers of one process share.

Theory of operation. There is one lock a process. It guards the pure state (`core`) and is held for
a few assignments or the copy of one chunk; never across a call that can block, never across a call
into the caller's code. Whoever has to wait does so outside of it:

- a caller enrols a `Waiter` under the lock, leaves the lock, and waits for it; every change of
  state releases all waiters under the lock, so a change cannot fall between looking and waiting;
- a pump waits in its `Port`, which is rung when there is something to do.

Invariant (no lost wake-up). A pump that is about to wait has said so under the lock (`waiting`). A
caller who is about to wait has first registered with the `Flow` and then, under the same lock, rung
every pump that may move now. So either the pump sees the caller, or the caller sees the pump.

The pumps refer to the plumbing, and the plumbing refers neither to the `Process` nor to the stream
objects: a live pump does not keep a dropped process alive.

Clean-up. The wake-up descriptor and the watch for the exit are used by pumps and callers in any
thread. They are closed when nobody refers to them any more: each pump lets go of them when it ends,
each caller when he returns, however he does, and the plumbing when the process is closed (`release`
is a store: a finalizer may do it at any line).
"""

import threading
import time
from typing import TYPE_CHECKING, List, Optional, Protocol

from process import _platform
from process._descriptor import Descriptor
from process._waiting import Waiters
from process.core._flow import Flow, Wait

if TYPE_CHECKING:
    import subprocess


class Member(Protocol):
    """A pump, as the plumbing sees it."""

    def kick(self) -> None:
        """Ring the pump if it waits although it may move. The lock is held."""

    def process_ended(self, now: float) -> None:
        """The process has ended. The lock is held."""


class Plumbing:
    """The lock, the flow and the wake-ups of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.flow = Flow()
        self.changed = Waiters()
        self._members: List[Member] = []
        self._wakeup: Optional[_platform.Wakeup] = _platform.Wakeup()
        self._watch: Optional[_platform.ExitWatch] = None
        self._ended: Optional[float] = None

    def port(self, descriptor: Descriptor, writing: bool) -> _platform.Port:
        """A port for a pump of this process."""
        assert self._wakeup is not None
        assert self._watch is not None
        return _platform.Port(descriptor, self._wakeup, self._watch, writing)

    def watch_exit(self, popen: "subprocess.Popen[bytes]") -> None:
        """Begin to watch for the end of `popen`."""
        self._watch = _platform.ExitWatch(popen.pid, popen.wait, self.process_ended)

    def add(self, member: Member) -> None:
        """A pump joins."""
        with self.lock:
            self._members.append(member)
            if self._ended is not None:
                member.process_ended(self._ended)

    def await_exit(self, timeout: float) -> None:
        """Wait for the end of the process, without a lock and without moving streams."""
        watch = self._watch
        if watch is not None:
            watch.wait(timeout)

    def release(self) -> None:
        """No more pumps will be started, and the process has been reaped. Safe in finalizers."""
        self._wakeup = None
        self._watch = None

    def process_ended(self) -> None:
        """The process has ended: some pump, or the watch, has seen it."""
        with self.lock:
            if self._ended is None:
                self._ended = time.monotonic()
                for member in self._members:
                    member.process_ended(self._ended)
            self.changed.notify()

    def kick(self) -> None:
        """Ring every pump that waits although it may move. The lock is held."""
        for member in self._members:
            member.kick()

    def poll(self) -> None:
        """A caller has looked whether the process still runs."""
        with self.lock:
            self.flow.poll()
            self.kick()

    def wait_exit(self, popen: "subprocess.Popen[bytes]", timeout: Optional[float]) -> bool:
        """Wait until the process itself has ended; whether it has.

        While we wait, every stream has room, so the child cannot be held up by us; it ends when it
        ends, or the timeout does.
        """
        wait = Wait()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with self.lock:
                self.flow.enter(wait)
                self.kick()
            while popen.poll() is None:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                watch = self._watch
                if watch is not None:  # else another thread has seen it end
                    watch.wait(remaining)
        finally:
            with self.lock:
                self.flow.leave(wait)
        return True
