"""The overflow of a stream: a queue of bytes in temporary files.

Theory of operation. The queue is a sequence of segments. A segment is an unnamed temporary file,
or, once no file can be created or written (no directory, no descriptor, disk full), a buffer in
memory. Bytes are appended to the last segment and read from the first; a segment that has been read
to its end is closed, which frees its space. Segments double in size, so few are open at a time, and
at most about half of their space is already consumed.

Invariant. A byte belongs to the segment that has counted it. A write that fails half way has
written what it counted; the rest goes to the next segment. So no failure loses or doubles a byte.

One thread at a time uses the queue, so it has no lock. The `open_file` given to the constructor
creates the files.
"""

import errno
from collections import deque
from typing import Callable, Deque, Optional, Protocol, Union

from process.core._buffer import Buffer

_FIRST_SEGMENT = 16 * 1024 * 1024
_LARGEST_SEGMENT = 1024 * 1024 * 1024


class File(Protocol):
    """An unbuffered binary file."""

    def seek(self, offset: int, /) -> int: ...
    def read(self, size: int, /) -> Optional[bytes]: ...
    def write(self, data: memoryview, /) -> Optional[int]: ...
    def close(self) -> None: ...


class _FileSegment:
    """The part of the queue that is in one file."""

    def __init__(self, file: File, capacity: int) -> None:
        self._file = file
        self._capacity = capacity
        self._written = 0
        self._read = 0

    def __len__(self) -> int:
        return self._written - self._read

    @property
    def full(self) -> bool:
        return self._written >= self._capacity

    def write(self, data: memoryview) -> int:
        """Write as much of `data` as the file takes; the number of bytes written.

        Raises:
            OSError: nothing more can be written.
        """
        self._file.seek(self._written)
        count = self._file.write(data) or 0
        self._written += count
        return count

    def take(self, size: int) -> bytes:
        self._file.seek(self._read)
        data = self._file.read(min(size, len(self)))
        if not data:
            raise OSError(errno.EIO, "temporary file is shorter than what was written to it")
        self._read += len(data)
        return data

    def close(self) -> None:
        self._file.close()


class _MemorySegment(Buffer):
    """The part of the queue for which there was no file."""

    __slots__ = ()

    full = False

    def write(self, data: memoryview) -> int:
        self.append(bytes(data))
        return len(data)

    def close(self) -> None:
        self.skip(len(self))


_Segment = Union[_FileSegment, _MemorySegment]


class Overflow:
    """A queue of bytes, first in, first out, kept in files as far as possible."""

    def __init__(self, open_file: Callable[[], File]) -> None:
        self._open_file = open_file
        self._segments: Deque[_Segment] = deque()
        self._next_size = _FIRST_SEGMENT
        self._files_fail = False

    def __len__(self) -> int:
        return sum(map(len, self._segments))

    def append(self, chunk: bytes) -> None:
        """Add `chunk` at the end. Does not fail if there is no file."""
        data = memoryview(chunk)
        while data:
            segment = self._segments[-1] if self._segments else None
            if segment is None or segment.full:
                segment = self._new_segment()
                self._segments.append(segment)
            try:
                data = data[segment.write(data) :]
            except OSError:
                self._files_fail = True
                self._segments.append(_MemorySegment())

    def take(self, size: int) -> bytes:
        """Return bytes from the front, at most `size`, and at least one if any are held."""
        data = b""
        while self._segments and not data:
            if self._segments[0]:
                data = self._segments[0].take(size)
            if not self._segments[0]:
                self._segments.popleft().close()
        return data

    def close(self) -> None:
        """Discard what is held and free its space."""
        while self._segments:
            self._segments.popleft().close()

    def _new_segment(self) -> _Segment:
        if not self._files_fail:
            try:
                file = self._open_file()
            except OSError:
                self._files_fail = True
            else:
                size, self._next_size = self._next_size, min(2 * self._next_size, _LARGEST_SEGMENT)
                return _FileSegment(file, size)
        return _MemorySegment()
