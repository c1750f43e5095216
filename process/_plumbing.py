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
thread. Each user is in a set while he may use them; the last one out closes them. Set operations
are atomic and need no lock, so a finalizer may be the last one out, wherever it strikes.
"""

import threading
import time
from typing import TYPE_CHECKING, List, Optional, Protocol, Set

from process import _platform
from process._waiting import Waiters
from process.core._flow import Flow

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
        self.wakeup = _platform.Wakeup()
        self._members: List[Member] = []
        self._users: Set[object] = {self}
        self._watch: Optional[_platform.ExitWatch] = None
        self._ended: Optional[float] = None

    @property
    def watch(self) -> _platform.ExitWatch:
        """The watch for the end of the process."""
        assert self._watch is not None, "the process has been started first"
        return self._watch

    def watch_exit(self, popen: "subprocess.Popen[bytes]") -> None:
        """Begin to watch for the end of `popen`."""
        self._watch = _platform.ExitWatch(popen.pid, popen.wait, self.process_ended)

    def add(self, member: Member) -> None:
        """A pump joins."""
        with self.lock:
            self._members.append(member)
            if self._ended is not None:
                member.process_ended(self._ended)

    def enter(self, user: object) -> None:
        """`user` may use the shared descriptors until he leaves."""
        self._users.add(user)

    def leave(self, user: object) -> None:
        """`user` is done; the last one out closes them."""
        self._users.discard(user)
        if not self._users:
            self.wakeup.close()
            if self._watch is not None:
                self._watch.close()

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
        token = object()
        deadline = None if timeout is None else time.monotonic() + timeout
        self.enter(token)
        try:
            with self.lock:
                self.flow.enter(token)
                self.kick()
            # In this order: who closes the watch has seen the return code first.
            while popen.returncode is None and popen.poll() is None:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                self.watch.wait(remaining)
        finally:
            with self.lock:
                self.flow.leave(token)
            self.leave(token)
        return True
