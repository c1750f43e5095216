"""The protocol that connects the loop's subprocess transport with our streams."""

import asyncio
import time
from typing import Callable, Dict, Optional, cast

from process.asyncio._monitor import LoopMonitor
from process.asyncio._reader import Reader
from process.asyncio._writer import Writer

#: Called once, with the transport of a child that has been started, and its protocol.
Arrived = Callable[[asyncio.SubprocessTransport, "ChildProtocol"], None]


class ChildProtocol(asyncio.SubprocessProtocol):
    """Receives what the loop has to tell of a child.

    The protocol that asyncio itself uses means the exit by `wait` on some versions and the end of
    the pipes on others, and its streams stop reading whether a task waits or not. This one records
    the exit itself, and its streams know who waits.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer_size: int,
        arrived: Arrived,
        on_reaped: Callable[[], None],
    ) -> None:
        self.monitor = LoopMonitor(loop)
        #: The loop has reaped the child, and may say so later.
        self.reaped = False
        #: The process has ended.
        self.exited = False
        #: The process has ended, and all its pipes are closed.
        self.gone = False
        self.transport: Optional[asyncio.SubprocessTransport] = None
        # The names under which `asyncio.subprocess.Process` looks for them.
        self.stdin: Optional[Writer] = None
        self.stdout: Optional[Reader] = None
        self.stderr: Optional[Reader] = None
        #: Called when `gone` becomes true.
        self.when_gone: Optional[Callable[[], None]] = None
        self._buffer_size = buffer_size
        self._arrived: Optional[Arrived] = arrived
        #: Called when `reaped` becomes true before the pipes are connected.
        self._on_reaped: Optional[Callable[[], None]] = on_reaped
        #: There was no memory for the streams, and the child has been killed.
        self.out_of_memory = False
        self._open: Dict[int, Reader] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            self._connect(transport)
        except MemoryError:  # which the loop would only log
            self.out_of_memory = True
            transport.close()  # which kills the child, too

    def _connect(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since those of uvloop are transports by behaviour only.
        self.transport = cast("asyncio.SubprocessTransport", transport)
        pipe = self.transport.get_pipe_transport(0)
        if pipe is not None:
            self.stdin = Writer(self.monitor, cast("asyncio.WriteTransport", pipe), self)
        self.stdout = self._reader(self.transport.get_pipe_transport(1), 1, "stdout")
        self.stderr = self._reader(self.transport.get_pipe_transport(2), 2, "stderr")
        arrived, self._arrived, self._on_reaped = self._arrived, None, None
        assert arrived is not None
        arrived(self.transport, self)

    def _reader(
        self, pipe: Optional[asyncio.BaseTransport], number: int, name: str
    ) -> Optional[Reader]:
        if pipe is None:
            return None
        transport = cast("asyncio.ReadTransport", pipe)
        reader = Reader(self.monitor, transport, name, self._buffer_size)
        self.monitor.readers.append(reader)
        self._open[number] = reader
        return reader

    def pause_writing(self) -> None:
        assert self.stdin is not None
        self.stdin.pause_writing()

    def resume_writing(self) -> None:
        assert self.stdin is not None
        self.stdin.resume_writing()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        reader = self._open.get(fd)
        if reader is not None:  # else it could not be made
            reader.feed_data(data)

    def pipe_connection_lost(self, fd: int, exc: Optional[Exception]) -> None:
        if fd == 0 and self.stdin is not None:
            self.stdin.connection_lost()
        reader = self._open.pop(fd, None)
        if reader is not None:
            self.monitor.readers.remove(reader)
            if exc is None:
                reader.feed_eof()
            else:
                reader.set_exception(exc)
        self._close_if_over()

    @property
    def process_exited(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> Callable[[], None]:
        """What the loop calls when the process has ended.

        asyncio asks for it as soon as the child is reaped, and calls it once the pipes are
        connected: never, if its task that connects them has been cancelled.
        """
        self.reaped = True
        on_reaped, self._on_reaped = self._on_reaped, None
        if on_reaped is not None:
            on_reaped()
            self.monitor.notify()
        return self._process_exited

    def _process_exited(self) -> None:
        self.exited = True
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.inbound.ending.process_ended(time.monotonic())
        self.monitor.notify()
        self._close_if_over()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.gone = True
        if self.stdin is not None:  # uvloop may tell of the pipe after this
            self.stdin.connection_lost()
        # They refer to the protocol, some of them for ever, so only the garbage collector would
        # free them; and what a reader has kept may be large.
        self.transport = self.stdin = self.stdout = self.stderr = None
        when_gone, self.when_gone = self.when_gone, None
        if when_gone is not None:
            when_gone()
        self.monitor.notify()

    def _close_if_over(self) -> None:
        """Close the transport once nothing more can come: left open, it would warn."""
        if self.exited and not self._open and self.transport is not None:
            if self.stdin is not None:
                self.stdin.break_off()
            self.transport.close()
