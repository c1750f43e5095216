"""The child's stdout or stderr, as callers see it.

Callers take from an `Inbound`, in any thread. A caller that finds too little there reads the pipe
itself if it can have the claim (`_thread`), and else waits to be woken by the stream's thread. If a
signal handler interrupts it, what it has not been given is still there for the next call.

Where the interpreter allows it (`_interpreter`), a call leaves more than it was asked for in the
*front*: an iterator, written in C, over the next lines or blocks, from which the stream object
serves the calls that follow (`core._inbound.Front`). Any other use of the stream recalls it.

`fileno()` gives the stream a second pipe, see `_relay`; to hand over the child's own pipe, see
`Source._offer_pipe`.
"""

import io
import math
import os
import time
import weakref
from collections import deque
from functools import partial
from threading import get_ident
from typing import Callable, Deque, Dict, Iterator, Optional, Tuple, TypeVar

from process._descriptor import Descriptor
from process._handover import Offer
from process._interpreter import atomic_between_calls
from process.core._buffer import Buffer
from process.core._ending import SILENCE
from process.core._flow import BOUND
from process.core._inbound import Collection, Inbound
from process.threads._monitor import Monitor, Waiter
from process.threads._reader import ReaderThread
from process.threads._relay import Relay

T = TypeVar("T")

#: The front of a stream that has none.
NOTHING: Iterator[bytes] = iter(())

#: How many blocks are worth being put into a front.
_WORTHWHILE = 2

Decide = Callable[[Buffer, bool, int], int]


