"""What goes to the child's stdin: from the caller's hands to the pump's.

Theory of operation. Callers `put` bytes, the pump takes them from the `front` and says how many it
has `sent`. A caller may put as much as he likes at once (the bytes are his, and are held by
reference, not copied); then he waits until no more than the bound is left. So a `write` that is
interrupted while it waits has still handed over all its bytes: none is lost and none is sent twice.

A child that closes its stdin is its own affair: the rest is thrown away and `broken` says so.

This module does no I/O and takes no lock: whoever shares an `Outbound` between threads guards it.
"""

from process.core._buffer import Buffer, Chunk
from process.core._flow import BOUND


class Outbound:
    """The bytes on their way to the child's stdin."""

    def __init__(self, bound: int = BOUND) -> None:
        #: No more will be put: once the rest is sent the pipe is closed.
        self.closing = False
        #: The child has closed its end.
        self.broken = False
        self._bound = bound
        self._buffer = Buffer()

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def full(self) -> bool:
        """Whether a caller has to wait before he may go on."""
        return len(self._buffer) > self._bound

    @property
    def finished(self) -> bool:
        """Whether the pipe is to be closed now."""
        return self.broken or (self.closing and not self._buffer)

    def put(self, chunk: Chunk) -> None:
        """Hand over `chunk`, which must not change from now on."""
        if not self.broken:
            self._buffer.append(chunk)

    def front(self, size: int) -> memoryview:
        """The bytes to send next, at most `size`, without a copy."""
        return self._buffer.front(size)

    @property
    def position(self) -> int:
        """The offset in the stream of the next byte to send."""
        return self._buffer.position

    def sent(self, size: int) -> None:
        """The first `size` bytes are in the pipe."""
        self._buffer.skip(size)
        self._buffer.discard()  # it may be the caller's input, and there may be no next call

    def break_off(self) -> None:
        """The other end is closed, or nobody is to get the rest: it is thrown away."""
        self.broken = True
        self._buffer = Buffer()
