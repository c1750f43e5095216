"""A queue of bytes, first in, first out.

Theory of operation. Every byte of a stream has an absolute offset. The buffer is a queue of
chunks, each with the offset of its first byte, and one integer: the offset of the next byte to
be taken. What is held, how much, and where it ends follow from these two; nothing is stored twice,
so nothing can disagree.

Invariant. Each mutation becomes visible by a single store (`append` of the queue, or the
assignment of the offset). An exception raised between any two lines, by a signal handler for
example, therefore leaves a buffer in which every byte is held exactly once: chunks that lie wholly
before the offset are garbage, which the next call discards.

Cost. `append` and `take` copy each byte at most once (twice below `_SMALL`, where chunks are
merged so that a child that writes byte by byte does not cost an object a byte); `find` looks at
each byte once however often it is asked.
"""

from collections import deque
from typing import Any, Deque, Dict, List, Tuple, Union

#: What a chunk can be: `bytes`, a view of the caller's input, which is not copied, or, as the last
#: one, an array that still grows.
Chunk = Union[bytes, bytearray, memoryview]

_SMALL = 4096

#: Separators for which the progress of the search is stored; usually there is one.
_SEPARATORS = 8


class Buffer:
    """Bytes in order, from one producer to one consumer."""

    __slots__ = ("_chunks", "_searched", "position")

    def __init__(self) -> None:
        self._chunks: Deque[Tuple[int, Chunk]] = deque()
        #: The offset in the stream of the next byte to be taken. Bytes that are known to be held
        #: are taken by adding to it; their chunks are discarded later.
        self.position = 0
        #: For each separator that was not found, where in the stream it may begin at the earliest.
        self._searched: Dict[bytes, int] = {}

    @property
    def end(self) -> int:
        """The offset in the stream after everything held."""
        if not self._chunks:
            return self.position
        start, chunk = self._chunks[-1]
        end = start + len(chunk)
        return end if end > self.position else self.position

    def __len__(self) -> int:
        if not self._chunks:
            return 0
        start, chunk = self._chunks[-1]
        size = start + len(chunk) - self.position
        return size if size > 0 else 0  # below: taken, and not discarded yet

    def append(self, chunk: Chunk) -> None:
        if not chunk:
            return
        chunks = self._chunks
        if chunks:
            start, last = chunks[-1]
            end = start + len(last)
            if end <= self.position:
                chunks.clear()  # all of them have been handed out
            elif len(chunk) < _SMALL and len(last) < _SMALL:
                chunks[-1] = (start, bytes(last) + bytes(chunk))
                return
            else:
                chunks.append((end, chunk))
                return
        chunks.append((self.position, chunk))

    def append_open(self, chunk: bytearray) -> None:
        """Add a chunk which may grow until the next one is added or bytes are taken."""
        chunks = self._chunks
        chunks.append((self.end if chunks else self.position, chunk))

    def front(self, size: int) -> memoryview:
        """A view of at most `size` bytes of the first chunk, without a copy."""
        chunks = self._chunks
        while chunks:
            start, chunk = chunks[0]
            offset = self.position - start
            length = len(chunk)
            if offset < length:
                view = memoryview(chunk)
                return view[offset : offset + size] if offset or size < length else view
            chunks.popleft()
        return memoryview(b"")

    def peek(self, size: int, offset: int = 0) -> bytes:
        """The bytes from `offset` on, at most `size`, which stay held."""
        position = self.position + offset
        pieces: List[Chunk] = []
        for start, chunk in self._chunks:
            begin = position - start
            held = len(chunk) - begin
            if held <= 0:
                continue
            if size <= held:  # the last piece
                if not pieces:
                    return bytes(chunk[begin : begin + size])
                pieces.append(memoryview(chunk)[begin : begin + size])
                break
            pieces.append(memoryview(chunk)[begin:] if begin else chunk)
            position += held
            size -= held
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Remove the first `size` bytes."""
        self.discard()
        self.position += min(size, len(self))

    def skip_to(self, position: int) -> None:
        """Remove what is before the offset `position`, unless that has been done."""
        self.discard()
        self.position = max(self.position, position)

    def take(self, size: int) -> bytes:
        data = self.peek(size)
        self.skip(len(data))
        return data

    def take_exactly(self, size: int) -> bytes:
        """Take `size` bytes if that leaves some of the first chunk, which is of `bytes`.

        Otherwise nothing is taken. This and `take_until` are for callers that do what depends on
        how much is held once for each chunk, not in each call. There is no call into C between the
        store that takes the bytes and the return.
        """
        if self._chunks:
            first: Tuple[int, Any] = self._chunks[0]
            start, chunk = first
            begin = self.position - start
            if begin + size < len(chunk):
                data: bytes = chunk[begin : begin + size]
                self.position += size
                return data
        return b""

    def take_until(self, separator: bytes) -> bytes:
        """`take_exactly` the bytes up to and including the first `separator`."""
        if self._chunks:
            first: Tuple[int, Any] = self._chunks[0]
            start, chunk = first
            begin = self.position - start
            index = chunk.find(separator, begin)
            end = index + len(separator)
            if index >= 0 and end < len(chunk):
                data: bytes = chunk[begin:end]
                self.position = start + end
                return data
        return b""

    def unread(self, data: bytes) -> None:
        """Put back, in front of everything held, what was taken last."""
        self.discard()
        self._searched = {}
        self._chunks.appendleft((self.position - len(data), data))
        self.position -= len(data)

    def find(self, separator: bytes) -> int:
        """The number of bytes up to and including the first `separator`, or -1.

        Called again for the same separator it continues where it stopped, so a long line that
        arrives in small pieces is searched once, not once for each piece.
        """
        if not self._chunks:
            return -1
        start, last = self._chunks[-1]
        end = start + len(last)
        if end <= self.position:
            return -1
        overlap = len(separator) - 1
        begin = max(self.position, self._searched.get(separator, self.position))
        #: The last bytes before a chunk, in which the separator may begin.
        tail = b""
        for start, chunk in self._chunks:
            if start + len(chunk) <= begin:
                continue
            data = bytes(chunk)
            low = max(0, begin - start)
            if tail:
                index = (tail + data[low : low + overlap]).find(separator)
                if index >= 0:
                    return start + low - len(tail) + index + len(separator) - self.position
            index = data.find(separator, low)
            if index >= 0:
                return start + index + len(separator) - self.position
            if overlap:
                tail = (tail + data[max(low, len(data) - overlap) :])[-overlap:]
        if len(self._searched) >= _SEPARATORS:
            self._searched = {}
        self._searched[separator] = max(begin, end - overlap)
        return -1

    def find_last(self, separator: bytes) -> int:
        """The number of bytes up to and including the last `separator` in the first chunk, or 0.

        Of a buffer that is not empty.
        """
        self.discard()
        start, chunk = self._chunks[0]
        index = bytes(chunk).rfind(separator)
        return 0 if index < 0 else max(0, start + index + len(separator) - self.position)

    def discard(self) -> bool:
        """Discard the chunks that have been taken, which otherwise happens in the next call.

        Returns:
            Whether a chunk is left.
        """
        chunks = self._chunks
        while chunks and chunks[0][0] + len(chunks[0][1]) <= self.position:
            chunks.popleft()
        return len(chunks) > 0
