"""The thread that writes the child's stdin.

Callers hand bytes over by way of an `Outbound`. While the thread does not move, a caller that has
just handed some over writes to the pipe itself, without blocking, and the rest is the thread's.
What a caller has written is noted within the call into C that writes, so that an interrupted caller
neither loses bytes nor sends them twice. What a pipe takes as a whole or not at all need not be
noted: if nothing is queued it goes past the queue.
"""

import os
from collections import deque
from typing import Deque

from process import _platform
from process.core._outbound import Outbound
from process.threads._monitor import Monitor
from process.threads._thread import StreamThread


class WriterThread(StreamThread):
    """Moves what callers have handed over into the child's stdin."""

    def __init__(
        self, monitor: Monitor, end: _platform.PipeEnd, name: str, outbound: Outbound
    ) -> None:
        super().__init__(monitor, end, name)
        self.outbound = outbound
        #: The thread is in the middle of a write.
        self.writing = False
        #: What a caller has written and not yet recorded, and where in the stream that begins.
        self._written: Deque[int] = deque()
        self._written_begin = 0

    # The thread's side.

    def _movable(self) -> bool:
        return len(self.outbound) > 0

    def _needed(self) -> bool:
        return self.outbound.closing or self.monitor.flow.busy

    def _over(self) -> bool:
        return self.outbound.finished

    def _move(self) -> None:
        outbound = self.outbound
        if self._used_up:
            self._used_up = False
            self._wait()
            return
        with self.monitor.lock:
            view = outbound.front(self.end.chunk)
            self.writing = True
        try:
            count = self.end.write(view)
        except OSError:  # EPIPE: the child has closed its end
            count = -1
        with self.monitor.lock:
            self.writing = False
            self._used_up = count is None or 0 <= count < len(view)
            del view
            if count == -1:
                outbound.break_off()
            elif count:
                self.end.moved(outbound.sent(count), outbound.closing)
            if self.monitor.notify():
                self._active = self.end.pollable

    def _finish(self) -> None:
        if not self.outbound.finished:
            self.outbound.break_off()

    # The callers' side.

    def wake_if_needed(self) -> None:
        # What is written while a caller waits is not kept until the next flush.
        self.outbound.tail = None
        super().wake_if_needed()

    def write_directly(self) -> bool:
        """Write what can be written without waiting, for a caller. Return whether nothing is left.

        The lock is held.

        This ends: a child that reads as fast as we write also writes, which takes the lock.
        """
        if self._written:
            self.commit()
        outbound, end = self.outbound, self.end
        buffer, outbound.tail = outbound.buffer, None
        view = buffer.front(end.chunk)
        if not view:
            return True
        if not self.claimable or not end.can_write_directly():
            return False
        while view:
            self._written_begin = buffer.position
            view_end = buffer.position + len(view)
            try:
                # In one call into C: an exception comes before the write or after the append.
                self._written.extend(map(os.write, (end.descriptor.fileno(),), (view,)))
            except BlockingIOError:
                return False
            except OSError:  # EPIPE: the child has closed its end
                self.break_off()
                return True
            del view
            self.commit()
            if buffer.position < view_end:
                return False
            view = buffer.front(end.chunk)
        return True

    def break_off(self) -> None:
        """The child has closed its end. The lock is held."""
        self.outbound.break_off()
        self.look()

    def commit(self) -> None:
        outbound = self.outbound
        # The thread looks, perhaps since a caller waits for a connected process; see above.
        outbound.tail = None
        if self._written:
            for count in self._written:
                if outbound.buffer.position == self._written_begin:
                    self.end.moved(outbound.sent(count), outbound.closing)
            self._written.clear()
            self.monitor.notify()

    def pass_on(self) -> None:
        """Leave what has not been sent to the thread, once callers are away. The lock is held."""
        if len(self.outbound) or self.outbound.finished:
            self.touch()
