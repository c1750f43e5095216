"""What the streams of one asyncio process share: who waits, and how waiters are woken.

1. Everything here runs in the thread of the loop, between two awaits, so there is no lock.
2. A task that waits is registered with the `Flow` (see `process.core._flow` for why the wait
   ends), every stream that has room now is resumed, and the task awaits a future, which
   the next change completes.
3. A stream is paused only where a chunk arrives that leaves it without room. While a task waits
   for something else a stream has room, so it is not paused.
4. Cancellation is an exception raised at an `await`. Nothing has been taken at that point, so
   nothing is lost.
"""

import asyncio
from contextlib import suppress
from typing import Any, Callable, List, Optional, Protocol, Set

from process.core._flow import Flow, Wait

#: Seconds. Long enough for a timer not to expire in the iteration of the loop that has set it.
_NEXT_POLL = 0.01


class Stream(Protocol):
    """An output stream, as the monitor sees it."""

    def advance(self) -> None:
        """Move bytes, if there is room for them now."""

    def polled(self) -> None:
        """A caller has looked whether the process still runs."""


class LoopMonitor:
    """The flow control of one process, and the tasks that wait for a change."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.flow = Flow(self)
        #: The readers whose pipes are open: they have room granted when a caller polls.
        self.readers: List[Stream] = []
        #: Those that are paused, or have bytes beyond memory.
        self.held_back: Set[Stream] = set()
        self._waiters: Set[asyncio.Future[None]] = set()

    def advance(self) -> None:
        """Move bytes wherever there is room for them."""
        for stream in list(self.held_back):
            stream.advance()

    def poll(self) -> None:
        """A caller has looked whether a connected process still runs. Called in any thread."""
        self._call_in_loop(self._poll)

    def wake(self) -> None:
        """A caller begins to wait for a connected process. Called in any thread."""
        self._call_in_loop(self.advance)

    def poll_all(self) -> None:
        """A caller has looked whether the process still runs."""
        self._poll()
        for shell in self.flow.shells:
            shell.poll()

    def _poll(self) -> None:
        self.flow.poll()
        for stream in self.readers:
            stream.polled()
        self.advance()

    def _call_in_loop(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(callback)

    def notify(self) -> None:
        """Something has changed: wake all waiters."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def changed(
        self, timeout: Optional[float] = None, own: Any = None, need: float = 0
    ) -> None:
        """Wait for the next change, or for `timeout` seconds.

        Args:
            timeout: in seconds; `None`: as long as it takes.
            own: the stream whose bytes the caller waits for; `None` if it waits for anything else.
            need: how many bytes of that stream must be held before the caller can go on.
        """
        waiter: asyncio.Future[None] = self.loop.create_future()
        wait = Wait()
        timer = None
        try:
            self._waiters.add(waiter)
            self.flow.enter(wait, own, need)
            if self.held_back:
                self.advance()
            if timeout is not None:
                timer = self.loop.call_later(timeout, complete, waiter)
            await waiter
        finally:
            self._waiters.discard(waiter)
            self.flow.leave(wait)
            if timer is not None:
                timer.cancel()

    async def polled(self) -> None:
        """Return once the loop has polled its pipes again, and delivered what it has found.

        A loop that was held up runs its timers late, and some loops run them before they poll. A
        timer that is set now expires after a poll. What that poll has found is delivered in the
        turn after it.
        """
        for delay in (_NEXT_POLL, 0, 0):
            waiter: asyncio.Future[None] = self.loop.create_future()
            timer = self.loop.call_later(delay, complete, waiter)
            try:
                await waiter
            finally:
                timer.cancel()


def complete(waiter: "asyncio.Future[None]", _: object = None) -> None:
    """End the wait for a future."""
    if not waiter.done():
        waiter.set_result(None)
