"""What moves bytes between the child's pipes and the library's buffers.

Theory of operation. Each piped stream has a pump of its own, which reads the child's stdout or
stderr into an `Inbound`, or writes an `Outbound` into its stdin. A pump has a thread for the work
that no caller does: see `_plumbing` for when that begins. Until then it is a caller who waits that
`move`s the bytes, so that a short conversation pays for no thread and no hand-over. From then on
the thread does it alone.

The thread, a daemon, repeats one step: under the lock it decides what to do next, outside the lock
it does it, under the lock it records what was done. It waits in one place only, `Port.wait`, and
there it is either rung or its pipe becomes ready (on platforms without `poll`: it blocks in the
read or write itself).

Why no pump waits for ever while a caller waits: see `_plumbing` for the wake-ups and `core._flow`
for the room. A reader pump that has room waits for nothing but its own pipe. A writer pump that has
bytes waits for nothing but its own pipe. No pump ever waits for another pump, nor for a caller who
himself waits.

No signal handler runs in the thread, so what it has read is recorded whatever happens to callers. A
caller who `move`s can be interrupted anywhere. So what he reads goes into a `Hand`, and whoever
comes next records it; the number of bytes that he has written likewise. He holds the lock
meanwhile, which nobody notices: the call does not block.

A pump's descriptor is closed under the lock and by whoever serves the pipe, so nobody closes it
under a poll.

A pump refers to the plumbing and to its own stream, not to the `Process` or to a stream object.
`stop` is a plain store and a ring, without a lock: a finalizer may stop a pump at any line,
including a line of that very pump.
"""

import _thread
import enum
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Deque, List, Optional

from process import _platform
from process._hand import Hand
from process._plumbing import Plumbing
from process._spool import open_spool
from process.core._flow import Wait
from process.core._inbound import CHUNK, Inbound
from process.core._outbound import Outbound
from process.core._overflow import Overflow
from process.core.errors import ProcessError

#: Seconds that one waits for a thread which may be stuck for once.
_PATIENCE = 1.0


class _Waits(enum.Enum):
    """What a pump is waiting for, or about to."""

    NOTHING = enum.auto()
    ROOM = enum.auto()
    PIPE = enum.auto()


def _start(thread: threading.Thread) -> None:
    """Start `thread`, out of the reach of signal handlers.

    One that raises in the middle of `Thread.start` leaves a thread that does not find itself, and
    says so on stderr. Handlers run in the main thread only, so another one does it for that.

    Raises:
        RuntimeError: there is no thread to be had.
    """
    if threading.current_thread() is not threading.main_thread():
        thread.start()
        return
    failure: List[BaseException] = []
    started = threading.Lock()
    started.acquire()

    def start() -> None:  # pragma: no cover - tracers do not get to see this thread
        try:
            thread.start()
        except BaseException as error:
            failure.append(error)
        finally:
            started.release()

    _thread.start_new_thread(start, ())
    started.acquire()  # ends because `start` does
    if failure:
        raise failure[0]


