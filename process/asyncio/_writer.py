"""The child's stdin, as tasks see it.

It is an `asyncio.StreamWriter` by type and by behaviour, except that

- `drain` waits until the pipe has been given everything, not only until there is room again, and
  reports a child that has closed its end as `BrokenPipeError`, as a file does;
- every wait counts as waiting (see `_monitor`).

1. A few bytes go to the transport at once if it has room and nothing is queued (`_direct`).
2. All others wait in an `Outbound`, by reference, and go to the transport a piece at a time
   whenever it has room. Given megabytes at once it would copy them, and move them about while the
   loop waits.
3. Where writes of the transport could raise SIGPIPE it is given nothing (see `_pipe`).
"""

import asyncio
import errno
import os
from collections import deque
from operator import length_hint
from typing import Any, Iterable, Iterator, List, NoReturn, Optional, Tuple

from process import _platform
from process._handover import belongs_to_loop
from process.asyncio._monitor import LoopMonitor
from process.asyncio._pipe import UnsignalledPipe
from process.core._flow import BOUND
from process.core._outbound import Outbound

#: Bytes that the transport may have to copy.
_FEW = 64 * 1024


class Writer(asyncio.StreamWriter):
    """The input stream of the child."""

    def __init__(
        self,
        monitor: LoopMonitor,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
    ) -> None:
        super().__init__(transport, protocol, None, monitor.loop)
        self._outbound = Outbound()
        self._monitor = monitor
        self._pipe = transport
        #: Nothing is queued, and the transport has room.
        self._direct = True
        #: The transport holds as much as it wants to.
        self._full = False
        #: The pipe is closed.
        self._lost = False
        #: The piece that is being given to the pipe, and the offset in the stream behind it.
        self._given: Optional[Tuple[Iterator[memoryview], int]] = None
        #: What takes the place of the transport, from the first time that it has to.
        self._unsignalled: Optional[UnsignalledPipe] = None
        #: How many bytes were written there, if that is not recorded yet, and the offset before.
        self._written: Tuple[List[int], int] = [], 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stdin>"

    def __del__(self, warnings: Any = None) -> None:
        pass  # the process closes its streams when it is dropped

    # The transport's side.

    def pause_writing(self) -> None:
        """The transport holds as much as it wants to."""
        self._full = True
        self._direct = False

    def resume_writing(self) -> None:
        """The transport has room again.

        Nothing is written here. `asyncio` calls this in the middle of its own writing, after which
        it looks whether it was told to close. If it were told so here, it would drop what was
        written here.
        """
        self._full = False
        self._monitor.loop.call_soon(self._push)
        self._monitor.notify()

    def connection_lost(self) -> None:
        """The pipe is closed, by us or by the child."""
        self._lost = True
        self._direct = False
        self._outbound.break_off()
        self._unwatch()
        self._monitor.notify()

    def _push(self) -> None:
        """Give the pipe what is queued, as far as it has room."""
        outbound = self._outbound
        self._record()
        if _platform.writes_raise_signals():
            self._write_piece()
        else:
            self._unwatch()
            while not self._full and len(outbound) and not self._pipe.is_closing():
                piece = outbound.front(BOUND)
                pieces = iter((piece,))
                self._given = pieces, outbound.buffer.position + len(piece)
                deque(map(self._pipe.write, pieces), maxlen=0)
                self._record()
                self._monitor.notify()  # a task that drains may have looked before this
        if outbound.finished:
            self._pipe.close()
        self._direct = not (self._full or len(outbound) or outbound.closing or outbound.broken)

    def _write_piece(self) -> None:
        """Write to the pipe in place of the transport, once in an iteration of the loop."""
        outbound = self._outbound
        if self._unsignalled is None:
            self._unsignalled = UnsignalledPipe(self._monitor.loop, self._pipe, self._push)
        if len(outbound) and not self._pipe.is_closing():
            self._written = [], outbound.buffer.position
            try:
                self._unsignalled.write(outbound.front(BOUND), self._written[0])
            except BlockingIOError:
                pass  # there is no room
            except OSError:  # the child has closed its end
                self.break_off()
            self._record()
            self._monitor.notify()
        if len(outbound) and not self._pipe.is_closing():
            self._unsignalled.watch()
        else:
            self._unsignalled.unwatch()

    def _unwatch(self) -> None:
        if self._unsignalled is not None:
            self._unsignalled.unwatch()

    def _record(self) -> None:
        """Let go of a piece that the pipe has been given.

        Taking it out of the iterator and giving it to the pipe is one call into C. So if an
        exception was raised before this, the iterator still tells whether it was given. The same
        holds for writing it and noting how much was written.
        """
        if self._given is not None:
            pieces, end = self._given
            if not length_hint(pieces):
                self._outbound.sent(max(0, end - self._outbound.buffer.position))
            self._given = None
        counts, begin = self._written
        if counts:
            self._outbound.sent(max(0, begin + counts[0] - self._outbound.buffer.position))
            self._written = [], 0

    # The callers' side.

    def write(self, data: Any) -> None:
        if self._direct and type(data) is bytes and len(data) <= _FEW:
            if self._pipe.is_closing():
                return  # the child has closed its end; `drain` says so
            if not _platform.writes_raise_signals():
                self._pipe.write(data)
                return
        if self._outbound.closing:
            raise ValueError("write to closed stream")
        # Once the child has closed its end the bytes go nowhere.
        self._direct = False
        self._outbound.put(data if type(data) is bytes else bytes(memoryview(data)))
        self._push()

    def writelines(self, data: Iterable[Any]) -> None:
        for chunk in data:
            self.write(chunk)

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        self._direct = False
        self._outbound.closing = True
        self._push()

    def is_closing(self) -> bool:
        return self._outbound.closing or self._pipe.is_closing()

    async def drain(self) -> None:
        if self._direct and not self._pipe.is_closing():
            return
        self._push()  # what a `write` that was interrupted has left
        while (len(self._outbound) or self._full) and not self._lost:
            await self._monitor.changed()
        if self._pipe.is_closing() and not self._outbound.closing:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    async def wait_closed(self) -> None:
        while not self._lost:
            await self._monitor.changed()

    def _hand_over(self) -> NoReturn:
        raise belongs_to_loop("stdin")

    def abort(self) -> None:
        """Throw away what has not been sent, and close the pipe."""
        self._outbound.closing = True
        self.break_off()

    def break_off(self) -> None:
        """`abort` for a pipe that nobody reads: a caller that writes on gets `BrokenPipeError`."""
        self._direct = False
        if self._lost:
            return  # and the transport, which may hold bytes all the same, has no loop any more
        self._outbound.break_off()
        self._unwatch()
        if self._pipe.get_write_buffer_size():
            self._pipe.abort()
        else:
            self._pipe.close()
