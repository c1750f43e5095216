"""The receive buffer of one output stream of the child.

Theory of operation. The reader (the stream's thread, a caller that has the claim, or the loop)
feeds chunks and end of file; callers take bytes. In between the bytes lie, in this order, in

1. `kept`: what an earlier `output()` has already returned, to be returned again;
2. the collection: what is gathered for a caller that wants everything as one `bytes` object;
3. the buffer: bytes in memory;
4. the overflow: `spilled` bytes, which the reader keeps elsewhere.

A move of bytes from one to the next takes effect by a single assignment, so an exception raised
anywhere (`KeyboardInterrupt` between two lines) finds every byte in exactly one place. A collection
that its caller has abandoned stays where it is; the next caller gets its bytes back in front of the
buffer.

A collection grows in a `BytesIO`, which returns its bytes without a copy: what is asked for as
`bytes` is in memory once.

`room` decides how much may be held, from the bound and the waits of callers (`_flow`).

This module does no I/O and takes no lock: an `Inbound` that threads share needs one around it.
"""

import io
import math
import weakref
from collections import deque
from typing import Any, Callable, Deque, NamedTuple, Optional

from process.core._buffer import Buffer, Chunk
from process.core._ending import Ending
from process.core._flow import BOUND, Flow, Wait

#: Bytes of one stream held in memory before the rest overflows.
MEMORY = 4 * 1024 * 1024

#: Bytes that are moved at once, unless there is a reason to move more.
CHUNK = 64 * 1024


#: Called when a caller was interrupted before it could say that it no longer waits.
OnAbandoned = Callable[["weakref.ref[Any]"], object]


class Collection:
    """Bytes being gathered for a caller, up to `goal` of them.

    Their number is the distance that the buffer has advanced since `attach`. Bytes are written at
    that position, so a write that was interrupted before it was recorded is simply done again.
    """

    __slots__ = ("_buffer", "_data", "_owner", "_start", "goal", "thread")

    def __init__(self, goal: float = math.inf, thread: object = None) -> None:
        self.goal = goal
        #: The thread of the caller, if that matters; see `Inbound.taken_by_other`.
        self.thread = thread
        self._owner: Optional[weakref.ref[Wait]] = None
        self._data = io.BytesIO()
        self._buffer = Buffer()
        self._start = 0

    @property
    def active(self) -> bool:
        """Whether its caller still waits; if not, the caller was interrupted."""
        owner = self._owner  # read once: `bulk` is asked without a lock
        return owner is not None and owner() is not None

    def activate(self, wait: Wait, on_abandoned: Optional[OnAbandoned]) -> None:
        """Gather for as long as the caller waits."""
        self._owner = weakref.ref(wait, on_abandoned)

    def abandon(self) -> None:
        """Record that the caller no longer waits."""
        self._owner = None

    def attach(self, buffer: Buffer) -> None:
        """Gather what is taken from `buffer` from now on."""
        self._data = io.BytesIO()
        self._start = buffer.position
        self._buffer = buffer

    def adopt(self, other: "Collection") -> None:
        """Continue with what `other`, which has ended, has gathered."""
        self._data = other._data
        self._start = other._start
        self._buffer = other._buffer

    @property
    def lost(self) -> bool:
        """Whether what was gathered is gone.

        A `BytesIO` that fails to grow for lack of memory loses its contents.
        """
        return self._data.closed

    def __len__(self) -> int:
        return self._buffer.position - self._start

    @property
    def missing(self) -> float:
        """How many more bytes are wanted."""
        return self.goal - len(self)

    def absorb(self, size: float) -> None:
        """Take at most `size` bytes from the buffer, and no more than are wanted."""
        while self._buffer and self.missing > 0 and size > 0:
            piece = self._buffer.front(int(min(self.missing, CHUNK, size)))
            self._write(piece)
            self._buffer.skip(len(piece))
            size -= len(piece)

    def add(self, data: bytes) -> None:
        """Add `data` directly: the buffer is empty."""
        self._write(data)
        self._buffer.position += len(data)

    def _write(self, data: Chunk) -> None:
        self._data.seek(len(self))
        self._data.write(data)

    def getvalue(self) -> bytes:
        """The gathered bytes, without a copy."""
        self._data.truncate(len(self))
        return self._data.getvalue()