class Pump(ABC):
    """What serves one pipe."""

    def __init__(self, plumbing: Plumbing, port: _platform.Port, name: str) -> None:
        self.name = name
        self.plumbing = plumbing
        self.port = port
        #: The pump has ended, and its pipe is closed.
        self.done = False
        #: The thread serves the pipe; else callers do.
        self.attended = False
        #: The last move was not cut short, so the next one is worth a try without waiting.
        self.eager = False
        #: Whether it takes bytes from the child.
        self.drains = False
        #: What has ended the thread before its time, such as a lack of memory.
        self.failure: Optional[Exception] = None
        self._stopping = False
        self._waits = _Waits.NOTHING
        self._thread: Optional[threading.Thread] = None
        #: The thread that is just starting it; 0: none.
        self._starter = 0
        self._begun = False

    def start(self) -> None:
        """Begin to serve the pipe.

        Raises:
            RuntimeError: a thread is needed at once, and there is none to be had.
        """
        self.plumbing.add(self)
        if self.port.blocking:
            self.employ()

    def employ(self) -> None:
        """Let the thread serve the pipe from now on, if it does not already.

        Raises:
            RuntimeError: there is no thread to be had.
        """
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        try:
            with self.plumbing.lock:
                if self.done or (self.attended and not self.deserted):
                    return
                self._starter = threading.get_ident()
                self._thread = thread
                self.attended = True
            _start(thread)
        except BaseException as error:
            with self.plumbing.lock:
                if self._thread is thread and not self._begun:
                    # Interrupted, it may begin all the same, and finds that it is not wanted.
                    self.attended, self._thread = False, None
                    if not isinstance(error, RuntimeError):
                        # Whoever relies on it looks again. (Where there is no thread to be had, he
                        # waits for the caller who drives, and would only try the same.)
                        self.plumbing.notify()
            raise
        finally:
            if self._starter == threading.get_ident():
                self._starter = 0

    @property
    def deserted(self) -> bool:
        """Whether this very thread is about to start the pump's: a signal handler has interrupted.

        It is to start another one, rather than wait for the call that it has interrupted. Of the
        two threads the first one finds that it is not wanted.
        """
        return not self._begun and self._starter == threading.get_ident()

    def stop(self) -> None:
        """Make the pump end, whatever it is doing. Safe in finalizers."""
        self._stopping = True
        self.port.ring()
        self.plumbing.ring()

    def join(self, timeout: Optional[float] = None) -> None:
        """Wait until the pump, which has been told to stop, has ended. Safe in finalizers.

        Its own thread does not wait, nor does anybody for a thread that may be stuck; for one that
        is stuck only if a caller fills its pipe at the wrong moment, a while. Ends because every
        other wait can be woken.
        """
        if self.attended:
            thread = self._thread
            if thread is None or thread.ident is None or self.port.blocking:
                return  # about to start, and to find that it is to stop
            if thread is not threading.current_thread():
                thread.join(_PATIENCE if timeout is None and self.port.shared else timeout)
        elif self.plumbing.undriven():
            # Nobody serves it, and who would do so next sees that it is to end.
            self.port.descriptor.close()
            self.port.release()

    def check(self) -> None:
        """See that the thread has not failed.

        Raises:
            ProcessError: it has. The cause is chained.
        """
        if self.failure is not None:
            raise ProcessError(f"{self.name} has failed: {self.failure!r}") from self.failure

    def kick(self) -> None:
        """Ring the thread if it waits although it may move. The lock is held."""
        if not self.done and self._waits is not _Waits.NOTHING and self._movable():
            self.port.ring()
            # One ring is enough: it will look at everything anew. (But rung first, in case that an
            # exception strikes in between.)
            self._waits = _Waits.NOTHING

    def process_ended(self, now: float) -> None:  # noqa: B027 - of interest to readers only
        """The process has ended. The lock is held."""

    def poll(self) -> bool:
        """Whether a caller who waits is to wait for the pipe and `move`. The lock is held."""
        return False

    @abstractmethod
    def move(self) -> bool:
        """Read or write once, without waiting; whether the pipe was ready. The lock is held."""

    @property
    def needs_thread(self) -> bool:
        """Whether there is work that callers cannot do. The lock is held."""
        return False

    def _run(self) -> None:
        with self.plumbing.lock:
            if self._thread is not threading.current_thread():
                return
            self._begun = True
        try:
            while not self._stopping and self._step():
                pass
        except Exception as error:  # callers are told, see `check`
            self.failure = error
        finally:
            try:
                self._let_go()
            except OSError:
                pass  # of a temporary file that is not read any more
            finally:
                with self.plumbing.lock:
                    self._close()

    def _close(self) -> None:
        """The last act. The lock is held."""
        self.port.descriptor.close()
        self._finish()
        self.done = True
        self.plumbing.remove(self)
        self.plumbing.notify()
        self.port.release()

    def _let_go(self) -> None:  # noqa: B027 - of interest to readers only
        """Give back what only the thread uses. The lock is not held: this may take time."""

    def _wait(self, ready: bool) -> None:
        ended = not self._stopping and self.port.wait(ready)
        self._waits = _Waits.NOTHING  # whoever comes now need not ring
        if ended:
            self.plumbing.process_ended()

    @abstractmethod
    def _step(self) -> bool:
        """Do one thing, or wait until there is one; whether to go on."""

    @abstractmethod
    def _movable(self) -> bool:
        """Whether there is something to do for a thread that waits. The lock is held."""

    @abstractmethod
    def _finish(self) -> None:
        """The pump has ended and its pipe is closed. The lock is held."""


