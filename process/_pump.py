"""The threads that move bytes between the child's pipes and the library's buffers.

Theory of operation. Each piped stream has a pump of its own: a daemon thread that reads the child's
stdout or stderr into an `Inbound`, or writes an `Outbound` into its stdin. A pump repeats one step:
under the lock it decides what to do next, outside the lock it does it, under the lock it records
what was done. It waits in one place only, `Port.wait`, and there it is either rung or its pipe
becomes ready (on platforms without `poll`: it blocks in the read or write itself).

Why no pump waits for ever while a caller waits: see `_plumbing` for the wake-ups and `core._flow`
for the room. A reader pump that has room waits for nothing but its own pipe. A writer pump that has
bytes waits for nothing but its own pipe. No pump ever waits for another pump, nor for a caller who
himself waits.

Pumps are the only threads that touch the child's pipes, and no signal handler runs in them, so what
has been read is recorded whatever happens to the callers. The pump that owns a descriptor closes
it, under the lock, as its last act; nobody else does, so nobody closes it under a poll.

A pump refers to the plumbing and to its own stream, not to the `Process` or to a stream object.
`stop` is a plain store and a ring, without a lock: a finalizer may stop a pump at any line,
including a line of that very pump.
"""

import enum
import threading
import time
from abc import ABC, abstractmethod
from typing import Optional

from process import _platform
from process._plumbing import Plumbing
from process._spool import open_spool
from process.core._inbound import CHUNK, Inbound
from process.core._outbound import Outbound
from process.core._overflow import Overflow


class _Waits(enum.Enum):
    """What a pump is waiting for, or about to."""

    NOTHING = enum.auto()
    ROOM = enum.auto()
    PIPE = enum.auto()