class Source:
    """One output stream of the child, for any number of callers."""

    #: The interpreter may begin to use a global lock, but does not do without it later.
    has_fronts = atomic_between_calls()

    def __init__(self, monitor: Monitor, reader: ReaderThread, name: str) -> None:
        self.name = name
        self.reader = reader
        #: The process has been started in such a way that the stream is a receiver's.
        self.handed_over = False
        #: The front: of lines, or of blocks of one size.
        self.lines = self.blocks = NOTHING
        self.block_size = -1
        #: What `blocks` is made of.
        self.block_chunk = io.BytesIO()
        self.monitor = monitor
        self.inbound = reader.inbound
        #: The reading end is closed. Set by a finalizer, too: pending reads fail.
        self.closed = False
        #: What callers have taken and could not pass on, until it is in the buffer again. Each in a
        #: tuple of its own, by which it is known. Filled in one call into C, as the first thing
        #: that is done about an exception: a second one, in the middle of that, loses nothing.
        self.returned: Deque[Tuple[bytes]] = deque()
        #: What is being put back, and the position of the buffer before that.
        self._returning: Optional[Tuple[Tuple[bytes], int]] = None
        #: A caller has the number of the second pipe, so only a caller can know who uses it.
        self._number_given = False
        #: Those that are about to start a receiver of the second pipe.
        self._offering: Dict[int, weakref.ref[Waiter]] = {}

    @property
    def exhausted(self) -> bool:
        """Whether everything has been handed out or kept, and nothing will come."""
        with self.monitor.lock:
            if self.handed_over:
                return True
            if self.returned:
                return False
            return self.inbound.at_eof and not self.inbound.held and self.reader.relay is None

    # Reading.

    def read(self, size: int) -> Optional[bytes]:
        """Exactly `size` bytes; fewer only at end of file. Negative: all of them.

        This and the other reads give `None`, or for lines `b""`, if there is nothing yet and a
        caller has made the descriptor non-blocking.
        """
        if self.reader.relay is not None and self._gives_up:
            return self._take(_any_at_all, size, 1, self._open_blocks)
        if size < 0 or size > BOUND:
            return self._read_large(math.inf if size < 0 else size)
        return self._take(_enough, size, size, self._open_blocks)

    def read_available(self, size: int) -> Optional[bytes]:
        """At most `size` bytes, as soon as there are any; `b""` at end of file."""
        return self._take(_any_at_all, size, 1, self._open_blocks)

    def read_line(self, size: int) -> bytes:
        r"""Up to and including the next `\n`; at most `size` bytes unless it is negative."""
        return self._take(_line, size, 0, self._open_lines) or b""

    def peek(self, size: int) -> bytes:
        """What `read_available` would return, which stays where it is."""
        return self._take(_any_at_all, size, 1, None) or b""

    def batch(self) -> io.BytesIO:
        """Lines to take by iterating; none at end of file. Only where there are fronts."""
        line = b""
        while True:
            front = self.inbound.front
            if front is not None and front is self.lines:
                return front
            if self.reader.relay is not None:
                try:
                    line = self.read_line(-1)
                    return io.BytesIO(line)
                except BaseException:
                    self.returned.append((line,))
                    self.restore()
                    raise
            if not self._take(_line, -1, 0, self._open_lines, consume=False):
                return io.BytesIO()

    def restore(self) -> None:
        """Put everything that callers have returned back into the buffer."""
        waiter = Waiter()
        with self.monitor:
            try:
                with self.monitor.lock:
                    self._restore(waiter)
            finally:
                self._leave(waiter)

    def _restore(self, waiter: Waiter) -> None:
        """`restore` with the lock held. If it is cut off anywhere, it is done again."""
        while self.returned:
            entry = self.returned[0]
            (data,) = entry
            if data and not self.closed:
                self._suspend(waiter)  # what is in the second pipe comes after it
                buffer = self.inbound.buffer
                if self._returning is None or self._returning[0] is not entry:
                    self._returning = entry, buffer.position
                if buffer.position == self._returning[1]:
                    buffer.unread(data)
                self.monitor.notify()
                if self.reader.claimed:
                    self.reader.look()  # that caller looks at nothing but the pipe
            self.returned.popleft()
            self._returning = None

    def unread_batch(self, batch: io.BytesIO) -> None:
        """Put back a batch: unless it is the front, nothing else refers to it."""
        if batch is not self.inbound.front:
            self.returned.append((batch.read(),))
            self.restore()

    def _take(
        self,
        decide: Decide,
        size: int,
        need: int,
        open_front: Optional[Callable[[Buffer, int, int], None]],
        consume: bool = True,
    ) -> Optional[bytes]:
        """Wait until `decide` says how many bytes to take (not -1), and take them.

        Args:
            decide: is given what is held, whether that is all, and `size`.
            size: what the caller has asked for.
            need: how many bytes have to be held before that; 0 if it cannot be known.
            open_front: makes a front for the calls that follow; without it, nothing is taken.
            consume: whether the bytes are handed out, or go into the front.
        """
        monitor, inbound, reader = self.monitor, self.inbound, self.reader
        lock = monitor.lock
        waiter: Optional[Waiter] = None
        data = b""
        taken = False
        if monitor.inherited or lock._is_owned():
            monitor.check_entry()
        try:
            try:  # what `with monitor` does, without two calls
                try:
                    while True:
                        with lock:
                            if self.closed or reader.failure is not None:
                                self._check_open()
                            if self.handed_over:
                                return b""
                            if self.returned:
                                waiter = waiter or Waiter()
                                self._restore(waiter)
                            if reader.relay is not None:  # since this call began, perhaps
                                waiter = self._suspend(waiter or Waiter())
                            if inbound.gathered and inbound.taken_by_other(get_ident()):
                                waiter = waiter or Waiter()
                                polls = False
                                # The caller whose turn it is needs the thread.
                                reader.release(waiter)
                                monitor.enter(waiter, partial(_not_busy, inbound))
                            else:
                                buffer = inbound.buffer
                                count = self._decide(decide, buffer, size)
                                gives_up = count < 0 and self._gives_up
                                if gives_up and not reader.moving:
                                    if not buffer:
                                        return None
                                    count = len(buffer)
                                if count >= 0:
                                    data = buffer.peek(count)
                                    if open_front is not None:
                                        if consume:
                                            position = buffer.position
                                            try:
                                                taken = True
                                                buffer.position += len(data)
                                            except BaseException:
                                                taken = buffer.position != position
                                                raise
                                            inbound.taken()
                                        if self.has_fronts and reader.relay is None:
                                            open_front(buffer, size, 0 if consume else count)
                                        reader.touch()
                                    return data
                                waiter = waiter or Waiter()
                                if gives_up:
                                    # Only without the thread can the child's pipe be looked at.
                                    # It stops at once: it has nothing to do for the relay.
                                    polls = False
                                    reader.request(waiter)
                                    monitor.enter(waiter, lambda: not reader.moving)
                                else:
                                    polls = (
                                        reader.directly_readable
                                        and not reader.requested
                                        and reader.claim(waiter)
                                    )
                                    if not polls:
                                        reader.release(waiter)
                                    goal = need or inbound.held + BOUND
                                    condition = partial(self._satisfied, decide, size, goal)
                                    monitor.enter(waiter, condition, inbound, goal)
                        if polls:
                            reader.poll(waiter)
                        else:
                            waiter.sleep()
                finally:
                    if waiter is not None:
                        self._leave(waiter)
            finally:
                if lock._is_owned():
                    lock.release()
        except BaseException:
            if taken:  # and then a signal handler raised: the caller never gets to see it
                self.returned.append((data,))
                self.restore()
            raise

    def _decide(self, decide: Decide, buffer: Buffer, size: int) -> int:
        """How many bytes to take, after direct reads if need be. The lock is held.

        Not a part of `_take`: since CPython 3.12 the jump at the end of a loop, where signal
        handlers are run, may lie outside of the `with` block that the loop ends, so that the lock
        would be left locked.
        """
        inbound, reader = self.inbound, self.reader
        count = decide(buffer, inbound.at_eof, size)
        while count < 0 and reader.read_directly():
            if self.closed or reader.failure is not None:  # a finalizer may have closed it
                self._check_open()
            count = decide(buffer, inbound.at_eof, size)
        return count

    @property
    def _gives_up(self) -> bool:
        """Whether a caller has made the descriptor non-blocking. The lock is held."""
        relay = self.reader.relay
        return relay is not None and not relay.blocking

    def _satisfied(self, decide: Decide, size: int, goal: int) -> bool:
        """Whether a caller that waits for bytes can go on, or has to ask for more."""
        inbound = self.inbound
        if self.closed or self.reader.done or inbound.at_eof:
            return True
        if inbound.busy:
            return False
        return inbound.held >= goal or decide(inbound.buffer, False, size) >= 0

    def _leave(self, waiter: Waiter) -> None:
        """A caller no longer waits, nor reads by way of the stream object."""
        with self.monitor.lock:
            self.monitor.leave(waiter)
            self.reader.release(waiter)
            relay = self.reader.relay
            if relay is not None:
                relay.resume(waiter)
                if relay.suspended:
                    return
                if self.closed or self.handed_over:
                    self.reader.look()  # the rest is the receiver's
                else:
                    self._put_back(relay)

    def _suspend(self, waiter: Waiter) -> Waiter:
        """Read by way of the stream object, if there is a second pipe. The lock is held."""
        relay = self.reader.relay
        if relay is not None and not self.handed_over and not relay.suspended_by(waiter):
            relay.suspend(waiter, self.reader.on_abandoned)
            relay.recall(self.inbound.uncollected)
            if not self.reader.end.pollable:
                self.reader.look()  # it makes a pause between two looks at the pipe
        return waiter

    def _put_back(self, relay: Relay) -> None:
        """Callers have taken what they wanted: the rest goes back into the second pipe.

        The lock is held.
        """
        inbound, reader = self.inbound, self.reader
        if not len(inbound.uncollected):
            reader.read_directly()
        pushed = relay.push(inbound.uncollected)
        reader.touch()
        if reader.moving:
            reader.look()  # it may be waiting for nothing but the child, and bytes may be left
        if reader.done or (not pushed and relay.empty):
            relay.little = False  # a caller may be about to wait for it: the thread moves at once
            reader.look()

    # Fronts. The lock is held.

    def _open_lines(self, buffer: Buffer, size: int, least: int) -> None:
        """Open a front of the whole lines in the first chunk, or of the first line."""
        if len(buffer) and size < 0:
            length = max(least, buffer.find_last(b"\n"))
            if length:
                self.lines = self.inbound.open_front(length)

    def _open_blocks(self, buffer: Buffer, size: int, _: int) -> None:
        """Open a front of the whole blocks of that size in the first chunk, if there are some."""
        count = len(buffer.front(BOUND)) // size if size > 0 else 0
        if count >= _WORTHWHILE:
            chunk = self.inbound.open_front(count * size)
            blocks = iter(partial(chunk.read, size), b"")
            self.blocks, self.block_size, self.block_chunk = blocks, size, chunk

    # Collecting: everything to the end, as one `bytes` object.

    def collect(self, collection: Collection, waiter: Waiter) -> bool:
        """Begin to collect, when it is the caller's turn.

        It never is if the stream is closed, or as long as another caller reads to an end of file
        that does not come: a caller waits no longer for another one than for the stream.

        Returns:
            Whether the caller collects. From now on, and for as long as `waiter` exists, the stream
            may hold without bound, in memory.
        """
        monitor, inbound = self.monitor, self.inbound
        while True:
            with monitor.lock:
                if self.closed or self.handed_over:
                    return False
                if not inbound.taken_by_other(get_ident()):
                    self._gather(collection, waiter)
                    monitor.enter(waiter)
                    return True
                remaining = inbound.ending.remaining(time.monotonic())
                if not inbound.at_eof and remaining == 0 and self.reader.silent():
                    return False
                monitor.enter(waiter, partial(_not_busy, inbound))
            waiter.sleep(SILENCE if remaining == 0 else remaining)

    def complete(self, collection: Collection, waiter: Waiter) -> bool:
        """Wait for the end of the stream and keep what was collected.

        Ends at end of file, or after a second of silence once the process has ended; or as soon as
        the stream is closed or a receiver's, who then gets what was collected.

        Returns:
            Whether it was one of these, and not silence, or the thread has failed.
        """
        monitor, inbound = self.monitor, self.inbound
        while True:
            with monitor.lock:
                if inbound.closed or self.closed or self.handed_over:
                    return True
                if not inbound.collecting(collection):  # a signal handler has taken its bytes
                    self._gather(collection, waiter)
                remaining = inbound.ending.remaining(time.monotonic())
                ended = inbound.collected(collection) or self.reader.failure is not None
                if ended or (remaining == 0 and self.reader.silent()):
                    inbound.keep(collection)
                    monitor.notify()  # it is the next caller's turn
                    self.reader.touch()
                    return ended
                monitor.enter(waiter, partial(self._collected, collection))
            waiter.sleep(remaining)

    def abandon(self, collection: Collection, waiter: Waiter) -> None:
        """The caller has finished; what it has collected and not kept goes to the next one."""
        with self.monitor.lock:
            collection.abandon()
            self.monitor.notify()
        self._leave(waiter)

    def _collected(self, collection: Collection) -> bool:
        """Whether a caller that collects can go on."""
        inbound = self.inbound
        if self.closed or inbound.closed or self.reader.failure is not None:
            return True
        return not inbound.collecting(collection) or inbound.collected(collection)

    def _gather(self, collection: Collection, waiter: Waiter) -> None:
        """Begin to collect. The lock is held.

        Raises:
            ProcessError: there was not enough memory for what is held, and it is lost.
        """
        self._restore(waiter)
        self._suspend(waiter)
        try:
            self.inbound.collect(collection, waiter, self.reader.on_abandoned)
        except MemoryError as error:
            if not self.inbound.lost:
                raise
            self.reader.fail(error)
            self.reader.check()

    def _read_large(self, goal: float) -> bytes:
        monitor, inbound = self.monitor, self.inbound
        collection = Collection(goal, get_ident())
        waiter = Waiter()
        data = b""
        try:
            with monitor:
                try:
                    self.collect(collection, waiter)
                    while True:
                        with monitor.lock:
                            self._check_open()
                            if self.handed_over:
                                return b""
                            if not inbound.collecting(collection):  # as in `complete`
                                self._gather(collection, waiter)
                            if inbound.collected(collection):
                                data = inbound.finish(collection)
                                monitor.notify()  # it is the next caller's turn
                                self.reader.touch()
                                return data
                            condition = partial(self._collected, collection)
                            monitor.enter(waiter, condition, inbound, math.inf)
                        waiter.sleep()
                finally:
                    self.abandon(collection, waiter)
        except BaseException:
            self.returned.append((data,))
            self.restore()
            raise

    # Descriptors.

    def fileno(self) -> int:
        """The descriptor on which the child's bytes can be read, from where callers have got to.

        Raises:
            ValueError: the stream is closed, or has been handed over.
            OSError: there is no descriptor left.
        """
        self._number_given = True
        return self._with_relay(lambda relay: relay.descriptor.fileno())

    def _with_relay(self, use: Callable[[Relay], T]) -> T:
        """Call `use` with the relay, under the lock: later it may be another one, or none.

        Raises:
            ValueError: the stream is closed, or has been handed over.
            OSError: there is no descriptor left.
        """
        monitor, inbound, reader = self.monitor, self.inbound, self.reader
        waiter = Waiter()
        with monitor:
            try:
                while True:
                    with monitor.lock:
                        self._check_open()
                        if self.handed_over:
                            raise ValueError("stream has been handed over to another process")
                        relay = reader.relay
                        if relay is not None:
                            if reader.done and not relay.ended:
                                reader.revive(relay)  # it had no thread, or a call was interrupted
                            return use(relay)
                        if not inbound.taken_by_other(get_ident()):
                            self._open_relay()
                            continue
                        monitor.enter(waiter, partial(_not_busy, inbound))
                    waiter.sleep()
            finally:
                self._leave(waiter)

    def _open_relay(self) -> None:
        """Make the second pipe. The lock is held.

        What fits into it is there at once. The thread does the rest; if it has ended, since the
        child's pipe was at its end, a new one passes on what is held.
        """
        reader, inbound = self.reader, self.inbound
        self._restore(Waiter())
        relay = Relay(inbound.held)
        reader.end.stop_blocking()
        # Before bytes are in the second pipe: after an exception the thread goes on from there.
        reader.nudge()
        reader.relay = relay
        relay.push(inbound.buffer)
        if not reader.done:
            self.monitor.wake_all()  # callers that wait for bytes suspend it
        elif inbound.held:
            reader.revive(relay)
        else:
            relay.outlet.close()  # at its end

    def offer(self) -> Offer:
        """Offer the stream to a process that is about to be started; see `_handover`.

        Raises:
            ValueError: the stream is closed, or has been handed over, or the call that a signal
                handler has interrupted is about to hand it over.
            OSError: there is no descriptor left.
        """
        monitor, inbound, reader = self.monitor, self.inbound, self.reader
        waiter = Waiter()
        with monitor:
            try:
                while True:
                    with monitor.lock:
                        self._check_open()
                        reader.commit()
                        untouched = reader.relay is None and not inbound.end and not reader.done
                        if not untouched or inbound.ending.eof or not reader.end.pollable:
                            break
                        if reader.claim(waiter):
                            monitor.leave(waiter)  # it lives as long as the offer
                            waiter.offers = True
                            return self._offer_pipe(waiter)
                        if reader.offered_here:
                            raise ValueError("stream is being handed over to another process")
                        reader.request(waiter)
                        monitor.enter(waiter, lambda: reader.claimable or inbound.end > 0)
                    waiter.sleep()
            except BaseException:
                self._leave(waiter)
                raise
            self._leave(waiter)
        return self._with_relay(self._offer_relay)  # some bytes have been read already

    def _offer_pipe(self, waiter: Waiter) -> Offer:
        """Offer the child's own pipe, from which nothing has been read. The lock is held.

        Handed over, the kernel does all the rest: end of file, SIGPIPE, and moving the bytes. Until
        then the claim keeps the thread away from the pipe; if a signal handler has waited
        meanwhile, so that the thread had to read, these bytes are read as before.
        """
        end = self.reader.end
        copy = Descriptor.own(os.dup, end.descriptor.fileno())
        return Offer(
            copy,
            self.monitor.flow,
            prepare=partial(end.block, copy),
            accepted=partial(self._hand_pipe_over, waiter),
            withdraw=partial(self._take_pipe_back, waiter),
        )

    def _hand_pipe_over(self, waiter: Waiter) -> None:
        """The receiver has been started: here the stream is at its end."""
        with self.monitor.lock:
            # Where a handler has waited meanwhile the thread may have bytes and not recorded them;
            # or the handler has handed over what the thread has read.
            if not self.inbound.end and not self.reader.moving:
                self.handed_over = True
            self.inbound.feed_eof()
            self.reader.release(waiter)
            self.reader.notice()
            self.reader.look()
            self.monitor.wake_all()
        self.reader.join()

    def _take_pipe_back(self, waiter: Waiter) -> None:
        """The receiver has not been started."""
        with self.monitor.lock:
            # It may be done for the second time, and another thread has offered the pipe since.
            if waiter.offers and not self.handed_over:
                self.reader.end.unblock()
            waiter.offers = False
            self.reader.release(waiter)

    def _offer_relay(self, relay: Relay) -> Offer:
        """Offer the second pipe. The lock is held."""
        copy = Descriptor.own(os.dup, relay.descriptor.fileno())
        waiter = Waiter()
        self._offering[id(waiter)] = weakref.ref(waiter, self.reader.on_abandoned)
        return Offer(
            copy,
            self.monitor.flow,
            accepted=partial(self._pass_on, waiter),
            withdraw=partial(self._end_offer, waiter),
        )

    def _end_offer(self, waiter: Waiter) -> None:
        """The receiver of the second pipe has been started, or not."""
        with self.monitor.lock:
            self._offering.pop(id(waiter), None)
            self.monitor.wake_all()

    def _offered_by_other(self) -> bool:
        """Whether another thread is about to start a receiver of the second pipe."""
        callers = [reference() for reference in self._offering.values()]
        return any(caller is not None and caller.thread != get_ident() for caller in callers)

    def _pass_on(self, waiter: Waiter) -> None:
        """Leave the second pipe to the receiver, if it is known to be the only one that has it.

        Our copy is closed: while it is open, the pipe has a reader, and the child would not get its
        SIGPIPE when the receiver leaves. A caller that has the number of the pipe may use it, too,
        and closes it when it likes.
        """
        with self.monitor.lock:
            relay = self.reader.relay
            if relay is not None and not self._number_given:
                self.handed_over = True
                self._leave_to_receiver(relay, relay.close)
        self._end_offer(waiter)

    def _leave_to_receiver(self, relay: Relay, close: Callable[[], object]) -> None:
        """`close` our end of the second pipe: no caller reads any more. The lock is held.

        What one has collected is for the receiver, if there is one. Such a caller may be waiting
        for the child, and not find out for long. Nor can one put back what it has not taken, after
        the end of the thread: that needs our end.
        """
        self.inbound.reclaim()
        relay.resume_all()
        relay.let_go()
        if relay.ended:
            relay.push(self.inbound.buffer)
        close()
        self.reader.look()
        self.monitor.wake_all()

    # Closing.

    def reclaim(self) -> bool:
        """Read the child's pipe again, and not the second one, unless a receiver has that.

        That is known once each start of a receiver by another thread has succeeded or failed.

        Returns:
            Whether the stream is ours.
        """
        monitor, reader = self.monitor, self.reader
        if self.reader.relay is None:  # not by `reader`, whose attribute would count as checked
            return not self.handed_over
        waiter = Waiter()
        with monitor:
            try:
                while True:
                    with monitor.lock:
                        relay = reader.relay
                        if relay is None or self.closed or self.handed_over:
                            return not self.handed_over
                        if not self._offered_by_other():
                            return self._drop_relay(relay, waiter)
                        monitor.enter(waiter)
                    waiter.sleep()
            finally:
                self._leave(waiter)

    def _drop_relay(self, relay: Relay, waiter: Waiter) -> bool:
        """Do without the second pipe, unless a receiver has it. The lock is held."""
        relay.suspend(waiter, self.reader.on_abandoned)
        self.reader.look()  # it may be waiting for nothing but the second pipe
        # With what another caller has collected, which asks for it anew if it is ours.
        if relay.is_handed_over(self.inbound.buffer):
            self.closed = True
            self._leave_to_receiver(relay, bool)  # it is closed
            return False
        self.reader.relay = None
        relay.outlet.close()
        self.monitor.wake_all()
        return True

    def keep_rest(self) -> None:
        """Keep what is held, another caller's unfinished read included: the stream is closed next.

        What was read before is not lost.
        """
        with self.monitor.lock:
            if self.closed or self.handed_over:
                return  # by another thread, meanwhile
            if self.inbound.held or self.returned:
                waiter, collection = Waiter(), Collection()
                self._gather(collection, waiter)
                self.inbound.keep(collection)

    def close(self) -> None:
        """Close the reading end and throw away what has not been read. Closing twice is harmless.

        A child that goes on writing gets SIGPIPE or EPIPE, unless somebody else reads.
        """
        with self.monitor:
            with self.monitor.lock:
                self.closed = True
                relay = self.reader.relay
                if relay is None:
                    self.inbound.close()
                    self.reader.look()
                    self.monitor.wake_all()
                else:
                    self._leave_to_receiver(relay, relay.leave)
            if relay is None or relay.broken:
                self.reader.join()

    def discard(self) -> None:
        """Throw away what still comes, or leave it to a receiver. Safe in finalizers."""
        self.reader.discards = True
        relay = self.reader.relay
        if relay is None:
            self.inbound.discard()
            self.reader.nudge()
        else:
            relay.leave()

    def release(self) -> None:
        """The child has ended: what still comes is for a receiver alone. Safe in finalizers."""
        self.reader.discards = False
        self.reader.nudge()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        self.reader.check()


def _not_busy(inbound: Inbound) -> bool:
    return not inbound.busy


# What a caller takes: how many bytes of what is held, or -1 to wait for more. `eof` says that what
# is held is all.


def _enough(buffer: Buffer, eof: bool, size: int) -> int:
    return size if len(buffer) >= size or eof else -1


def _any_at_all(buffer: Buffer, eof: bool, size: int) -> int:
    if size < 0:
        return len(buffer) if buffer or eof else -1
    return size if buffer or eof or not size else -1


def _line(buffer: Buffer, eof: bool, size: int) -> int:
    length = buffer.find(b"\n")
    if length < 0 and (eof or 0 <= size <= len(buffer)):
        length = len(buffer)
    return min(length, size) if size >= 0 else length
