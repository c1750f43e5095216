"""The child's stdout or stderr, as tasks see it.

It is an `asyncio.StreamReader` by type and by behaviour, except that

- what it holds is bounded by the contract rather than by the limit, and beyond memory it is held in
  files (see `_spool`);
- a line may have any length (asyncio's throws away an over-long line, which would lose bytes);
- every wait counts as waiting (see `_monitor`).

1. The position of the buffer says what has been handed out. A call changes it by a single store,
   as late as possible; if an exception is raised after that, the call restores it.
2. A call that is served by the first chunk of the buffer does nothing else (`_direct`). Everything
   that depends on how much is held is done by the call that uses the chunk up, or finds too little
   there.
3. A call that finds what it wants does not suspend its task. A loop of such calls, over megabytes
   that are held because a task has waited for something else, would keep all other tasks from
   running. So once calls have handed out as many bytes as the bound without a wait, the next one
   lets the loop run other tasks first.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, Tuple, Union

from process._handover import belongs_to_loop
from process._interpreter import interrupted_after_returns
from process.asyncio._monitor import LoopMonitor
from process.asyncio._read_operation import ALL, LINE, ReadOperation
from process.asyncio._spool import Spool
from process.core._flow import BOUND, Wait
from process.core._inbound import Collection, Inbound
from process.core.errors import ProcessError

if TYPE_CHECKING:
    from process.core._buffer import Buffer

#: Bytes copied in one iteration of the event loop.
_PIECE = 1024 * 1024

#: What a call costs, in bytes whose handing out takes about as long.
_CALL = 256

#: Whether a call may take from the first chunk without noting what it has taken.
_HAS_FRONTS = not interrupted_after_returns()

#: Bytes held up to which there is room for more whatever callers do.
_ROOMY = BOUND // 2


class Reader(asyncio.StreamReader):
    """An output stream of the child."""

    def __init__(
        self, monitor: LoopMonitor, transport: asyncio.ReadTransport, name: str, buffer_size: int
    ) -> None:
        super().__init__(limit=buffer_size or 1, loop=monitor.loop)
        self.name = name
        self.inbound = Inbound(monitor.flow)
        #: What lies beyond memory.
        self.spool = Spool(monitor, self.inbound)
        self._monitor = monitor
        self._pipe = transport
        self._paused_pipe = False
        #: The buffer, if the next call may take from its first chunk and has nothing else to do
        #: unless it uses it up; else `None`.
        self._direct: Optional[Buffer] = self.inbound.buffer if _HAS_FRONTS else None
        #: Bytes handed out, and what the calls have cost, since the event loop had its turn.
        self._unpaid = 0
        #: The position up to which bytes are part of `_unpaid`.
        self._counted = 0
        #: What has ended the pipe before its end of file.
        self._error: Optional[BaseException] = None
        #: Why bytes have been lost.
        self._failure: Optional[BaseException] = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # The transport's side.

    def feed_data(self, data: Any) -> None:
        inbound = self.inbound
        try:
            if inbound.ending.running:
                inbound.ending.arrived(time.monotonic())
            direct = self._direct
            # What lies beyond memory comes first, however little it is.
            if direct is not None and not inbound.spilled and len(direct) + len(data) <= _ROOMY:
                direct.append(data)
            else:
                self._feed_much(data)
        except MemoryError as error:
            # Raised, it would be logged by the loop, which goes on without these bytes.
            self._fail(error)
        self._monitor.notify()

    def _feed_much(self, data: bytes) -> None:
        if self.inbound.spills(len(data)):
            self._monitor.held_back.add(self)
            self.spool.append(data)
        else:
            self.inbound.feed(data)
        if not self._paused_pipe and not self._has_room and not self._pipe.is_closing():
            self._paused_pipe = True
            self._monitor.held_back.add(self)
            self._pipe.pause_reading()

    def feed_eof(self) -> None:
        self.inbound.feed_eof()
        self.advance()
        self._monitor.notify()

    def set_exception(self, exc: BaseException) -> None:
        self._error = exc
        self.feed_eof()

    def exception(self) -> Optional[BaseException]:  # type: ignore[override]
        return self._error

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Do nothing: the reader has been made with its transport."""

    @property
    def _has_room(self) -> bool:
        return not self.spool.congested and self.inbound.room() > 0

    def advance(self) -> None:
        """Read on, from the pipe and from the spool, if there is room."""
        if self._paused_pipe and (self.inbound.ending.eof or self._has_room):
            if not self._pipe.is_closing():
                with contextlib.suppress(RuntimeError):  # an exception was raised after this before
                    self._pipe.resume_reading()
            self._paused_pipe = False
        if self.spool.failure is not None:
            self._fail(self.spool.failure)
        elif self.inbound.spilled:
            if not self.spool.busy:
                self._monitor.loop.call_soon(self.spool.advance)
        elif not self._paused_pipe:
            self._monitor.held_back.discard(self)

    def polled(self) -> None:
        """A caller has asked whether the process still runs; the next read takes note of it."""
        self._direct = None

    # The callers' side.

    def at_eof(self) -> bool:
        return self.inbound.at_eof and not self.inbound.held

    async def read(self, n: int = -1) -> bytes:
        if n < 0:
            return await self._read(ALL)
        if self._direct is not None and self._unpaid < BOUND:
            self._unpaid += _CALL
            data = self._direct.take_exactly(n)
            if data:
                return data
        return await self._read(ReadOperation(least=min(n, 1), most=n))

    async def readexactly(self, n: int) -> bytes:
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        if self._direct is not None and self._unpaid < BOUND:
            self._unpaid += _CALL
            data = self._direct.take_exactly(n)
            if data:
                return data
        return await self._read(ReadOperation(least=n, most=n, strict=True))

    async def readline(self) -> bytes:
        if self._direct is not None and self._unpaid < BOUND:
            self._unpaid += _CALL
            line = self._direct.take_until(b"\n")
            if line:
                return line
        return await self._read(LINE)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        if type(separator) is bytes and separator:
            if self._direct is not None and self._unpaid < BOUND:
                self._unpaid += _CALL
                data = self._direct.take_until(separator)
                if data:
                    return data
            separators: Tuple[bytes, ...] = (separator,)
        else:
            separators = _separators(separator)
        if not separators or not all(separators):
            raise ValueError("Separator should be at least one-byte string")
        return await self._read(ReadOperation(separators=separators, strict=True))

    async def _read(self, operation: ReadOperation) -> bytes:
        """Do what was not done by a look at the first chunk: wait, perhaps, and take.

        Raises:
            IncompleteReadError: the stream has ended first. The error has the bytes.
            OSError: the pipe could not be read to its end, and nothing is left.
            ProcessError: bytes have been lost.
        """
        if self._unpaid >= BOUND:
            await self._give_a_turn()
        if not _HAS_FRONTS:  # else the call has been counted
            self._unpaid += _CALL
        if operation.large:
            return await self._read_large(operation)
        inbound = self.inbound
        while True:
            buffer = self._direct
            if buffer is None:
                if inbound.busy:
                    await self._monitor.changed()
                    continue
                buffer = inbound.buffer
            size = operation.size(buffer)
            if size < 0 and inbound.at_eof:
                size = len(buffer)
            if size >= 0:
                break
            self._unpaid = 0
            await self._monitor.changed(None, inbound, operation.least)
        data = buffer.peek(size)
        begin = buffer.position
        end = begin + len(data)
        self._count(end)
        try:
            buffer.skip_to(end)
            buffer.discard()
            if self._direct is None:
                inbound.taken()
                if _HAS_FRONTS and not inbound.closed:
                    self._direct = buffer
            if self._monitor.held_back:
                self.advance()
            if not data or self._failure is not None:
                self._check()
            operation.check(data)
        except asyncio.IncompleteReadError:
            raise  # it has the bytes
        except BaseException:
            if data and buffer.position > begin:
                buffer.unread(data)
            raise
        return data

    async def _read_large(self, operation: ReadOperation) -> bytes:
        """Read more bytes than the bound, which are gathered rather than held."""
        collection = Collection(operation.least)
        wait = Wait()
        data = b""
        try:
            while self.inbound.busy:
                await self._monitor.changed()
            if await self._begin(collection, wait):
                while not self.inbound.collected(collection):
                    await self._monitor.changed(None, self.inbound)
                if collection.lost:
                    self.check()
                data = self.inbound.finish(collection)
                self._count(self.inbound.position)
                self.advance()  # the last chunk may have left no room
                self._monitor.notify()  # it is the next caller's turn
            if not data or self._failure is not None:
                self._check()
            operation.check(data)
            return data
        except asyncio.IncompleteReadError:
            raise  # it has the bytes
        except BaseException:
            if data:
                self.inbound.buffer.unread(data)
            self.abandon(collection)
            raise

    async def _give_a_turn(self) -> None:
        """Let the event loop go round once. Nothing has been taken: cancelled, nothing is lost."""
        self._unpaid = 0
        await asyncio.sleep(0)

    def _count(self, position: int) -> None:
        """Add to `_unpaid` what has been handed out."""
        self._unpaid += max(0, position - self._counted)
        self._counted = position

    def _check(self) -> None:
        """See why there is nothing to return; see `_read`."""
        self.check()
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        """Bytes are lost, and what is left must not be taken for the whole."""
        # The frames of its traceback refer to bytes, and to what refers to it.
        self._failure = error.with_traceback(None)
        self.spool.failure = None
        self.close()

    def lose(self, error: MemoryError) -> None:
        """Close the stream, since there is no memory for what is left of it, if anything is."""
        if not self.at_eof():
            self._fail(error)

    def check(self) -> None:
        """See that no bytes have been lost.

        Raises:
            ProcessError: some have been, for want of memory. The cause is chained.
        """
        if self._failure is not None:
            raise ProcessError(f"{self.name} has failed: {self._failure!r}") from self._failure

    # Collecting: everything to the end, as one `bytes` object.

    async def collect(self, collection: Collection, wait: Wait) -> bool:
        """Begin to collect when the stream's turn has come.

        From now on, and for as long as `wait` exists, the stream may hold without bound.

        Returns:
            Whether it has begun. It has not if the stream is closed; nor if it has ended with
            silence while another task reads to end of file, and keeps the turn.
        """
        turn = await self._unless_silent(lambda: not self.inbound.busy)
        return turn and await self._begin(collection, wait)

    async def _begin(self, collection: Collection, wait: Wait) -> bool:
        """Begin to collect now, with what is held, piecewise. Return whether that has begun.

        A stream that is closed in the middle of this leaves the caller what it has gathered.
        """
        self._direct = None
        if self.inbound.closed:
            return False
        self.inbound.begin(collection, wait)
        self.advance()
        try:
            while not self.inbound.gather(_PIECE):
                await self._give_a_turn()
        except MemoryError as error:
            if not self.inbound.lost:
                raise
            self._fail(error)
        return True

    async def complete(self, collection: Collection) -> bool:
        """Wait for the end of the stream and keep what was collected.

        Ends at end of file, or after a second of silence once the process has ended.

        Returns:
            Whether it was end of file.
        """
        inbound = self.inbound
        await self._unless_silent(lambda: inbound.collected(collection), inbound)
        if not collection.lost:
            inbound.keep(collection)
        self._monitor.notify()  # it is the next caller's turn, though this one may wait on
        return inbound.at_eof

    async def _unless_silent(self, reached: Callable[[], bool], own: Any = None) -> bool:
        """Wait until `reached()`, or until the stream has ended with silence.

        Return whether it was the former. For `own` see `LoopMonitor.changed`.
        """
        ending = self.inbound.ending
        while not reached():
            now = time.monotonic()
            if self._paused_pipe or self.inbound.spilled:
                ending.arrived(now)  # nobody listens to the pipe, or not all has been handed out
            remaining = ending.remaining(now)
            if self.inbound.at_eof:  # the call whose turn it is has all, and soon ends its turn
                remaining = None
            if remaining == 0:
                await self._monitor.polled()
                if ending.remaining(time.monotonic()) == 0:
                    return reached()  # that has brought nothing
            else:
                await self._monitor.changed(remaining, own)
        return True

    def abandon(self, collection: Collection) -> None:
        """The task that collected is gone; what it has not kept goes to the next."""
        collection.abandon()
        self._monitor.notify()

    def _hand_over(self) -> NoReturn:
        raise belongs_to_loop(self.name)

    def close(self) -> None:
        """Close the reading end and throw away what has not been read."""
        self._direct = None
        self.inbound.close()
        self.spool.close()
        self.advance()
        self._monitor.notify()
        self._pipe.close()


def _separators(separator: Union[bytes, Tuple[bytes, ...]]) -> Tuple[bytes, ...]:
    """What `readuntil` is given: one separator, or a tuple of several."""
    several = separator if isinstance(separator, tuple) else (separator,)
    return tuple(bytes(memoryview(each)) for each in several)