class Pump(ABC):
    """A thread that serves one pipe."""

    def __init__(self, plumbing: Plumbing, port: _platform.Port, name: str) -> None:
        self.name = name
        self.plumbing = plumbing
        self.port = port
        #: The pump has ended, and its pipe is closed.
        self.done = False
        self._stopping = False
        self._waits = _Waits.NOTHING
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: there is no thread to be had.
        """
        self.plumbing.add(self)
        self._thread.start()

    def stop(self) -> None:
        """Make the pump end, whatever it is doing. Safe in finalizers."""
        self._stopping = True
        self.port.ring()

    def join(self, timeout: Optional[float] = None) -> None:
        """Wait until the pump has ended, unless this is its own thread, or it may be stuck.

        Ends because the pump has been told to stop, and every wait of a pump can be woken; where it
        cannot be, the pump is left to end by itself.
        """
        if self._thread.ident is None:
            self._end()  # it has never begun
        elif not self.port.blocking and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def kick(self) -> None:
        """Ring the pump if it waits although it may move. The lock is held."""
        if not self.done and self._waits is not _Waits.NOTHING and self._movable():
            self.port.ring()

    def process_ended(self, now: float) -> None:  # noqa: B027 - of interest to readers only
        """The process has ended. The lock is held."""

    def _run(self) -> None:
        try:
            while not self._stopping and self._step():
                pass
        finally:
            self._end()

    def _end(self) -> None:
        with self.plumbing.lock:
            self.port.descriptor.close()
            self._finish()
            self.done = True
            self.plumbing.changed.notify()
        self.port.release()

    def _wait(self, ready: bool) -> None:
        if not self._stopping and self.port.wait(ready):
            self.plumbing.process_ended()

    @abstractmethod
    def _step(self) -> bool:
        """Do one thing, or wait until there is one; whether to go on."""

    @abstractmethod
    def _movable(self) -> bool:
        """Whether there is something to do for a pump that waits. The lock is held."""

    @abstractmethod
    def _finish(self) -> None:
        """The pump has ended and its pipe is closed. The lock is held."""


class ReaderPump(Pump):
    """Moves what the child writes into memory, and into the overflow."""

    def __init__(
        self, plumbing: Plumbing, port: _platform.Port, name: str, inbound: Inbound
    ) -> None:
        super().__init__(plumbing, port, name)
        self.inbound = inbound
        #: Who passes the bytes on to a pipe of the caller's, if anybody does.
        self.relay: Optional[Pump] = None
        self._overflow = Overflow(open_spool)
        #: Bytes may be in our hands, neither in the pipe nor recorded.
        self._busy = False

    def process_ended(self, now: float) -> None:
        self.inbound.ending.process_ended(now)

    def silent(self) -> bool:
        """Whether nothing has arrived for as long as it takes, and nothing is on its way.

        The lock is held. The clock has been asked before; this looks at the pipe itself, because a
        process that was stopped or starved has slept through arrivals.
        """
        inbound = self.inbound
        if self.done or inbound.at_eof:
            return True
        now = time.monotonic()
        if self._busy or inbound.spilled or not inbound.room() or self.port.pending():
            inbound.ending.arrived(now)
        return inbound.ending.remaining(now) == 0

    def _movable(self) -> bool:
        if self.inbound.closed or self.inbound.refill():
            return True
        return self._waits is _Waits.ROOM and self.inbound.room() > 0

    def _step(self) -> bool:
        inbound = self.inbound
        with self.plumbing.lock:
            if inbound.closed or (inbound.ending.eof and not inbound.spilled):
                return False
            refill = inbound.refill()
            room = 0 if refill else inbound.room()
            self._busy = bool(refill or room) and not self.port.blocking
            self._waits = _Waits.NOTHING if refill else _Waits.PIPE if room else _Waits.ROOM
        if refill:
            self._refill(refill)
        elif not room:
            self._wait(ready=False)
        else:
            data = self.port.read(room)
            if data is None:
                self._busy = False
                self._wait(ready=True)
            else:
                self._record(data)
        return True

    def _record(self, data: bytes) -> None:
        inbound = self.inbound
        with self.plumbing.lock:
            inbound.ending.arrived(time.monotonic())
            spills = bool(data) and inbound.spills(len(data))
            if not data:
                inbound.feed_eof()
            elif not spills:
                inbound.feed(data)
            if not spills:
                self._tell()  # else it is still in our hands
        if spills:
            self._overflow.append(data)
            with self.plumbing.lock:
                inbound.spilled += len(data)
                self._tell()

    def _refill(self, size: int) -> None:
        data = self._overflow.take(size)
        with self.plumbing.lock:
            self.inbound.spilled -= len(data)
            self.inbound.feed(data)
            self._tell()

    def _tell(self) -> None:
        self._busy = False
        self._waits = _Waits.NOTHING
        self.plumbing.changed.notify()
        if self.relay is not None:
            self.relay.kick()

    def _end(self) -> None:
        self._overflow.close()
        super()._end()

    def _finish(self) -> None:
        if not self.inbound.ending.eof:
            self.inbound.close()
        if self.relay is not None:
            self.relay.kick()


class WriterPump(Pump):
    """Moves what the caller has handed over into the child's stdin."""

    def __init__(
        self, plumbing: Plumbing, port: _platform.Port, name: str, outbound: Outbound
    ) -> None:
        super().__init__(plumbing, port, name)
        self.outbound = outbound
        self._writing = False

    def share(self) -> int:
        """The descriptor, for the caller to write to; see `Port.share`.

        The pump is between two writes while the lock is held, or in one that does not block and
        that ends at once.
        """
        while True:
            with self.plumbing.lock:
                if not self._writing or self.port.blocking:
                    return self.port.share()
                waiter = self.plumbing.changed.enrol()
            waiter.wait()

    def _movable(self) -> bool:
        return self._waits is _Waits.ROOM and (len(self.outbound) > 0 or self.outbound.finished)

    def _step(self) -> bool:
        outbound = self.outbound
        with self.plumbing.lock:
            if outbound.finished:
                return False
            view = outbound.front(CHUNK)
            self._writing = bool(view)
            self._waits = _Waits.NOTHING if view else _Waits.ROOM
        if not view:
            self._wait(ready=False)
            return True
        try:
            count = self.port.write(view)
        except OSError:  # EPIPE: the child has closed its end
            count = -1
        with self.plumbing.lock:
            self._writing = False
            if count == -1:
                outbound.break_off()
            elif count:
                outbound.sent(count)
            self.plumbing.changed.notify()
        if count is None:
            del view
            self._wait(ready=True)
        return True

    def _finish(self) -> None:
        if len(self.outbound):
            self.outbound.break_off()


class RelayPump(Pump):
    """Moves what a reader pump has read into a pipe of which the caller has the other end."""

    def __init__(
        self, plumbing: Plumbing, port: _platform.Port, name: str, reader: ReaderPump
    ) -> None:
        super().__init__(plumbing, port, name)
        self.reader = reader

    @property
    def _in_use(self) -> bool:
        """Whether the reader's bytes are ours to move."""
        return self.reader.relay is self

    def _movable(self) -> bool:
        inbound = self.reader.inbound
        ready = inbound.at_eof or len(inbound.buffer) > 0
        return self._in_use and self._waits is _Waits.ROOM and ready

    def _step(self) -> bool:
        inbound = self.reader.inbound
        with self.plumbing.lock:
            view = inbound.buffer.front(CHUNK) if self._in_use else memoryview(b"")
            if not view and inbound.at_eof and self._in_use:
                return False
            self._waits = _Waits.NOTHING if view else _Waits.ROOM
        if not view:
            self._wait(ready=False)
            return True
        try:
            count = self.port.write(view)
        except OSError:  # EPIPE: whoever reads has left early
            return False
        del view
        if count is None:
            self._wait(ready=True)
        else:
            with self.plumbing.lock:
                inbound.buffer.skip(count)
                inbound.taken()
                self.reader.kick()
        return True

    def _finish(self) -> None:
        if not self._in_use:
            return
        # Nobody can get anything more this way: let the child know, as a shell pipeline does.
        if not self.reader.inbound.at_eof:
            self.reader.inbound.close()
        self.reader.kick()
