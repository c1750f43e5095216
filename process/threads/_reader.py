"""The thread that reads the child's stdout or stderr.

It reads ahead into an `Inbound` up to its bound while nobody waits, beyond it while a caller waits
(`core._flow`), and above a few MiB into temporary files (`core._overflow`), which only this thread
touches. Once the stream has a second pipe it is the relay (`_relay`).

At end of file it stays until a caller comes, which may ask for `fileno()`, and then a thread is
needed for what is held.

A caller that has the claim reads the pipe itself (`read_directly`). It can be interrupted anywhere,
so what it reads lies in an `InFlight` until it is recorded.
"""

import os
import time
from typing import Callable, Optional

from process import _platform
from process._descriptor import Descriptor
from process._polling import LONGEST_PAUSE
from process._spool import open_spool
from process.core._inbound import Inbound
from process.core._overflow import Overflow
from process.threads._in_flight import InFlight
from process.threads._monitor import Monitor
from process.threads._relay import Relay
from process.threads._thread import StreamThread

_splice: Optional[Callable[..., int]] = getattr(os, "splice", None)

#: Flags of splice(2): do not block.
_SPLICE_NONBLOCK: int = getattr(os, "SPLICE_F_NONBLOCK", 0)


class ReaderThread(StreamThread):
    """Moves what the child writes into memory, into the overflow, or into the second pipe."""

    def __init__(
        self, monitor: Monitor, end: _platform.PipeEnd, name: str, inbound: Inbound
    ) -> None:
        super().__init__(monitor, end, name)
        self.inbound = inbound
        self.relay: Optional[Relay] = None
        #: The process is dropped and its child not ended yet: what nobody can read is thrown away.
        self.discards = False
        self._overflow = Overflow(open_spool)
        #: The thread may have bytes that are neither in the pipe nor recorded.
        self._busy = False
        #: Nothing has arrived yet, so the child's own pipe can be handed over.
        self._fresh = end.pollable
        self._active = False
        self._in_flight = InFlight(inbound)
        #: A caller has seen the process end, or waited or used the stream since end of file.
        self._noticed = False

    # The thread's side.

    @property
    def _relays(self) -> bool:
        relay = self.relay
        return relay is not None and not relay.suspended and not relay.broken

    def _movable(self) -> bool:
        if self._relays:
            return True
        inbound = self.inbound
        return inbound.refill() > 0 or inbound.room() > 0

    def _needed(self) -> bool:
        inbound = self.inbound
        if self._relays and self.relay is not None:
            # While callers read by way of the stream object the thread leaves the pipe to them.
            return not self.relay.little
        return inbound.spilled > 0 or self.monitor.flow.limit(inbound) > inbound.held

    def _over(self) -> bool:
        inbound = self.inbound
        if inbound.closed:
            return True
        relay = self.relay
        if relay is None:
            # Until a caller comes the thread stays: `fileno()` needs one if bytes are held.
            return inbound.ending.eof and not inbound.spilled and self._noticed
        if relay.broken:
            return not self.discards or inbound.ending.eof
        return inbound.at_eof and not relay.suspended and not len(inbound.buffer)

    def _move(self) -> None:
        inbound = self.inbound
        with self.monitor.lock:
            relays = self._relays
            refill = inbound.refill()
            room = 0 if refill else inbound.room(self.end.chunk)
            reads = room > 0 and not self._used_up and not relays and not self._fresh
            self._busy = (reads or refill > 0) and self.end.pollable
        if refill:
            self._refill(refill)
        elif relays:
            self._move_on(room)
        elif not room:
            return
        elif self._fresh:
            self._wait()
            self._fresh = False
            self._active = not self.end.hung_up
            if not self._active:
                self._record(b"")  # what a read would give
        elif not reads:
            self._used_up = False
            self._wait()
        else:
            self._read(room)

    def _read(self, room: int) -> None:
        data = self.end.read(room)
        self._used_up = data is None or (self.end.pollable and len(data) < room)
        if data is None:
            self._busy = False
        else:
            self._record(data)

    def _record(self, data: bytes) -> None:
        inbound = self.inbound
        full = len(data) >= self.end.chunk
        self.end.moved(full, full and inbound.bulk)
        with self.monitor.lock:
            inbound.ending.arrived(time.monotonic())
            spills = bool(data) and inbound.spills(len(data))
            if not data:
                inbound.feed_eof()
            elif not spills:
                inbound.feed(data)
            if not spills:
                self._tell()  # else it is recorded below
        if spills:
            self._overflow.append(data)
            with self.monitor.lock:
                inbound.spilled += len(data)
                self._tell()

    def _refill(self, size: int) -> None:
        data = self._overflow.take(size)
        with self.monitor.lock:
            self.inbound.spilled -= len(data)
            self.inbound.feed(data)
            self._tell()

    def _tell(self) -> None:
        self._busy = False
        if self.inbound.ending.eof and self.monitor.flow.busy:
            self._noticed = True
        if self.monitor.notify():
            self._active = self.end.pollable

    def _move_on(self, room: int) -> None:
        """Wait until bytes can be moved on the way into the second pipe, and move some."""
        inbound = self.inbound
        with self.monitor.lock:
            relay = self.relay
            if relay is None or not self._relays:
                return  # callers have come meanwhile, or the stream has been reclaimed
            relay.let_go()
            waiting = len(inbound.uncollected) > 0
            if inbound.at_eof and not waiting:
                return
        while self._move_once(relay, room, waiting):
            waiting = False

    def _move_once(self, relay: Relay, room: int, waiting: bool) -> bool:
        """Do so once. Return whether to do it again, since nothing but bytes has changed."""
        inbound = self.inbound
        readable, writable, broken, ended = self.end.wait_relay(
            relay.outlet, room > 0, waiting, self.monitor.pending_watch
        )
        if ended:
            self.monitor.process_ended()
        if broken:
            relay.broken = True
            return False
        with self.monitor.lock:
            if self.relay is not relay or not self._relays:
                return False  # callers have come meanwhile, or the stream was reclaimed
            # An interrupted caller may have taken bytes out of the second pipe: they come first.
            buffer = inbound.uncollected
            relay.commit(buffer)
            if waiting:
                # None of these calls blocks, so the lock may be held.
                if writable and relay.push(buffer):
                    inbound.taken()
                    self.end.relayed()
            elif readable and not len(buffer) and self._splice(relay):
                return not self._disturbed(relay)
            self._busy = readable and self.end.pollable
        if readable:
            self._read(room)
        return False

    def _disturbed(self, relay: Relay) -> bool:
        """Whether more may be to be done than to pass bytes on. The lock is held."""
        return (
            self._stopping
            or relay.little
            or self._owner is not None
            or self._request is not None
            or relay.broken
            or self.inbound.at_eof
        )

    def _splice(self, relay: Relay) -> bool:
        """Let the kernel move bytes, if it can. Return whether it has, or the stream has ended.

        The buffer is empty, and the lock is held.
        """
        inbound = self.inbound
        if _splice is None or inbound.spilled:
            return False
        source, outlet = self.end.descriptor.fileno(), relay.outlet.fileno()
        try:
            count = _splice(source, outlet, self.end.chunk, flags=_SPLICE_NONBLOCK)
        except BlockingIOError:  # the second pipe is full
            return False
        except BrokenPipeError:
            relay.broken = True
            return True
        if inbound.ending.running:
            inbound.ending.arrived(time.monotonic())
        if count:
            inbound.uncollected.position += count
        else:
            inbound.feed_eof()
        self.monitor.notify()
        return True

    def _release_resources(self) -> None:
        self._overflow.close()  # which is empty if the thread may be begun anew

    def _finish(self) -> None:
        if self.relay is not None:
            self.relay.outlet.close()
        if not self.inbound.ending.eof:
            self.inbound.close()

    # The callers' side.

    @property
    def serves_others(self) -> bool:
        relay = self.relay
        if relay is None or relay.broken or relay.ended:
            return False
        # Asked here, since the thread may not have looked since the last reader has left.
        return _platform.has_reader(relay.outlet)

    def process_ended(self, now: float) -> None:
        self.inbound.ending.process_ended(now)

    def touch(self) -> None:
        super().touch()
        self._notice_eof()

    def wake_if_needed(self) -> None:
        self._feed_relay()
        super().wake_if_needed()
        self._notice_eof()

    def wake_if_movable(self) -> None:
        self._feed_relay()
        super().wake_if_movable()
        self._notice_eof()

    def _notice_eof(self) -> None:
        if self.inbound.ending.eof:
            self.notice()

    def notice(self) -> None:
        """The thread is not to stay at end of file. Takes no lock: safe in finalizers."""
        if not self._noticed:
            self._noticed = True
            self._sound_alarm()

    def _feed_relay(self) -> None:
        if self.moving and self.relay is not None and self.inbound.room():
            self.end.wake()  # it may wait without looking at the child's pipe, for lack of room

    def silent(self) -> bool:
        """Whether nothing has arrived for as long as it takes, and nothing is on its way.

        The lock is held. The clock has been asked before; this looks at the pipe itself, because a
        process that was stopped or starved has slept through arrivals.
        """
        inbound = self.inbound
        now = time.monotonic()
        if (
            self._busy
            or self._in_flight.chunks
            or inbound.spilled
            or not inbound.room()
            or self.end.pending()
        ):
            inbound.ending.arrived(now)
        elif not self.end.found_empty():
            inbound.ending.postpone(now, LONGEST_PAUSE)
        return inbound.ending.remaining(now) == 0

    @property
    def directly_readable(self) -> bool:
        """Whether what is in the pipe comes next, and belongs in memory. The lock is held.

        Else the stream is for the thread to move, and a caller that had the claim would keep it
        from doing so, while it polls a pipe that is ready and that it does not read.
        """
        inbound = self.inbound
        return not inbound.crowded and not inbound.ending.eof

    def read_directly(self) -> bool:
        """Read once, without waiting, for a caller. Return whether that has brought anything.

        The lock is held.
        """
        inbound = self.inbound
        if not self.claimable or not self.directly_readable:
            return False
        if self._in_flight.chunks:  # of a call that was interrupted
            self.commit()
            return True
        room = inbound.room(self.end.chunk)
        if not room:
            return False
        try:
            self._in_flight.read(self.end.descriptor.fileno(), room)
        except BlockingIOError:
            return False
        self.commit()
        return True

    def revive(self, relay: Relay) -> None:
        """Begin anew, after the child's pipe has come to its end, as the relay. The lock is held.

        Raises:
            OSError: there is no descriptor left.
            RuntimeError: a thread cannot be started.
        """
        self.end = _platform.PipeEnd(Descriptor(), writing=False)  # which can only be woken
        self.end.stop_blocking()
        self.relay = relay
        self._begin_anew()

    def commit(self) -> None:
        if self.relay is not None:
            self.relay.commit(self.inbound.uncollected)
            if self.relay.broken and self.discards:
                self.inbound.discard()
        if not self._in_flight.chunks:
            return
        try:
            size = self._in_flight.record()
        except MemoryError as error:
            if not self.inbound.lost:
                raise  # it is still in flight
            self.fail(error)
            return
        full = size >= self.end.chunk
        self.end.moved(full, full and self.inbound.bulk)
        self.monitor.notify()
        self.touch()

    def fail(self, error: MemoryError) -> None:
        """What callers have gathered is lost: the rest must not be taken for the whole.

        The lock is held.
        """
        # Its traceback would keep the frames of the caller, and all that they refer to.
        self.failure = self.failure or error.with_traceback(None)
        self.inbound.close()
        self.look()
        self.monitor.wake_all()
