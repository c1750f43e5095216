"""The child's stdout or stderr, as callers see it.

Theory of operation. Callers take from an `Inbound`, in any thread. A caller who finds too little
there registers what he needs and waits; see `_plumbing` for why he is woken, and `core._flow` for
why what he waits for can come. No lock is held while he waits, so he can be interrupted, and what
he has not been given yet is still there for the next call.

The caller's descriptor. Bytes that a pump has read cannot be put back into the child's pipe, yet
`fileno()` has to give a descriptor on which `select`, `os.read` or another process see exactly the
child's bytes. So the first call of `fileno()` makes a second pipe, and a `RelayPump` moves into it
what the reader pump reads. From then on the stream is that pipe: callers of `read` get their bytes
from it as well (`_Exposure`), so that there is one order for all. Whoever closes the reading end
early stops the relay, which closes the child's pipe, and the child gets its SIGPIPE.

A stream that is handed to another `Process` as its stdin is lent: what has not been read when this
process is closed belongs to the borrower, and is left to him.
"""

import io
import math
import os
import sys
import time
import weakref
from collections import deque
from itertools import chain, islice, repeat
from threading import get_ident
from typing import Callable, Deque, Iterator, List, Optional

from process import _platform
from process._descriptor import Descriptor
from process._hand import Hand
from process._plumbing import Plumbing
from process._pump import ReaderPump, RelayPump
from process._waiting import limited
from process.core._buffer import Buffer
from process.core._ending import SILENCE
from process.core._flow import BOUND, Wait
from process.core._inbound import CHUNK, Collection, Inbound


class _Turn:
    """The turn of a caller who reads the pipe of an `_Exposure`, for as long as it is referred to.

    See `Wait` for why.
    """

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()


class _Exposure:
    """The pipe that `fileno()` names, read by whoever calls."""

    def __init__(self, plumbing: Plumbing, pump: ReaderPump) -> None:
        self.descriptor, write = Descriptor.pipe()
        try:
            port = plumbing.port(write, writing=True)
        except ValueError:
            for end in (self.descriptor, write):  # by name: a traceback refers to them
                end.close()
            raise
        self.inbound = Inbound(plumbing.flow)
        self.relay = RelayPump(plumbing, port, f"{pump.name}-relay", pump)
        self.turn: Optional[weakref.ref[_Turn]] = None
        self.hand = Hand(self.inbound)

    @property
    def reader(self) -> int:
        """The thread that is reading the pipe right now; 0: none. The lock is held."""
        turn = None if self.turn is None else self.turn()
        return 0 if turn is None else turn.thread

    def discard(self) -> None:
        """It has not come to be used."""
        self.relay.stop()
        self.relay.join()
        self.descriptor.close()

    def read(self, size: int, timeout: Optional[float]) -> None:
        """Read at most `size` bytes, as soon as there are any; wait for `timeout` seconds at most.

        Not if an interrupted caller has left some: these come first.
        """
        if not self.hand and _platform.wait_readable(self.descriptor.fileno(), limited(timeout)):
            self.hand.read(self.descriptor.fileno(), size)


