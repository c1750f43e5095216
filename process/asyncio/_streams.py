"""The streams of an asyncio process.

They are `asyncio.StreamReader` and `asyncio.StreamWriter` by type and by behaviour, save that

- what the reader holds is bounded by the contract rather than by the limit alone, and lines may be
  of any length: a reader that throws away an over-long line loses bytes;
- a writer's `drain` reports a child that has closed its end as `BrokenPipeError`, as a file would.

Every wait counts as waiting (see `_turnstile`).
"""

import asyncio
import errno
import math
import os
import time
from collections import deque
from operator import length_hint
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple, cast

from process.asyncio._turnstile import Turnstile
from process.core._buffer import Buffer
from process.core._flow import BOUND, Wait
from process.core._inbound import Collection, Inbound
from process.core._outbound import Outbound
from process.core.errors import ProcessError

#: Bytes copied in one turn of the event loop.
_PIECE = 1024 * 1024

#: What a call costs by itself, in bytes whose handing out would take about as long.
_CALL = 256


class Reader(asyncio.StreamReader):
    """The child's stdout or stderr.

    A call that finds what it wants does not wait; and a loop of such calls, over megabytes that
    were held while somebody waited for something else, would let nobody else run until it has read
    them all. So whenever the calls have handed out a bound of bytes without a wait, the next one
    first gives the event loop a turn.
    """

    def __init__(
        self, turnstile: Turnstile, transport: asyncio.ReadTransport, name: str, buffer_size: int
    ) -> None:
        super().__init__(limit=buffer_size or 1, loop=turnstile.loop)
        self.name = name
        self.inbound = Inbound(turnstile.flow, memory=math.inf)
        self._turnstile = turnstile
        self._pipe = transport
        self._paused_pipe = False
        #: Bytes handed out, and what that has cost, since the event loop had its turn.
        self._unpaid = 0
        self._error: Optional[BaseException] = None
        #: Why bytes have been lost.
        self._failure: Optional[MemoryError] = None
        turnstile.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # The transport's side.

    def feed_data(self, data: Any) -> None:
        self.inbound.ending.arrived(time.monotonic())
        try:
            self.inbound.feed(data)
        except MemoryError as error:
            # Raised, it would be logged by the loop, which goes on without these bytes.
            self._fail(error)
        if not self.inbound.room() and not self._paused_pipe and not self._pipe.is_closing():
            self._paused_pipe = True
            self._pipe.pause_reading()
        self._turnstile.notify()

    def feed_eof(self) -> None:
        self.inbound.feed_eof()
        self._turnstile.notify()

    def set_exception(self, exc: BaseException) -> None:
        self._error = exc
        self.feed_eof()

    def exception(self) -> Optional[BaseException]:  # type: ignore[override]
        return self._error

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Nothing to do: the reader has been made with its transport."""

    def resume_if_room(self) -> None:
        """Read on if there is room."""
        if self._paused_pipe and self.inbound.room() and not self._pipe.is_closing():
            self._paused_pipe = False
            self._pipe.resume_reading()

    # The callers' side.

    def at_eof(self) -> bool:
        return self.inbound.at_eof and not self.inbound.held

    async def read(self, n: int = -1) -> bytes:
        if n < 0:
            return await self._read_large(math.inf)

        def any_at_all(buffer: Buffer, eof: bool) -> int:
            return n if buffer or eof or not n else -1

        return await self._take(any_at_all, 1)

    async def readexactly(self, n: int) -> bytes:
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")

        def check(data: bytes) -> None:
            if len(data) < n:
                raise asyncio.IncompleteReadError(data, n)

        if n > BOUND:
            return await self._read_large(n, check)

        def enough(buffer: Buffer, eof: bool) -> int:
            return n if len(buffer) >= n or eof else -1

        return await self._take(enough, n, check)

    async def readline(self) -> bytes:
        return await self._read_until((b"\n",), incomplete=True)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        several = isinstance(separator, tuple)
        separators = cast("Tuple[bytes, ...]", separator if several else (separator,))
        if not separators or not all(separators):
            raise ValueError("Separator should be at least one-byte string")
        return await self._read_until(separators, incomplete=False)

    async def _read_until(self, separators: Tuple[bytes, ...], incomplete: bool) -> bytes:
        found = True

        def first(buffer: Buffer, eof: bool) -> int:
            nonlocal found
            found = True
            lengths = map(buffer.find, separators)
            length = min((length for length in lengths if length >= 0), default=-1)
            if length < 0 and eof:
                found = False
                return len(buffer)
            return length

        def check(data: bytes) -> None:
            if not found and not incomplete:
                raise asyncio.IncompleteReadError(data, None)

        return await self._take(first, 0, check)

    async def _take(
        self,
        decide: Callable[[Buffer, bool], int],
        need: int,
        check: "Optional[Callable[[bytes], None]]" = None,
    ) -> bytes:
        """Wait until `decide` says how many bytes to take (not -1), and take them.

        Args:
            decide: is given what is held, and whether that is all.
            need: how many bytes have to be held before that; 0 if it cannot be known.
            check: raises an `IncompleteReadError`, with the bytes, if they are not what was wanted.
        """
        if self._unpaid >= BOUND:
            await self._give_a_turn()
        inbound = self.inbound
        data = b""
        end = inbound.end
        try:
            while True:
                if inbound.busy:
                    with self._turnstile.waiting():
                        await self._turnstile.changed()
                    continue
                size = decide(inbound.buffer, inbound.at_eof)
                if size >= 0:
                    data = inbound.buffer.peek(size)
                    end = inbound.buffer.position + len(data)
                    self._unpaid += len(data) + _CALL
                    inbound.taken()
                    inbound.buffer.skip_to(end)
                    self.resume_if_room()
                    self._check(data, check)
                    return data
                with self._turnstile.waiting(inbound, need or inbound.held + BOUND):
                    self._unpaid = 0
                    await self._turnstile.changed()
        except asyncio.IncompleteReadError:
            raise  # the bytes are in it
        except BaseException:
            if data and inbound.buffer.position == end:
                inbound.buffer.unread(data)
            raise

    async def _read_large(
        self, goal: float, check: "Optional[Callable[[bytes], None]]" = None
    ) -> bytes:
        if self._unpaid >= BOUND:
            await self._give_a_turn()
        collection = Collection(goal)
        wait = Wait()
        data = b""
        try:
            while self.inbound.busy:
                with self._turnstile.waiting():
                    await self._turnstile.changed()
            if await self._begin(collection, wait):
                with self._turnstile.waiting(self.inbound):
                    while not self.inbound.collected(collection):
                        await self._turnstile.changed()
                if collection.lost:
                    self.check()
                data = self.inbound.finish(collection)
                self._unpaid += len(data)
                self._turnstile.notify()  # it is the next caller's turn
            self._check(data, check)
            return data
        except asyncio.IncompleteReadError:
            raise  # the bytes are in it
        except BaseException:
            if data:
                self.inbound.buffer.unread(data)
            self.abandon(collection)
            raise

    async def _give_a_turn(self) -> None:
        """Let the event loop go round once. Nothing has been taken: cancelled, nothing is lost."""
        self._unpaid = 0
        await asyncio.sleep(0)

    def _check(self, data: bytes, check: "Optional[Callable[[bytes], None]]") -> None:
        """See whether `data` can be given to the caller.

        Raises:
            IncompleteReadError: it is not what was wanted.
            OSError: the pipe could not be read to its end, and nothing is left.
            ProcessError: bytes have been lost.
        """
        self.check()
        if not data and self._error is not None:
            raise self._error
        if check is not None:
            check(data)

    def _fail(self, error: MemoryError) -> None:
        """Bytes are lost: nobody is to take the rest for the whole."""
        # The frames of its traceback refer to bytes, and to what refers to it.
        self._failure = error.with_traceback(None)
        self.close()

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
        with self._turnstile.waiting():
            turn = await self._unless_silent(lambda: not self.inbound.busy)
        return turn and await self._begin(collection, wait)

    async def _begin(self, collection: Collection, wait: Wait) -> bool:
        """Begin to collect now, with what is held, piece by piece; whether the stream is open."""
        if self.inbound.closed:
            return False
        self.inbound.begin(collection, wait)
        self.resume_if_room()
        try:
            while not self.inbound.gather(_PIECE):
                await self._give_a_turn()
        except MemoryError as error:
            if not self.inbound.lost:
                raise
            self._fail(error)
        return not self.inbound.closed

    async def complete(self, collection: Collection) -> bool:
        """Wait for the end of the stream and keep what was collected.

        Ends at end of file, or after a second of silence once the process has ended.

        Returns:
            Whether it was end of file.
        """
        inbound = self.inbound
        with self._turnstile.waiting(inbound):
            await self._unless_silent(lambda: inbound.collected(collection))
        if not collection.lost:
            inbound.keep(collection)
        return inbound.at_eof

    async def _unless_silent(self, reached: Callable[[], bool]) -> bool:
        """Wait until `reached()`, or until the stream has ended with silence; whether the former.

        The caller has registered that he waits.
        """
        ending = self.inbound.ending
        while not reached():
            remaining = ending.remaining(time.monotonic())
            if self.inbound.at_eof:  # whose turn it is has got all, and soon gives it away
                remaining = None
            if remaining == 0:
                await self._turnstile.polled()
                if ending.remaining(time.monotonic()) == 0:
                    return reached()  # that has brought nothing
            else:
                await self._turnstile.changed(remaining)
        return True

    def abandon(self, collection: Collection) -> None:
        """The task that collected is gone; what it has not kept goes to the next."""
        collection.abandon()
        self._turnstile.notify()

    def close(self) -> None:
        """Close the reading end and throw away what has not been read."""
        self.inbound.close()
        self._turnstile.notify()
        self._pipe.close()


class Writer(asyncio.StreamWriter):
    """The child's stdin.

    Bytes wait in an `Outbound`, by reference, and go to the transport a piece at a time whenever it
    has room: given megabytes at once it would copy them, and move them about while the loop waits.
    """

    def __init__(
        self,
        turnstile: Turnstile,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
    ) -> None:
        super().__init__(transport, protocol, None, turnstile.loop)
        self._outbound = Outbound()
        self._turnstile = turnstile
        self._pipe = transport
        self._full = False
        self._lost = False
        #: The piece that is being handed to the pipe, and the offset in the stream behind it.
        self._handed: Optional[Tuple[Iterator[memoryview], int]] = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stdin>"

    def __del__(self, warnings: Any = None) -> None:
        pass  # the process closes its streams when it is dropped

    # The transport's side.

    def pause_writing(self) -> None:
        """The transport holds as much as it wants to."""
        self._full = True

    def resume_writing(self) -> None:
        """The transport has room again.

        Nothing is written here. `asyncio` calls this in the middle of its own writing, after which
        it looks whether it was told to close; told so from here, it drops what was written here.
        """
        self._full = False
        self._turnstile.loop.call_soon(self._push)
        self._turnstile.notify()

    def connection_lost(self) -> None:
        """The pipe is closed, by us or by the child."""
        self._lost = True
        self._outbound.break_off()
        self._turnstile.notify()

    def _push(self) -> None:
        outbound = self._outbound
        self._record()
        while not self._full and len(outbound) and not self._pipe.is_closing():
            piece = outbound.front(BOUND)
            pieces = iter((piece,))
            self._handed = pieces, outbound.position + len(piece)
            deque(map(self._pipe.write, pieces), maxlen=0)
            self._record()
            self._turnstile.notify()  # whoever drains may have looked before this
        if outbound.finished:
            self._pipe.close()

    def _record(self) -> None:
        """Let go of a piece that the pipe has been given.

        Taking it out of the iterator and giving it to the pipe is one call into C. So if an
        exception has struck before this, the iterator still tells whether it was given.
        """
        if self._handed is not None:
            pieces, end = self._handed
            if not length_hint(pieces):
                self._outbound.sent(max(0, end - self._outbound.position))
            self._handed = None

    # The callers' side.

    def write(self, data: Any) -> None:
        if self._outbound.closing:
            raise ValueError("write to closed stream")
        # Once the child has closed its end the bytes go nowhere; `drain` says so.
        self._outbound.put(data if type(data) is bytes else bytes(memoryview(data)))
        self._push()

    def writelines(self, data: Iterable[Any]) -> None:
        for chunk in data:
            self.write(chunk)

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        self._outbound.closing = True
        self._push()

    def is_closing(self) -> bool:
        return self._outbound.closing or self._pipe.is_closing()

    async def drain(self) -> None:
        self._push()  # what a `write` that was interrupted has left
        with self._turnstile.waiting():
            while (len(self._outbound) or self._full) and not self._lost:
                await self._turnstile.changed()
        if self._pipe.is_closing() and not self._outbound.closing:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    async def wait_closed(self) -> None:
        with self._turnstile.waiting():
            while not self._lost:
                await self._turnstile.changed()

    def abort(self) -> None:
        """Throw away what has not been sent, and close the pipe."""
        self._outbound.closing = True
        self.break_off()

    def break_off(self) -> None:
        """The same, of a pipe that nobody reads: whoever writes on gets a `BrokenPipeError`."""
        if self._lost:
            return  # and the transport, which may hold bytes all the same, has no loop any more
        self._outbound.break_off()
        if self._pipe.get_write_buffer_size():
            self._pipe.abort()
        else:
            self._pipe.close()
