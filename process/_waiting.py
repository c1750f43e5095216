"""How a caller waits for a change.

A condition variable gives the lock back and takes it again inside `wait`; an exception from a
signal handler between the two leaves the lock in the wrong hands. Here a waiter is a lock of its
own that the notifier releases: enrolled under the shared lock, awaited outside of it, with nothing
to be restored. A waiter that was interrupted stays enrolled until the next change, and is harmless.
"""

import threading
from collections import deque
from typing import Deque, Optional


class Waiter:
    """One caller, waiting once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: Optional[float] = None) -> None:
        """Return after the next change, or after `timeout` seconds."""
        if timeout is None:
            self._lock.acquire()
        else:
            self._lock.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX))

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

    def notify(self) -> None:
        """Something has changed: release everybody enrolled. Safe in finalizers."""
        try:
            while self._waiters:
                self._waiters.popleft().release()
        except IndexError:
            pass  # somebody else does the same at once, and has got the last
