"""The file objects that callers get for the child's streams.

They are `io` classes by type and by behaviour, so whatever takes a file takes them; but every
method that would touch the descriptor goes to the `Source` or `Sink` instead. The C base class is
initialised with the child's pipe only because it wants some descriptor; it never reads it.

The *front*: small calls that find what they need are served by one call into C, without the lock.
A reader has iterators over what comes next (`Source.lines`, `blocks`); a `for` statement
takes one item and returns it, so that no signal handler can come in between. A writer has an array
that small writes are appended to (`Outbound.tail`). Where other threads or signal handlers may run
between any two instructions (`_interpreter`) there are no fronts, and every call takes the lock.

They have no finalizer of their own: the `Process` closes its streams when it is dropped.
"""

import contextlib
import io
import os
from typing import TYPE_CHECKING, Any, Callable, List, Optional

from process._handover import Offer
from process._interpreter import atomic_between_calls
from process.threads._lines import next_line_of
from process.threads._sink import Sink, contiguous
from process.threads._source import NOTHING, Source

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

#: What the finalizers of `io` are replaced with: a call into C, in which no signal handler runs.
_do_nothing: Any = bool


class _Unseekable:
    """What all of them have in common: a pipe has no position."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")

    def truncate(self, size: Optional[int] = None, /) -> int:
        raise io.UnsupportedOperation("a pipe cannot be truncated")


class _WithoutPosition(_Unseekable):
    """The same for what callers get."""

    def tell(self) -> int:
        raise io.UnsupportedOperation("a pipe is not seekable")


class _File(_Unseekable, io.FileIO):
    """An unbuffered file.

    It has no `tell` of its own: `io` calls that when it makes a buffered object, and ignores what
    it raises, be it the exception of a signal handler.
    """

    __del__ = _do_nothing

    def seekable(self) -> bool:
        self._check_open()
        return False

    def isatty(self) -> bool:
        self._check_open()
        return False

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class _Reading(_WithoutPosition):
    """What both readers have in common: what does not depend on how they are buffered."""

    source: Source

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool: ...

    def _init_front(self, source: Source) -> None:
        self.source = source
        self._lines = self._blocks = NOTHING
        self._block_size = -1
        self._block_chunk = source.block_chunk
        # The type has a slot of this name: `next` finds an iterator written in C there.
        self.__next__: Any = next_line_of(source)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source.name}>"

    def fileno(self) -> int:
        return self.source.fileno()

    def __iter__(self) -> "Self":
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return self

    def readline(self, size: Optional[int] = -1, /) -> bytes:
        if size == -1:
            for line in self._lines:
                return line
        line = b""
        try:
            line = self.source.read_line(-1 if size is None else size)
            self._lines = self.source.lines
            return line
        except BaseException:
            self.source.returned.append((line,))
            self.source.restore()
            raise

    def readlines(self, hint: Optional[int] = -1, /) -> List[bytes]:
        return _read_lines(self.source, hint)

    def _read_block(self, size: int, whole: bool = True) -> bytes:
        data: Optional[bytes] = None
        source = self.source
        try:
            data = source.read(size) if whole else source.read_available(size)
            self._blocks, self._block_size = source.blocks, source.block_size
            self._block_chunk = source.block_chunk
            return data  # type: ignore[return-value] # `None`, if non-blocking, as `io` has it
        except BaseException:
            source.returned.append((data or b"",))
            source.restore()
            raise

    def _hand_over(self) -> Offer:
        return self.source.offer()


class _Raw(_File):
    """What a `Reader` has as `raw`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.reader.end.descriptor.fileno(), "rb", closefd=False)
        self.source = source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source.name}>"

    def fileno(self) -> int:
        return self.source.fileno()

    def read(self, size: Optional[int] = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        return self.source.read_available(size)  # type: ignore[return-value]

    def readall(self) -> bytes:
        return self.source.read(-1)  # type: ignore[return-value]

    def readinto(self, buffer: "Buffer", /) -> int:
        return _fill(self.source, self.source.read_available, buffer)

    def close(self) -> None:
        self.source.close()
        with contextlib.suppress(ValueError):  # as in `_RawStdin.close_soon`
            super().close()


class RawReader(_Reading, _Raw):
    """The child's stdout or stderr, unbuffered."""

    __slots__ = ("__next__",)

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._init_front(source)

    def read(self, size: Optional[int] = -1, /) -> bytes:
        if size == self._block_size:
            for data in self._blocks:
                return data
        if size is None or size < 0:
            return self.readall()
        return self._read_block(size, whole=False)


class Reader(_Reading, io.BufferedReader):
    """The child's stdout or stderr."""

    __slots__ = ("__next__",)

    __del__ = _do_nothing

    def __init__(self, source: Source, buffer_size: int) -> None:
        self._raw = _Raw(source)
        super().__init__(self._raw, buffer_size)
        self._init_front(source)
        self._buffer_size = buffer_size

    def read(self, size: Optional[int] = -1, /) -> bytes:
        if size == self._block_size:
            for data in self._blocks:
                return data
        if size is not None and size < -1:
            raise ValueError("read length must be non-negative or -1")
        return self._read_block(-1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        if size == self._block_size:
            for data in self._blocks:
                return data
        return self._read_block(self._buffer_size if size < 0 else size, whole=False)

    def peek(self, size: int = 0, /) -> bytes:
        return self.source.peek(self._buffer_size)

    def readinto(self, buffer: "Buffer", /) -> int:
        size = memoryview(buffer).nbytes
        if 0 < size == self._block_size:  # after the call, in which another thread may read
            # The front has whole blocks, or nothing any more.
            for count in map(self._block_chunk.readinto, (buffer,)):
                if count:
                    return count
        return _fill(self.source, self._read_block, buffer)

    def readinto1(self, buffer: "Buffer", /) -> int:
        return _fill(self.source, self.source.read_available, buffer)

    def detach(self) -> Any:
        raw = super().detach()
        self.source = Detached()  # type: ignore[assignment]
        self._lines = self._blocks = NOTHING
        self._block_size = -1
        self.__next__ = self.readline
        return raw

    def close(self) -> None:
        self._raw.close()


class Detached:
    """What a buffered stream has instead of a source or a sink once its `raw` was detached."""

    name = "detached"

    def __getattr__(self, name: str) -> Any:
        raise ValueError("raw stream has been detached")


class _Writing:
    """What both writers have in common."""

    sink: Sink

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool: ...

        def close_soon(self) -> None:
            """Close without waiting until everything is sent."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stdin>"

    def fileno(self) -> int:
        self._check_open()
        return self.sink.fileno()

    def close(self) -> None:
        if not self.closed:
            self.close_soon()
            self.sink.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("write to closed file")

    def _hand_over(self) -> Offer:
        self._check_open()
        return self.sink.offer()


class _RawStdin(_Writing, _File):
    """What a `Writer` has as `raw`."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink.writer.end.descriptor.fileno(), "wb", closefd=False)
        self.sink = sink

        # Without a method in between.
        self.write: Any = sink.write_through

    def flush(self) -> None:
        self._check_open()

    def close_soon(self) -> None:
        self.sink.close_soon()
        with contextlib.suppress(ValueError):  # it flushes, and another thread has closed it
            io.FileIO.close(self)


class RawWriter(_WithoutPosition, _RawStdin):
    """The child's stdin, unbuffered."""


class Writer(_WithoutPosition, _Writing, io.BufferedWriter):
    """The child's stdin."""

    __del__ = _do_nothing

    def __init__(self, sink: Sink, buffer_size: int) -> None:
        self._unbuffered = _RawStdin(sink)
        super().__init__(self._unbuffered, buffer_size)
        self.sink = sink
        self.flush: Any = sink.flush  # without a method in between
        self._outbound = sink.outbound
        self._buffer_size = buffer_size
        #: Bytes that may be pending without being looked at: none where there is no front.
        self._front_size = buffer_size if atomic_between_calls() else -1

    def write(self, data: "Buffer", /) -> int:
        if type(data) is bytes and self._front_size > 0:
            tail = self._outbound.tail
            if tail is not None:
                # Nothing else runs between the look at the tail and this.
                tail += data
                if len(tail) >= self._front_size:
                    self.sink.push()
                return len(data)
        self._check_open()
        chunk = contiguous(data)
        self.sink.write(chunk, self._buffer_size)
        return len(chunk)

    def detach(self) -> Any:
        raw = super().detach()
        self.sink = Detached()  # type: ignore[assignment]
        del self.flush  # that of `io` says so, too
        self._front_size = -1
        return raw

    def close_soon(self) -> None:
        self._unbuffered.close_soon()


def _fill(source: Source, read: Callable[[int], Optional[bytes]], buffer: "Buffer") -> int:
    data: Optional[bytes] = b""
    try:
        with memoryview(buffer) as view, view.cast("B") as target:
            data = read(len(target))
            if data is None:
                return None  # type: ignore[return-value] # as `io` has it
            target[: len(data)] = data
        return len(data)
    except BaseException:
        source.returned.append((data or b"",))
        source.restore()
        raise


def _read_lines(source: Source, hint: Optional[int]) -> List[bytes]:
    if hint is None or hint <= 0:
        return io.BytesIO(source.read(-1) or b"").readlines()
    lines: List[bytes] = []
    try:
        _append_lines(source, hint, lines)
        return lines
    except BaseException:
        source.returned.append((b"".join(lines),))
        source.restore()
        raise


def _append_lines(source: Source, hint: int, lines: List[bytes]) -> None:
    """Append lines until they have `hint` bytes.

    A function of its own, since a handler that raises at the end of a loop is not sure to be in the
    `try` block around it (CPython 3.12).
    """
    total = 0
    while total < hint:
        line = source.read_line(-1)
        if not line:
            return
        lines.append(line)
        total += len(line)
