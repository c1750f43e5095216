"""What a caller has read from a pipe, until it is recorded.

Theory of operation. A caller can be interrupted anywhere. What he reads goes into the hand within
the call into C that reads it, so an exception comes before the read, or finds the bytes here. To
record them is to feed them to the `Inbound`, whose end tells how far that has got: cut off in the
middle, by whomever, it is simply gone on with.

Where a chunk begins in the stream is noted when its recording begins, and not when it is read: a
signal handler may come between any note and the read that it is for, and read and record chunks of
its own.

One caller at a time reads, save for such a handler; recording is guarded by the lock that guards
the `Inbound`.
"""

import os
import time
from collections import deque
from typing import Deque, Optional, Tuple

from process.core._inbound import Inbound


class Hand:
    """Chunks on their way from a pipe into an `Inbound`."""

    __slots__ = ("_begun", "_chunks", "_inbound")

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        #: Each in a tuple of its own, by which it is known: equal bytes may be one object.
        self._chunks: Deque[Tuple[bytes]] = deque()
        #: The chunk whose recording was begun last, and where in the stream it begins.
        self._begun: Optional[Tuple[Tuple[bytes], int]] = None

    def __len__(self) -> int:
        return len(self._chunks)

    def read(self, descriptor: int, size: int) -> None:
        """Read at most `size` bytes.

        Raises:
            BlockingIOError: there is nothing yet, and the pipe does not block.
        """
        self._chunks.extend(zip(map(os.read, (descriptor,), (size,))))

    def record(self) -> int:
        """Feed everything to the `Inbound`; the number of bytes it was."""
        inbound = self._inbound
        size = 0
        while self._chunks:
            chunk = self._chunks[0]
            (data,) = chunk
            inbound.ending.arrived(time.monotonic())
            if not data:
                inbound.feed_eof()
            if self._begun is None or self._begun[0] is not chunk:
                self._begun = chunk, inbound.end
            recorded = inbound.end - self._begun[1]
            if recorded < len(data):
                inbound.feed(data[recorded:] if recorded else data)
            size += len(data)
            self._chunks.popleft()
        self._begun = None  # it refers to the bytes
        return size
