"""What goes to the child's stdin: from the caller to the writer thread.

Theory of operation. Callers `put` bytes; the writer takes them from the `front` and says how many
it has `sent`. A caller may put any number of bytes at once (they are held by reference, not copied)
and then waits until no more than the bound is left. So a `write` that is interrupted while it waits
has still handed over all its bytes: none is lost and none is sent twice.

Small writes go to the `tail`, a `bytearray` that is the last chunk of the queue and grows in place:
one call into C. It is sealed, by a single store, before anybody looks at its bytes. A flush leaves
an empty one, so that the next small write need not open it.

A child may close its stdin at any time: the rest is thrown away and `broken` says so.

This module does no I/O and takes no lock: whatever shares an `Outbound` between threads guards it.
"""

from typing import Optional

from process.core._buffer import Buffer, Chunk
from process.core._flow import BOUND


class Outbound:
    """The bytes on their way to the child's stdin."""

    def __init__(self, bound: int = BOUND) -> None:
        #: No more will be put: once the rest is sent the pipe is closed.
        self.closing = False
        #: The child has closed its end.
        self.broken = False
        #: What small writes are appended to, if anything.
        self.tail: Optional[bytearray] = None
        self._bound = bound
        #: What is to be sent.
        self.buffer = Buffer()

    def __len__(self) -> int:
        return len(self.buffer)

    @property
    def full(self) -> bool:
        """Whether a caller has to wait before it may go on."""
        return len(self.buffer) > self._bound

    @property
    def finished(self) -> bool:
        """Whether the pipe is to be closed now."""
        return self.broken or (self.closing and not self.buffer)

    def put(self, chunk: Chunk) -> None:
        """Hand over `chunk`, which must not change from now on."""
        self.tail = None
        if not self.broken:
            self.buffer.append(chunk)

    def open_tail(self, data: bytes) -> None:
        """Hand over `data`, and let small writes follow it in place.

        It may be empty if nothing is left to be sent: what is sent later could drop an empty chunk
        behind it.
        """
        self.tail = None
        if not self.broken:
            tail = bytearray(data)
            self.buffer.append_open(tail)
            self.tail = tail

    def close(self) -> None:
        """No more will be put."""
        self.tail = None
        self.closing = True

    def front(self, size: int) -> memoryview:
        """The bytes to send next, at most `size`, without a copy."""
        self.tail = None
        return self.buffer.front(size)

    def sent(self, size: int) -> bool:
        """The first `size` bytes are in the pipe; whether something is left."""
        self.buffer.position += size
        # Not later: it may be the caller's input, and there may be no next call.
        return self.buffer.discard()

    def break_off(self) -> None:
        """The other end is closed, or the rest is not wanted: it is thrown away."""
        self.tail = None
        self.broken = True
        self.buffer = Buffer()