class _ChildPump(Pump):
    """What serves one pipe of the child: a thread, or callers who wait."""

    def poll(self) -> bool:
        if self.attended or self.done:
            return False
        self._settle()
        if not self._stopping and self._wants():
            return True
        if self._stopping or self._over():
            self._close()
        return False

    def kick(self) -> None:
        """The same; and where there is no thread, close the pipe if it is time.

        A caller who drives at the moment does that himself, when he stops at the latest.
        """
        if self.attended:
            super().kick()
        elif not self.done and (self._stopping or self._over()) and self.plumbing.undriven():
            self._close()

    @abstractmethod
    def _settle(self) -> None:
        """Record what callers have moved. The lock is held."""

    @abstractmethod
    def _over(self) -> bool:
        """Whether the pipe is to be closed. The lock is held."""

    @abstractmethod
    def _wants(self) -> bool:
        """Whether there is something to do as soon as the pipe is ready. The lock is held."""


class ReaderPump(_ChildPump):
    """Moves what the child writes into memory, and into the overflow."""

    def __init__(
        self, plumbing: Plumbing, port: _platform.Port, name: str, inbound: Inbound
    ) -> None:
        super().__init__(plumbing, port, name)
        self.inbound = inbound
        self.drains = True
        #: Who passes the bytes on to a pipe of the caller's, if anybody does.
        self.relay: Optional[Pump] = None
        self._overflow = Overflow(open_spool)
        #: Bytes may be in the hands of the thread, neither in the pipe nor recorded.
        self._busy = False
        #: The thread has read all there was: it waits before it reads again.
        self._emptied = False
        #: What callers have read and not recorded.
        self._hand = Hand(inbound)

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
        if self._busy or self._hand or inbound.spilled or not inbound.room() or self.port.pending():
            inbound.ending.arrived(now)
        return inbound.ending.remaining(now) == 0

    @property
    def needs_thread(self) -> bool:
        return self.relay is not None or self.inbound.crowded

    def move(self) -> bool:
        room = self.inbound.room(self.port.chunk)
        if not room:
            return False
        try:
            self._hand.read(self.port.descriptor.fileno(), room)
        except BlockingIOError:
            self.eager = False
            return False
        self._settle()
        return True

    def fail(self, error: MemoryError) -> None:
        """What callers have gathered is lost: nobody is to take the rest for the whole.

        The lock is held.
        """
        # Its traceback would keep the frames of the caller, and all that they refer to.
        self.failure = self.failure or error.with_traceback(None)
        self.inbound.close()
        self.kick()
        self.plumbing.notify()

    def _settle(self) -> None:
        if self._hand:
            try:
                full = self._hand.record() >= self.port.chunk
            except MemoryError as error:
                if not self.inbound.lost:
                    raise  # it is still in the hand
                self.fail(error)
                return
            # Less than all is wanted soon enough after a poll, which leaves the pipe to the child.
            self.eager = full and self.inbound.bulk
            self.port.moved(full, self.inbound.bulk)
            self.plumbing.notify(self)  # whoever has looked before looks again

    def _over(self) -> bool:
        return self.inbound.closed or self.inbound.ending.eof

    def _wants(self) -> bool:
        return self.inbound.room() > 0

    def _movable(self) -> bool:
        if self.inbound.closed or self.inbound.refill():
            return True
        return self._waits is _Waits.ROOM and self.inbound.room() > 0

    def _step(self) -> bool:
        inbound = self.inbound
        with self.plumbing.lock:
            self._settle()
            if inbound.closed or (inbound.ending.eof and not inbound.spilled):
                return False
            refill = inbound.refill()
            room = 0 if refill else inbound.room(self.port.chunk)
            reads = bool(room) and not self._emptied
            self._busy = (reads or bool(refill)) and not self.port.blocking
            self._waits = _Waits.NOTHING if refill else _Waits.PIPE if room else _Waits.ROOM
        if refill:
            self._refill(refill)
        elif not reads:
            self._emptied = False
            self._wait(ready=bool(room))
        else:
            data = self.port.read(room)
            self._emptied = data is None or len(data) < room
            if data is None:
                self._busy = False
            else:
                self._record(data)
        return True

    def _record(self, data: bytes) -> None:
        inbound = self.inbound
        self.port.moved(len(data) >= self.port.chunk, inbound.bulk)
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
        self.plumbing.notify(self)
        if self.relay is not None:
            self.relay.kick()

    def _let_go(self) -> None:
        self._overflow.close()

    def _finish(self) -> None:
        if not self.inbound.ending.eof:
            self.inbound.close()
        if self.relay is not None:
            self.relay.kick()


