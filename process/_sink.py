"""The child's stdin, as callers see it.

Theory of operation. A caller hands his bytes over, whole, and then waits until no more than the
bound is left of them. While he waits, the child's output has room, so a child that answers before
it has read everything can go on reading. Interrupted, he may have waited too little, but everything
he has handed over is on its way, once.
"""

import contextlib
import errno
import os
from typing import Callable

from process._plumbing import Plumbing
from process._pump import WriterPump
from process.core._buffer import Chunk
from process.core._flow import Wait
from process.core._outbound import Outbound


class Sink:
    """The stdin of the child, for any number of callers."""

    def __init__(self, plumbing: Plumbing, pump: WriterPump) -> None:
        self.pump = pump
        self._plumbing = plumbing

    @property
    def _outbound(self) -> Outbound:
        return self.pump.outbound

    def write(self, chunk: Chunk, buffer_size: int) -> None:
        """Hand `chunk` over, and wait until there is room again.

        Args:
            chunk: must not change from now on.
            buffer_size: below this many bytes nothing need be sent before the next flush.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
        """
        self._plumbing.check_entry()
        with self._plumbing.lock:
            self._check()
            self._outbound.put(chunk)
            if len(self._outbound) < buffer_size:
                return
            if self.pump.push():
                self._check_broken()
                return
            self.pump.kick()
            broken = self.pump.port.broken()
        # What nobody will read is not on its way, but will come to nothing in a moment.
        self._wait(lambda: not broken and not self._outbound.full)
        with self._plumbing.lock:
            self._check_broken()
        self._send_on()

    def flush(self) -> None:
        """Wait until everything is in the child's pipe.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
        """
        self._plumbing.check_entry()
        with self._plumbing.lock:
            self._check()
            if self.pump.push():
                self._check_broken()
                return
        self._wait(lambda: not len(self._outbound))
        with self._plumbing.lock:
            self._check_broken()

    def close_soon(self) -> None:
        """Close the stream once everything is sent, without waiting for that."""
        self._plumbing.check_entry()
        with self._plumbing.lock:
            self._outbound.closing = True
            self.pump.kick()

    def close(self) -> None:
        """Wait until everything is sent and the pipe is closed. Closing twice is harmless.

        A child that has closed its end before is no error here.
        """
        self.close_soon()
        self._wait(lambda: self.pump.done)

    def fileno(self) -> int:
        """The child's pipe. What was written before and not flushed may go in later.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
            RuntimeError: there is no thread to be had.
        """
        self._plumbing.check_entry()
        with self._plumbing.lock:
            self._check()
        return self.pump.share()

    def stop(self) -> None:
        """Throw away what has not been sent, and close the pipe."""
        self.pump.stop()
        self.pump.join()
        with self._plumbing.lock:
            self.pump.kick()

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait until `done`, or until the child closes its end or the pump ends."""
        wait = Wait()
        try:
            while True:
                with self._plumbing.lock:
                    if done() or self._outbound.broken or self.pump.done:
                        return
                    self._plumbing.flow.enter(wait)
                    self._plumbing.kick()
                    changes = self._plumbing.changes
                self._plumbing.wait(wait, self.pump, changes)
        except BaseException:
            self._send_on()
            raise
        finally:
            with self._plumbing.lock:
                self._plumbing.flow.leave(wait)

    def _send_on(self) -> None:
        """What was handed over is on its way, whether the caller comes back or not.

        Nor can it be left to a caller who drives in another thread: he began to wait before there
        was anything to be sent, and the child may do nothing before it has got it. If there is no
        thread to be had, it goes on when a caller waits again.
        """
        if len(self._outbound):
            with contextlib.suppress(RuntimeError):
                self.pump.employ()

    def _check(self) -> None:
        if self._outbound.closing:
            raise ValueError("write to closed file")
        self._check_broken()

    def _check_broken(self) -> None:
        self.pump.check()
        if self._outbound.broken:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
