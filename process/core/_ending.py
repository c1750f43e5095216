"""When a stream counts as finished.

Theory of operation. Usually a stream ends with end of file, but not while any process holds the
other end open: a daemon that the child has started keeps a reader waiting for ever. A fixed delay
after the exit truncates the output of a child whose last bytes are still in transit. So there is a
silence timer: once the process has ended, a stream is finished when nothing has arrived on it for
`SILENCE` seconds, restarted by every chunk.

A timer alone does not prove silence: the reader may have been stopped, or starved of processor
time. So `remaining` only says when to check. The caller of this class then polls the pipe, and
calls `arrived` if there are bytes to be read.
"""

from typing import Optional

#: Seconds without a byte after which the stream of an ended process is taken as finished.
SILENCE = 1.0


class Ending:
    """The end-of-stream decision for one stream."""

    __slots__ = ("_heard", "_over", "eof")

    def __init__(self) -> None:
        self.eof = False
        self._over: Optional[float] = None
        self._heard = -1.0

    @property
    def running(self) -> bool:
        """Whether silence is being timed: before the process has ended, arrivals do not count."""
        return self._over is not None

    def arrived(self, now: float) -> None:
        """A chunk has arrived, or is in transit."""
        self._heard = max(self._heard, now)

    def postpone(self, now: float, delay: float) -> None:
        """Silence is not proved yet, and complete after `delay` seconds at the earliest."""
        self._heard = max(self._heard, now + delay - SILENCE)

    def process_ended(self, now: float) -> None:
        """The process itself has ended, even if another process still holds its pipes."""
        if self._over is None:
            self._over = now

    def remaining(self, now: float) -> Optional[float]:
        """Seconds until silence is complete, 0 if it is; `None` while the timer does not run."""
        if self._over is None:
            return None
        return max(0.0, max(self._over, self._heard) + SILENCE - now)
