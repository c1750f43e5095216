"""What the streams of one asyncio process share.

Theory of operation. Everything here runs in the thread of the loop, between two awaits, so there is
no lock. A task that waits registers with the `Flow` (see `process.core._flow` for why what it waits
for can come), has every stream that has room now resumed, and awaits a future that the next change
completes. A stream is paused where a chunk arrives and leaves it without room: never while that
would hold up a task that waits.

Cancellation is an exception at an `await`: nothing has been taken at that point, so nothing is
lost.
"""

import asyncio
from contextlib import contextmanager, suppress
from typing import Any, Callable, Generator, List, Optional, Protocol, Set

from process.core._flow import Flow, Wait

#: Seconds; long enough not to be run in the same turn.
_A_MOMENT = 0.01


class Pausable(Protocol):
    """A stream, as seen by those who change what room it has."""

    def resume_if_room(self) -> None:
        """Read on if there is room."""


class Turnstile:
    """The flow of one process, and those who wait for a change."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.flow = Flow(self)
        self._streams: List[Pausable] = []
        self._waiters: Set[asyncio.Future[None]] = set()

    def add(self, stream: Pausable) -> None:
        """A stream joins."""
        self._streams.append(stream)

    def remove(self, stream: Pausable) -> None:
        """A stream leaves: it has no pipe any more, and nothing to resume."""
        self._streams.remove(stream)

    def resume(self) -> None:
        """Read on wherever there is room."""
        for stream in self._streams:
            stream.resume_if_room()

    def poll(self) -> None:
        """A caller has looked whether a connected process still runs. Called in any thread."""
        self._in_loop(self._polled)

    def wake(self) -> None:
        """A caller begins to wait for a connected process. Called in any thread."""
        self._in_loop(self.resume)

    def _in_loop(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(callback)

    def _polled(self) -> None:
        self.flow.poll()
        self.resume()

    def poll_all(self) -> None:
        """A caller has looked whether the process still runs."""
        self._polled()
        for shell in self.flow.shells:
            shell.poll()

    def notify(self) -> None:
        """Something has changed: wake everybody who waits."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    @contextmanager
    def waiting(self, own: Any = None, need: float = 0) -> Generator[None, None, None]:
        """The caller waits inside the block; see `Flow.enter`."""
        wait = Wait()
        try:
            self.flow.enter(wait, own, need)
            self.resume()
            yield
        finally:
            self.flow.leave(wait)

    async def changed(self, timeout: Optional[float] = None) -> None:
        """Return after the next change, or after `timeout` seconds."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        try:
            self._waiters.add(waiter)
            await self._completed(waiter, timeout)
        finally:
            self._waiters.discard(waiter)

    async def polled(self) -> None:
        """Return once the loop has looked at its pipes again, and delivered what it found.

        A loop that was held up runs its timers late, some loops before they poll. A timer that is
        set now is run after a poll; what that poll has found is delivered in the turn after.
        """
        for delay in (_A_MOMENT, 0, 0):
            await self._completed(self.loop.create_future(), delay)

    async def _completed(self, waiter: "asyncio.Future[None]", timeout: Optional[float]) -> None:
        timer = None if timeout is None else self.loop.call_later(timeout, _complete, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()


def _complete(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
