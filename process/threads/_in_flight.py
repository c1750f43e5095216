"""Bytes that a caller has read from a pipe, until they are recorded.

Theory of operation. A caller can be interrupted anywhere. The bytes are stored here within the call
into C that reads them, so an exception comes before the read, or finds them here. To record them is
to feed them to the `Inbound`, whose `end` says how much of a chunk it has: if a recording is cut
off, the next one goes on from there.

Where a chunk begins in the stream is noted when its recording begins, and not when it is read: a
signal handler may come between a note and the read that it is for, and read and record chunks of
its own.

Everything happens under the lock of the monitor.
"""

import os
import time
from collections import deque
from typing import Deque, Optional, Tuple

from process.core._inbound import Inbound


class InFlight:
    """Chunks on their way from a pipe into an `Inbound`."""

    __slots__ = ("_begun", "_inbound", "chunks")

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        #: What is to be recorded, each in a tuple of its own, by which it is known: equal bytes may
        #: be one object.
        self.chunks: Deque[Tuple[bytes]] = deque()
        #: The chunk whose recording was begun last, and where in the stream it begins.
        self._begun: Optional[Tuple[Tuple[bytes], int]] = None

    def read(self, descriptor: int, size: int) -> None:
        """Read at most `size` bytes.

        Raises:
            BlockingIOError: there is nothing yet, and the pipe does not block.
        """
        self.chunks.extend(zip(map(os.read, (descriptor,), (size,))))

    def record(self) -> int:
        """Feed everything to the `Inbound`. Return how many bytes it was."""
        inbound = self._inbound
        size = 0
        while self.chunks:
            chunk = self.chunks[0]
            (data,) = chunk
            if inbound.ending.running:
                inbound.ending.arrived(time.monotonic())
            if not data:
                inbound.feed_eof()
            if self._begun is None or self._begun[0] is not chunk:
                self._begun = chunk, inbound.end
                inbound.feed(data)
            else:  # it was cut off
                inbound.feed(data[inbound.end - self._begun[1] :])
            size += len(data)
            self.chunks.popleft()
        self._begun = None  # it refers to the bytes
        return size
