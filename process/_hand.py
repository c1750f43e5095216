"""What a caller has read from a pipe, until it is recorded.

Theory of operation. A caller can be interrupted anywhere. What he reads goes into the hand within
the call into C that reads it, so an exception comes before the read, or finds the bytes here. To
record them is to feed them to the `Inbound`, whose end tells how far that has got: cut off in the
middle, by whomever, it is simply gone on with.

One caller at a time reads; recording is guarded by the lock that guards the `Inbound`.
"""

import os
import time
from collections import deque
from typing import Deque

from process.core._inbound import Inbound


class Hand:
    """Chunks on their way from a pipe into an `Inbound`."""

    __slots__ = ("_begin", "_chunks", "_inbound")

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._chunks: Deque[bytes] = deque()
        #: Where in the stream they begin.
        self._begin = 0

    def __len__(self) -> int:
        return len(self._chunks)

    def read(self, descriptor: int, size: int) -> None:
        """Read at most `size` bytes.

        Raises:
            BlockingIOError: there is nothing yet, and the pipe does not block.
        """
        if not self._chunks:
            self._begin = self._inbound.end
        self._chunks.extend(map(os.read, (descriptor,), (size,)))

    def record(self) -> int:
        """Feed everything to the `Inbound`; the number of bytes it was."""
        inbound = self._inbound
        position = self._begin
        for data in self._chunks:
            inbound.ending.arrived(time.monotonic())
            if not data:
                inbound.feed_eof()
            recorded = inbound.end - position
            if recorded < len(data):
                inbound.feed(data[recorded:] if recorded else data)
            position += len(data)
        self._chunks.clear()
        return position - self._begin