class WriterPump(_ChildPump):
    """Moves what the caller has handed over into the child's stdin."""

    def __init__(
        self, plumbing: Plumbing, port: _platform.Port, name: str, outbound: Outbound
    ) -> None:
        super().__init__(plumbing, port, name)
        self.outbound = outbound
        #: The thread is in the middle of a write.
        self._writing = False
        #: What callers have written and not recorded, and where in the stream that begins.
        self._hand: Deque[int] = deque()
        self._hand_begin = 0

    def start(self) -> None:
        super().start()
        with self.plumbing.lock:
            # What fits into the pipe now needs no thread. (A child may read as fast as we write,
            # so this ends as soon as the pipe is full.)
            self.eager = True
            while self.eager and self.poll() and self.move():
                pass
        if self.outbound.closing:
            self.employ()  # the caller will be elsewhere

    def push(self) -> bool:
        """Write what a caller has just handed over, if it can be done at once.

        Returns:
            Whether nothing is left to be sent. The lock is held.
        """
        turn = Wait()
        self.plumbing.take_turn(turn)  # a finalizer closes no pipe under us
        try:
            if self.poll():
                self.move()
        finally:
            self.plumbing.end_turn(turn)
        return not len(self.outbound)

    def share(self) -> int:
        """The descriptor, for the caller to write to; see `Port.share`.

        The pump is between two writes while the lock is held, or in one that does not block and
        that ends at once. A pipe that is written to by others is left to the thread.

        Raises:
            ValueError: the pipe has been closed, perhaps in this very moment.
            RuntimeError: there is no thread to be had.
        """
        self.plumbing.employ_all()
        wait = Wait()
        while True:
            with self.plumbing.lock:
                if self.done:
                    raise ValueError("I/O operation on closed file")
                if not self._writing or self.port.blocking:
                    return self.port.share()
                changes = self.plumbing.changes
            self.plumbing.wait(wait, self, changes)

    def move(self) -> bool:
        outbound = self.outbound
        self._hand_begin = outbound.position
        view = outbound.front(self.port.chunk)
        self.eager = False
        try:
            # In one call into C: an exception comes before the write or after the append.
            self._hand.extend(map(os.write, (self.port.descriptor.fileno(),), (view,)))
        except BlockingIOError:
            return False
        except OSError:  # EPIPE: the child has closed its end
            outbound.break_off()
        self._settle()
        self.eager = outbound.position - self._hand_begin == len(view)
        return True

    def _settle(self) -> None:
        if not self._hand:
            return
        outbound = self.outbound
        for count in self._hand:
            if outbound.position == self._hand_begin:
                outbound.sent(count)
            self._moved()
        self._hand.clear()
        self.plumbing.notify(self)

    def _over(self) -> bool:
        return self.outbound.finished

    def _wants(self) -> bool:
        return len(self.outbound) > 0

    def _movable(self) -> bool:
        return self._waits is _Waits.ROOM and (len(self.outbound) > 0 or self.outbound.finished)

    def _step(self) -> bool:
        outbound = self.outbound
        with self.plumbing.lock:
            self._settle()
            if outbound.finished:
                return False
            view = outbound.front(self.port.chunk)
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
                self._moved()
            self.plumbing.notify(self)
        full = count is None or 0 <= count < len(view)
        del view
        if full:
            self._wait(ready=True)
        return True

    def _moved(self) -> None:
        self.port.moved(len(self.outbound) > 0, self.outbound.closing)

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

    def start(self) -> None:
        super().start()
        self.employ()

    @property
    def _in_use(self) -> bool:
        """Whether the reader's bytes are ours to move."""
        return self.reader.relay is self

    def _movable(self) -> bool:
        if not self._in_use or self._waits is not _Waits.ROOM:
            return False  # the buffer is not ours to ask for: somebody may be collecting
        inbound = self.reader.inbound
        return inbound.at_eof or len(inbound.buffer) > 0

    def move(self) -> bool:  # pragma: no cover - callers do not move what they wait for
        return False

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
        self.reader.failure = self.reader.failure or self.failure
        self.reader.relay = None  # they are no cycle from now on
        self.reader.kick()
