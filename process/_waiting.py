"""How a caller waits for a change.

A condition variable gives the lock back and takes it again inside `wait`; an exception from a
signal handler between the two leaves the lock in the wrong hands. Here a waiter is a lock of its
own that the notifier releases: enrolled under the shared lock, awaited outside of it, with nothing
to be restored. An interrupted caller may leave his enrolled until the next change: harmless.

Nobody waits for longer than `LOOK_AGAIN` without a look, even if there is nothing to be seen. For
the interpreter runs signal handlers in the main thread only, and between two instructions: a signal
that strikes just before the wait begins, or that the kernel has handed to another thread, does not
end the wait, and neither does any on Windows, where a lock is awaited.
"""

import threading
from collections import deque
from typing import Deque, Optional

#: Seconds.
LOOK_AGAIN = 1.0


def limited(timeout: Optional[float]) -> float:
    """How long to wait before the next look, of `timeout` seconds; `None`: as long as it takes."""
    return LOOK_AGAIN if timeout is None else min(timeout, LOOK_AGAIN)


class Waiter:
    """One caller, waiting once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float) -> None:
        """Return after the next change, or after `timeout` seconds."""
        self._lock.acquire(timeout=max(0.0, timeout))

    def release(self) -> None:
        """End the wait."""
        self._lock.release()


class Waiters:
    """The callers that wait for a change. Guarded by the lock that guards what may change."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: Deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    def enrol(self) -> Waiter:
        """A waiter that the next `notify` releases."""
        waiter = Waiter()
        self._waiters.append(waiter)
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """It does not wait any more, whether it was released or not. One call into C: no lock."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            pass  # it was

    def notify(self) -> None:
        """Something has changed: release everybody enrolled. Safe in finalizers."""
        try:
            while self._waiters:
                self._waiters.popleft().release()
        except IndexError:
            pass  # somebody else does the same at once, and has got the last