class Source:
    """One output stream of the child, for any number of callers."""

    def __init__(self, plumbing: Plumbing, pump: ReaderPump, name: str) -> None:
        self.name = name
        self.lent = False
        self.pump = pump
        self._plumbing = plumbing
        self._exposure: Optional[_Exposure] = None
        self._inbound = pump.inbound
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the reading end is closed."""
        return self._closed

    @property
    def exhausted(self) -> bool:
        """Whether everything has been handed out or kept, and nothing will come."""
        with self._plumbing.lock:
            return self._inbound.at_eof and not self._inbound.held

    @property
    def kept(self) -> bytes:
        """What has been kept for `output()` or `error()`."""
        return self._inbound.kept

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer only at end of file. Negative: all of them."""
        if size < 0 or size > BOUND:
            return self._read_large(math.inf if size < 0 else size)
        return self._take(_enough, size, size, size)

    def read_available(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; `b""` at end of file."""
        return self._take(_any_at_all, size, 1, size)

    def read_line(self, size: int) -> bytes:
        r"""Up to and including the next `\n`; at most `size` bytes unless it is negative."""
        lines = self._inbound.lines
        if lines is not None and size < 0:
            line: List[bytes] = []
            try:
                # In one call into C: an exception comes before the line is taken, or finds it here.
                line.extend(islice(lines, 1))
                if line:
                    return line[0]
            except BaseException:
                self.unread(b"".join(line))
                raise
        return self._take(_line, size, 0, 0)

    def lines(self) -> Iterator[bytes]:
        """The lines of the stream, one by one."""
        if _has_gil():
            return _iterate_batches(self._batch)
        # Callers in two threads would spoil a batch: a `BytesIO` is not safe without the GIL.
        return _OneByOne(self)

    def peek(self, size: int) -> bytes:
        """What `read_available` would return, which stays where it is."""
        return self._take(_any_at_all, size, 1, 1, consume=False)

    def unread(self, data: bytes) -> None:
        """Put back what a caller has taken and could not pass on."""
        with self._plumbing.lock:
            if not self._closed:
                self._inbound.buffer.unread(data)
            self._plumbing.notify()

    def fileno(self) -> int:
        """The descriptor on which the child's bytes can be read, from where callers have got to.

        Raises:
            ValueError: the stream is closed.
            OSError: there is no descriptor left.
            RuntimeError: there is no thread to be had.
        """
        wait = Wait()
        while True:
            self._plumbing.check_entry()
            with self._plumbing.lock:
                self._check_open()
                if self._exposure is not None:
                    return self._exposure.descriptor.fileno()
                if not self._inbound.taken_by_other(get_ident()):
                    break
                changes = self._register(wait)
            self._plumbing.wait(wait, self.pump, changes)
        del wait
        exposure = _Exposure(self._plumbing, self.pump)
        try:
            exposure.relay.start()  # it rests until it is the reader's relay
            self._plumbing.employ_all()  # the caller may wait in `select`, where he moves nothing
            with self._plumbing.lock:
                if self._exposure is None and not self._closed:
                    self._exposure = exposure
                    self._use(exposure)
        finally:
            if self._exposure is exposure:
                with self._plumbing.lock:
                    self._use(exposure)  # an exception may have struck in the middle of that
            else:
                exposure.discard()
        return self.fileno()

    def lend(self) -> Descriptor:
        """A copy of the descriptor, for a process that is being started.

        Of its own, since another thread or task may close the stream before that has inherited it.

        Raises:
            ValueError, OSError, RuntimeError: as of `fileno`.
        """
        self.fileno()
        with self._plumbing.lock:
            self._check_open()
            assert self._exposure is not None
            copy = Descriptor.own(os.dup, self._exposure.descriptor.fileno())
            self.lent = True
            return copy

    def _use(self, exposure: _Exposure) -> None:
        """Let the bytes take that way from now on. The lock is held."""
        if self._inbound is not exposure.inbound:
            exposure.inbound.succeed(self._inbound)
            self._inbound = exposure.inbound
        if not exposure.relay.done:
            self.pump.relay = exposure.relay
            exposure.relay.kick()
        self._plumbing.notify()

    def close(self) -> None:
        """Close the reading end and throw away what has not been read. Closing twice is harmless.

        A child that goes on writing gets SIGPIPE or EPIPE, unless somebody else reads.
        """
        self._plumbing.check_entry()
        with self._plumbing.lock:
            self._closed = True
            exposure = self._exposure
            if exposure is None or not self.lent:
                self.pump.inbound.close()
            self._inbound.close()
            self.pump.kick()
            self._plumbing.notify()
        if exposure is None:
            self.pump.join()
            return
        if not self.lent:
            exposure.relay.stop()
            exposure.relay.join()
            self.pump.join()
        with self._plumbing.lock:
            reader = exposure.reader
        if not reader:  # else the one who reads closes it
            exposure.descriptor.close()

    def drop(self) -> None:
        """The process is gone: whoever still reads is told, rather than given a part for the whole.

        Safe in finalizers: readers in other threads are woken when the pump ends.
        """
        self._closed = True

    def discard(self) -> None:
        """The child is being ended: what it still writes is thrown away, unless it was lent.

        Safe in finalizers.
        """
        if not self.lent:
            self.pump.inbound.discard()
            self.pump.port.ring()

    # Collecting: everything to the end, as one `bytes` object.

    def collect(self, collection: Collection, wait: Wait) -> bool:
        """Begin to collect, when one's turn has come.

        It does not come if the stream is closed, or as long as another caller reads to an end of
        file that nobody brings about: one does not wait longer for him than for the stream.

        Returns:
            Whether one's turn has come. From now on, and for as long as `wait` exists, the stream
            may hold without bound, in memory.
        """
        self._plumbing.check_entry()
        while True:
            with self._plumbing.lock:
                if self._closed:
                    return False
                if not self._inbound.taken_by_other(get_ident()):
                    self._gather(collection, wait)
                    return True
                if not self._inbound.at_eof and self._silent():
                    return False
                remaining = self._until_silence()
                changes = self._register(wait)
            if remaining == 0:
                remaining = SILENCE  # there was something after all
            self._plumbing.wait(wait, self.pump, changes, remaining)

    def complete(self, collection: Collection, wait: Wait) -> bool:
        """Wait for the end of the stream and keep what was collected.

        Ends at end of file, or after a second of silence once the process has ended.

        Returns:
            Whether it was end of file.
        """
        while True:
            with self._plumbing.lock:
                inbound = self._inbound
                if inbound.closed:
                    return True
                if not inbound.collecting(collection):  # a signal handler has taken its bytes
                    self._gather(collection, wait)
                if inbound.collected(collection) or self._silent():
                    self._plumbing.notify()  # it is the next caller's turn
                    inbound.keep(collection)
                    self._plumbing.kick()
                    return inbound.at_eof
                remaining = self._until_silence()
                changes = self._register(wait, self.pump.inbound)
            self._progress(wait, changes, CHUNK, remaining)

    def abandon(self, collection: Collection, wait: Wait) -> None:
        """The caller is gone; what he has collected and not kept goes to the next."""
        with self._plumbing.lock:
            self._plumbing.flow.leave(wait)
            collection.abandon()
            self._plumbing.notify()

    def fail(self, error: MemoryError) -> None:
        """What is left of the stream cannot be had: callers are told, and the pipe is closed."""
        with self._plumbing.lock:
            self.pump.fail(error)
            self._inbound.close()

    def _gather(self, collection: Collection, wait: Wait) -> None:
        """Begin to collect. The lock is held.

        Raises:
            ProcessError: there was not even memory for what is held, and it is lost.
        """
        try:
            self._inbound.collect(collection, wait, self._plumbing.forsaken)
        except MemoryError as error:
            if not self._inbound.lost:
                raise
            self.fail(error)
            self.pump.check()

    def _until_silence(self) -> Optional[float]:
        """Seconds after which it is time to ask whether the stream is silent. The lock is held."""
        remaining = self.pump.inbound.ending.remaining(time.monotonic())
        if self._exposure is not None and remaining is None:
            return SILENCE  # reading the pipe, we do not notice the process end
        return remaining

    def _silent(self) -> bool:
        ending = self.pump.inbound.ending
        if ending.remaining(time.monotonic()) != 0 or not self.pump.silent():
            return False
        exposure = self._exposure
        return exposure is None or not (
            len(self.pump.inbound.buffer)
            or _platform.wait_readable(exposure.descriptor.fileno(), 0)
        )

    # Taking what is there.

    def _take(
        self,
        decide: Callable[[Buffer, bool, int], int],
        size: int,
        need: int,
        want: int,
        consume: bool = True,
    ) -> bytes:
        """Wait until `decide` says how many bytes to take (not -1), and take them.

        Args:
            decide: is given what is held, whether that is all, and `size`.
            size: what the caller has asked for.
            need: how many bytes have to be held before that; 0 if it cannot be known.
            want: how many bytes may be taken from a pipe that others read as well.
            consume: whether the bytes are handed out, or only looked at.
        """
        plumbing = self._plumbing
        wait: Optional[Wait] = None
        buffer: Optional[Buffer] = None
        position = 0
        data = b""
        plumbing.check_entry()
        try:
            while True:
                with plumbing.lock:
                    self._check_open()
                    inbound = self._inbound
                    wait = wait or Wait()
                    if inbound.taken_by_other(get_ident()):
                        changes, missing = self._register(wait), 0
                    else:
                        buffer = inbound.buffer
                        position = buffer.position
                        count = decide(buffer, inbound.at_eof, size)
                        if count >= 0:
                            plumbing.flow.leave(wait)
                            data = buffer.peek(count)
                            if consume:
                                inbound.taken()
                                buffer.skip(len(data))
                                plumbing.kick()  # there is room now
                            return data
                        own = self.pump.inbound
                        changes = self._register(wait, own, need or own.held + BOUND)
                        # Where others read as well, not a byte too much: lines come byte by byte.
                        missing = max(1, want - len(buffer))
                self._progress(wait, changes, missing)
        except BaseException:
            with plumbing.lock:
                if wait is not None:
                    plumbing.flow.leave(wait)
                if buffer is not None and data and buffer.position != position:
                    # Taken, and then a signal handler raised: the caller never gets to see it.
                    buffer.unread(data)
            raise

    def _batch(self) -> io.BytesIO:
        """Wait until there are lines to take from at will."""
        wait = Wait()
        self._plumbing.check_entry()
        try:
            while True:
                with self._plumbing.lock:
                    self._check_open()
                    inbound = self._inbound
                    if inbound.taken_by_other(get_ident()):
                        changes, missing = self._register(wait), 0
                    else:
                        batch = inbound.batch()
                        if batch is not None:
                            return batch
                        own = self.pump.inbound
                        changes, missing = self._register(wait, own, own.held + BOUND), 1
                self._progress(wait, changes, missing)
        finally:
            with self._plumbing.lock:
                self._plumbing.flow.leave(wait)

    def _read_large(self, goal: float) -> bytes:
        collection = Collection(goal, get_ident())
        wait = Wait()
        data = b""
        try:
            self.collect(collection, wait)
            while True:
                with self._plumbing.lock:
                    self._check_open()
                    if not self._inbound.collecting(collection):  # as in `complete`
                        self._gather(collection, wait)
                    if self._inbound.collected(collection):
                        self._plumbing.flow.leave(wait)
                        self._plumbing.notify()  # it is the next caller's turn
                        data = self._inbound.finish(collection)
                        self._plumbing.kick()
                        return data
                    changes = self._register(wait, self.pump.inbound)
                    missing = int(min(collection.missing, CHUNK))
                self._progress(wait, changes, missing)
        except BaseException:
            self.abandon(collection, wait)
            if data:
                self.unread(data)
            raise

    def _register(self, wait: Wait, own: Optional[Inbound] = None, need: float = 0) -> int:
        """The caller is going to wait; see `Flow.enter`. The lock is held.

        Returns:
            How many changes there have been by now.
        """
        self._plumbing.flow.enter(wait, own, need)
        self._plumbing.kick()
        return self._plumbing.changes

    def _progress(
        self, wait: Wait, changes: int, size: int, timeout: Optional[float] = None
    ) -> None:
        """Wait for a change, or, where the stream is exposed, make one by reading `size` bytes.

        Whoever waits for his turn leaves the reading to the one whose turn it is, and passes 0: he
        does not know how much that one wants, and byte by byte it would take for ever.
        """
        exposure = self._exposure
        if exposure is not None and size:
            turn = _Turn()
            with self._plumbing.lock:
                # A signal handler does not wait for whom it has interrupted.
                mine = exposure.reader in {0, turn.thread} and not self._closed
                interrupted = exposure.turn
                if mine:
                    exposure.turn = weakref.ref(turn, self._plumbing.forsaken)
            if mine:
                try:
                    exposure.read(size, timeout)
                finally:
                    with self._plumbing.lock:
                        exposure.turn = interrupted
                        self._record(exposure)
                        self._plumbing.notify()
                    if self._closed:
                        exposure.descriptor.close()
                return
        self._plumbing.wait(wait, self.pump, changes, timeout)

    def _record(self, exposure: _Exposure) -> None:
        """Record what has been read from the caller's pipe. The lock is held."""
        try:
            exposure.hand.record()
        except MemoryError as error:
            if not exposure.inbound.lost:
                raise
            self.fail(error)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")
        self.pump.check()


class _OneByOne:
    """The lines of a stream, one by one; no generator, since it may be entered twice."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._source.read_line(-1)
        if not line:
            raise StopIteration
        return line


class _Batches:
    """Makes an iterator of lines out of batches of lines; see `_iterate_batches`."""

    def __init__(self, take: Callable[[], io.BytesIO], queue: "_Queue") -> None:
        self._take = take
        #: Weak: the queue refers to us.
        self._queue = weakref.ref(queue)

    def waits(self) -> Iterator[bytes]:
        """An iterator of nothing that waits until there is another batch."""
        return map(self._wait, repeat(None))

    def _wait(self, _: None) -> bytes:
        batch = self._take()
        queue = self._queue()
        if queue is not None:  # else the lines have come to an end in the meantime
            queue.clear()
            queue.extend((batch, self.waits()) if batch.getvalue() else (None,))
        raise StopIteration


_Queue = Deque[Optional[Iterator[bytes]]]


def _iterate_batches(take: Callable[[], io.BytesIO]) -> Iterator[bytes]:
    """The lines of batch after batch, each line at the speed of C.

    Only `chain`, a `BytesIO`, and in between a `map` that waits, are run for a line: all written in
    C, so no line is lost between them. Whoever waits can be interrupted, by an exception or by a
    handler that wants a line itself, and other threads may do so as well. So

    - it waits in the iterator that `chain` is at, and not in the one that it gets those from: an
      error in the former is passed on, and the next call begins there again; an error in the latter
      would be the end of it.
    - It is not a generator, which cannot be entered twice.
    - What comes next lies in a queue which always ends in something that waits, or in the end. A
      batch that is thrown out of it by a second one is not lost: as long as it has lines, it is the
      same one (see `Inbound.batch`).
    """
    queue: _Queue = deque()
    queue.append(_Batches(take, queue).waits())
    return chain.from_iterable(iter(queue.popleft, None))


def _has_gil() -> bool:
    """Whether what one call into C does is one step for other threads: it can change."""
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return enabled()


# What a caller takes: how many bytes of what is held, or -1 to wait for more. `eof` says that what
# is held is all.


def _enough(buffer: Buffer, eof: bool, size: int) -> int:
    return size if len(buffer) >= size or eof else -1


def _any_at_all(buffer: Buffer, eof: bool, size: int) -> int:
    return size if buffer or eof or not size else -1


def _line(buffer: Buffer, eof: bool, size: int) -> int:
    length = buffer.find(b"\n")
    if length < 0 and (eof or 0 <= size <= len(buffer)):
        length = len(buffer)
    return min(length, size) if size >= 0 else length
