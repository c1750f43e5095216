"""The file objects that callers get for the child's streams.

They are `io` classes by type, so whatever takes a file takes them, and by behaviour; but every
method that would touch the descriptor goes to the `Source` or `Sink` instead. The C base class is
initialised with the child's pipe only because it wants some descriptor; it never reads it.

Nothing is read ahead: the bytes stay in the library's buffer until a caller takes them. So a line
read here, `os.read` on `fileno()` there and `output()` at last see each byte once, in order.

They have no finalizer: the `Process` closes its streams when it is dropped.
"""

import io
import os
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional

from process._sink import Sink
from process._source import Source

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Unseekable(io.FileIO):
    """What readers and writers have in common: a pipe has no position."""

    def __del__(self) -> None:
        pass  # the process closes its streams; see the module's header

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def tell(self) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def truncate(self, size: Optional[int] = None, /) -> int:
        raise io.UnsupportedOperation("a pipe cannot be truncated")

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False


class _Lines:
    """What both readers have in common: what does not depend on how they are buffered."""

    source: Source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source.name}>"

    def fileno(self) -> int:
        return self.source.fileno()

    def readline(self, size: Optional[int] = -1, /) -> bytes:
        return self.source.read_line(-1 if size is None else size)

    def readlines(self, hint: Optional[int] = -1, /) -> List[bytes]:
        return _read_lines(self.source, hint)

    def __iter__(self) -> Iterator[bytes]:
        return self.source.lines()


class RawReader(_Lines, _Unseekable):
    """The child's stdout or stderr, unbuffered."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.pump.port.descriptor.fileno(), "rb", closefd=False)
        self.source = source

    def read(self, size: Optional[int] = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        return self.source.read_available(size)

    def readall(self) -> bytes:
        return self.source.read(-1)

    def readinto(self, buffer: "Buffer", /) -> int:
        return _fill(self.source, self.source.read_available, buffer)

    def close(self) -> None:
        self.source.close()
        super().close()


class Reader(_Lines, io.BufferedReader):
    """The child's stdout or stderr."""

    def __init__(self, raw: RawReader, buffer_size: int) -> None:
        super().__init__(raw, buffer_size)
        self.source = raw.source
        self._buffer_size = buffer_size

    def __del__(self) -> None:
        pass  # the process closes its streams; see the module's header

    def read(self, size: Optional[int] = -1, /) -> bytes:
        return self.source.read(-1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        return self.source.read_available(self._buffer_size if size < 0 else size)

    def peek(self, size: int = 0, /) -> bytes:
        return self.source.peek(self._buffer_size)

    def readinto(self, buffer: "Buffer", /) -> int:
        return _fill(self.source, self.source.read, buffer)

    def readinto1(self, buffer: "Buffer", /) -> int:
        return _fill(self.source, self.source.read_available, buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def tell(self) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def close(self) -> None:
        self.raw.close()


class RawWriter(_Unseekable):
    """The child's stdin, unbuffered."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink.pump.port.descriptor.fileno(), "wb", closefd=False)
        self.sink = sink

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stdin>"

    def fileno(self) -> int:
        self._check_open()
        return self.sink.fileno()

    def write(self, data: "Buffer", /) -> int:
        self._check_open()
        size = _hand_over(self.sink, data, 0)
        self.sink.flush()
        return size

    def flush(self) -> None:
        self._check_open()

    def close(self) -> None:
        if not self.closed:
            self.close_soon()
            self.sink.close()

    def close_soon(self) -> None:
        """Close without waiting until everything is sent."""
        self.sink.close_soon()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("write to closed file")


class Writer(io.BufferedWriter):
    """The child's stdin."""

    def __init__(self, raw: RawWriter, buffer_size: int) -> None:
        super().__init__(raw, buffer_size)
        self._unbuffered = raw
        self.sink = raw.sink
        self._buffer_size = buffer_size

    def __del__(self) -> None:
        pass  # the process closes its streams; see the module's header

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stdin>"

    def fileno(self) -> int:
        return self._unbuffered.fileno()

    def write(self, data: "Buffer", /) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        return _hand_over(self.sink, data, self._buffer_size)

    def flush(self) -> None:
        if self.closed:
            raise ValueError("flush of closed file")
        self.sink.flush()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def tell(self) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def truncate(self, size: Optional[int] = None, /) -> int:
        raise io.UnsupportedOperation("a pipe cannot be truncated")

    def close(self) -> None:
        self.raw.close()

    def close_soon(self) -> None:
        """Close without waiting until everything is sent."""
        self._unbuffered.close_soon()


def _fill(source: Source, read: Callable[[int], bytes], buffer: "Buffer") -> int:
    data = b""
    try:
        with memoryview(buffer) as view, view.cast("B") as target:
            data = read(len(target))
            target[: len(data)] = data
        return len(data)
    except BaseException:
        source.unread(data)
        raise


def _read_lines(source: Source, hint: Optional[int]) -> List[bytes]:
    if hint is None or hint <= 0:
        return io.BytesIO(source.read(-1)).readlines()
    lines: List[bytes] = []
    total = 0
    try:
        while total < hint:
            line = source.read_line(-1)
            if not line:
                break
            lines.append(line)
            total += len(line)
    except BaseException:
        source.unread(b"".join(lines))
        raise
    return lines


def _hand_over(sink: Sink, data: Any, buffer_size: int) -> int:
    if type(data) is not bytes:
        data = bytes(memoryview(data))  # the caller may change it as soon as we return
    sink.write(data, buffer_size)
    return len(data)


def lendable(file: Any) -> Optional[Source]:
    """The source behind `file`, if it is a stream of another process."""
    return file.source if isinstance(file, (RawReader, Reader)) else None