class Front:
    """A chunk that callers consume by single calls into C, until another call needs the bytes.

    The bytes stay in the buffer meanwhile. Only the `BytesIO` knows how many have been taken; the
    buffer is told when the front is recalled. The recall reads what is left, which shows how much
    was taken and ends every iterator over it. That, too, is one call into C, so it can be
    interrupted and done again. Between threads a call is atomic only with the GIL; without it no
    front is made.
    """

    __slots__ = ("_begin", "_rest", "_size", "chunk")

    def __init__(self, begin: int, data: bytes) -> None:
        self.chunk = io.BytesIO(data)
        self._begin = begin
        self._size = len(data)
        self._rest: Deque[bytes] = deque()

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return self.chunk.tell() < self._size

    def recall(self) -> int:
        """Take back what is left. Return the offset up to which bytes have been taken."""
        if not self._rest:
            self._rest.extend(map(self.chunk.read, (-1,)))
        return self._begin + self._size - len(self._rest[0])


class _Parts(NamedTuple):
    kept: bytes
    collection: Optional[Collection]


class Inbound:
    """The bytes of one output stream of the child, between its reader and the callers."""

    def __init__(self, flow: Flow, bound: int = BOUND, memory: float = MEMORY) -> None:
        self.ending = Ending()
        #: Bytes that lie in the overflow, behind the buffer and before what is fed next.
        self.spilled = 0
        self._flow = flow
        self._bound = bound
        self._memory = memory
        #: What callers that have polled since bytes were last taken were granted; see `_flow`.
        self._granted = 0
        #: The reading end is closed.
        self.closed = False
        self._discards = False
        self._parts = _Parts(b"", None)
        self._buffer = Buffer()
        self._front: Optional[Front] = None
        flow.add(self)

    # The reader's side.

    @property
    def held(self) -> int:
        """Bytes not yet taken, in memory or in the overflow."""
        held = len(self._buffer) + self.spilled
        collection = self._parts.collection
        return held if collection is None else held + len(collection)

    @property
    def position(self) -> int:
        """The offset in the stream of the next byte to be taken or gathered."""
        return self._buffer.position

    @property
    def end(self) -> int:
        """The offset in the stream after everything that was fed, without the overflow."""
        return self._buffer.end

    def room(self, chunk: int = CHUNK) -> int:
        """How many bytes may be read from the pipe now, at most `chunk`."""
        if self.closed or self.ending.eof:
            return 0
        if self._discards:
            return chunk
        held = len(self._buffer) + self.spilled
        if self._parts.collection is not None:
            collection = self._collecting()
            if collection is not None and collection.missing > len(self._buffer):
                return int(min(max(collection.missing, CHUNK), chunk))
            held = self.held
        if not held and chunk <= self._bound:
            return chunk
        needed = self._flow.limit(self)
        if held < needed:
            return int(min(max(needed, self._bound) - held, chunk))
        # Low-water mark: waking the thread for every few bytes costs more than it gains.
        room = max(self._bound, self._granted) - held
        return min(room, chunk) if room >= self._bound // 4 else 0

    @property
    def crowded(self) -> bool:
        """Whether the next chunk may belong in the overflow."""
        return self.spilled > 0 or (len(self._buffer) + CHUNK > self._memory and self.spills(CHUNK))

    @property
    def bulk(self) -> bool:
        """Whether a caller reads to the end of the stream."""
        collection = self._collecting()
        return collection is not None and collection.goal == math.inf

    def spills(self, size: int) -> bool:
        """Whether `size` bytes from the pipe belong in the overflow rather than in memory."""
        if self.closed or self._discards:
            return False
        if self.spilled:
            return True
        memory = max(self._memory, self._flow.need(self))
        return self._collecting() is None and len(self._buffer) + size > memory

    def refill(self) -> int:
        """How many bytes should come back from the overflow now."""
        if not self.spilled or self.closed:
            return 0
        # Enough to go on with; but a caller may wait for a longer line than that.
        enough = max(self._memory // 2, self._flow.need(self))
        if self._collecting() is None and len(self._buffer) >= enough:
            return 0
        return min(self.spilled, CHUNK)

    def feed(self, data: bytes) -> None:
        """Make bytes from the pipe, or from the overflow, available to callers."""
        if self.closed or self._discards:
            return
        collection = None if self._parts.collection is None else self._collecting()
        if collection is not None and not self._buffer:
            wanted = int(min(collection.missing, len(data)))
            collection.add(data if wanted == len(data) else data[:wanted])
            data = data[wanted:]
        self._buffer.append(data)

    def feed_eof(self) -> None:
        """Record end of file: all copies of the other end are closed."""
        self.ending.eof = True

    def discard(self) -> None:
        """Discard what comes from now on: there is no caller left. Safe in finalizers."""
        self._discards = True

    def close(self) -> None:
        """Close the reading end, and discard what is held."""
        self.closed = True
        self._recall()
        self._buffer = Buffer()
        self._parts = _Parts(self._parts.kept, None)

    # The callers' side.

    @property
    def kept(self) -> bytes:
        """What earlier collections have kept."""
        return self._parts.kept

    @property
    def at_eof(self) -> bool:
        """Whether nothing will be added to what is in memory."""
        return self.closed or (self.ending.eof and not self.spilled)

    @property
    def buffer(self) -> Buffer:
        """The bytes that a caller can take now, including those of an abandoned collection.

        Not to be used while a collection is active in another thread.
        """
        if self._front is not None:
            self._recall()
        if self._parts.collection is not None:
            self.reclaim()
        return self._buffer

    @property
    def uncollected(self) -> Buffer:
        """`buffer`, without the bytes of a collection that is under way."""
        if self._front is not None:
            self._recall()
        if not self.busy:
            self.reclaim()
        return self._buffer

    def reclaim(self) -> None:
        """End the collection, if there is one: what was gathered is in the buffer again.

        Its caller has to ask for the bytes anew.
        """
        collection = self._parts.collection
        if collection is not None:
            self._buffer.unread(collection.getvalue())  # which leaves the collection empty
            self._parts = _Parts(self._parts.kept, None)

    def open_front(self, size: int) -> io.BytesIO:
        """Return the next `size` bytes, to be taken by calls into C without the lock."""
        buffer = self.buffer
        self._front = Front(buffer.position, buffer.peek(size))
        return self._front.chunk

    @property
    def front(self) -> Optional[io.BytesIO]:
        """The front, while bytes are left in it."""
        front = self._front
        return front.chunk if front else None

    def _recall(self) -> None:
        front = self._front
        if front is not None:
            self._buffer.skip_to(front.recall())
            self._front = None
            self.taken()

    @property
    def gathered(self) -> bool:
        """Whether there is a collection, under way or abandoned."""
        return self._parts.collection is not None

    @property
    def busy(self) -> bool:
        """Whether a collection is active: other callers have to wait for its end."""
        collection = self._parts.collection
        return collection is not None and collection.active

    def taken_by_other(self, thread: object) -> bool:
        """Whether a collection is active, unless it is that of `thread` itself.

        A signal handler may interrupt a caller that collects, and ask for the same bytes. To wait
        for that caller would be a deadlock, so the handler takes what has been collected.
        """
        collection = self._parts.collection
        return collection is not None and collection.active and collection.thread != thread

    def collecting(self, collection: Collection) -> bool:
        """Whether `collection` is the current one: no other call has taken its bytes."""
        return self._parts.collection is collection

    def taken(self) -> None:
        """Revoke what polls have granted: a caller has taken bytes."""
        self._granted = 0

    def grant(self) -> None:
        """Allow one more bound for a poll, and one more for each that follows without a read."""
        self._granted = (self.held if self._granted else self._bound) + self._bound

    def collect(
        self,
        collection: Collection,
        wait: Wait,
        on_abandoned: Optional[OnAbandoned] = None,
    ) -> None:
        """Begin to gather what is held and what will come.

        This includes what an interrupted caller has gathered.

        Args:
            collection: the destination.
            wait: made by the caller; nothing else refers to it.
            on_abandoned: called if the caller is interrupted before it can `abandon`.
        """
        self.begin(collection, wait, on_abandoned)
        self.gather(math.inf)

    def begin(
        self,
        collection: Collection,
        wait: Wait,
        on_abandoned: Optional[OnAbandoned] = None,
    ) -> None:
        """`collect`, without taking over what is held: see `gather`."""
        self._recall()
        before = self._parts.collection
        if before is not None and len(before) <= collection.goal:
            collection.adopt(before)
        else:
            collection.attach(self.buffer)
        self._parts = _Parts(self._parts.kept, collection)
        collection.activate(wait, on_abandoned)

    def gather(self, size: float) -> bool:
        """Move at most `size` bytes of what is held into the collection. Return whether all was.

        Until it is, new bytes are queued behind it in the buffer.
        """
        collection = self._collecting()
        if collection is None:
            return True
        collection.absorb(size)
        return not self._buffer or collection.missing <= 0

    @property
    def lost(self) -> bool:
        """Whether what was gathered is lost, for lack of memory."""
        collection = self._parts.collection
        return collection is not None and collection.lost

    def collected(self, collection: Collection) -> bool:
        """Whether `collection` is complete, apart from the silence timer."""
        return collection.missing <= 0 or (self.at_eof and not self._buffer)

    def finish(self, collection: Collection) -> bytes:
        """End the collection and return its bytes to the caller."""
        data = collection.getvalue()
        self._parts = _Parts(self._parts.kept, None)
        return data

    def keep(self, collection: Collection) -> None:
        """End the collection and keep its bytes, after those kept before."""
        data = collection.getvalue()
        kept = self._parts.kept
        self._parts = _Parts(kept + data if kept and data else kept or data, None)

    def _collecting(self) -> Optional[Collection]:
        collection = self._parts.collection
        if collection is not None and collection.active and collection.missing > 0:
            return collection
        return None
