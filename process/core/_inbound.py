"""What comes from the child on one stream: from the pump's hands to the caller's.

Theory of operation. The pump feeds chunks and end of file; callers take. In between the bytes lie,
in this order, in

1. `kept`: what an earlier `output()` has already returned, to be returned again;
2. the collection: what a caller who wants everything as one `bytes` object is gathering;
3. the buffer: bytes in memory;
4. the overflow: `spilled` bytes that are beyond memory, in the pump's care.

Whatever moves bytes from one to the next prepares the move and then makes it true by a single
assignment, so that an exception raised anywhere (`KeyboardInterrupt` between two lines) finds every
byte in exactly one place. A collection that its caller has had to abandon stays where it is; the
next caller gets its bytes back in front of the buffer.

A collection grows in a `BytesIO`, which gives its bytes up without a copy: what is asked for as
`bytes` is in memory once.

How much may be held is decided by `room`, from the bound and from who waits (`_flow`).

This module does no I/O and takes no lock: whoever shares an `Inbound` between threads guards it.
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

#: Bytes that a pump moves at once, if it has no reason to move more.
CHUNK = 64 * 1024


#: Is called when a caller was interrupted before it could say that it no longer waits.
OnAbandoned = Callable[["weakref.ref[Any]"], object]


class Collection:
    """Bytes being gathered for a caller, up to `goal` of them.

    How many they are follows from how far the buffer has got since it was attached. Writing is by
    that position, so a write that an exception has cut off from its record is simply done again.
    """

    __slots__ = ("_buffer", "_data", "_owner", "_start", "goal", "thread")

    def __init__(self, goal: float = math.inf, thread: object = None) -> None:
        self.goal = goal
        #: Who gathers, if that matters; see `Inbound.taken_by_other`.
        self.thread = thread
        self._owner: Optional[weakref.ref[Wait]] = None
        self._data = io.BytesIO()
        self._buffer = Buffer()
        self._start = 0

    @property
    def active(self) -> bool:
        """Whether its caller waits for it; else it is what an interrupted caller has left."""
        return self._owner is not None and self._owner() is not None

    def activate(self, wait: Wait, on_abandoned: Optional[OnAbandoned]) -> None:
        """It is gathered for as long as its caller waits."""
        self._owner = weakref.ref(wait, on_abandoned)

    def abandon(self) -> None:
        """Its caller no longer waits."""
        self._owner = None

    def attach(self, buffer: Buffer) -> None:
        """Gather what comes out of `buffer` from now on."""
        self._data = io.BytesIO()
        self._start = buffer.position
        self._buffer = buffer

    def adopt(self, other: "Collection") -> None:
        """Go on with what `other` has gathered, which is over."""
        self._data = other._data
        self._start = other._start
        self._buffer = other._buffer

    @property
    def lost(self) -> bool:
        """Whether what was gathered is gone.

        A `BytesIO` that is to grow, and finds no memory, has let go of what it had.
        """
        return self._data.closed

    def __len__(self) -> int:
        return self._buffer.position - self._start

    @property
    def missing(self) -> float:
        """How many bytes are still wanted."""
        return self.goal - len(self)

    def absorb(self, size: float) -> None:
        """Take over at most `size` bytes of what the buffer holds, as far as they are wanted."""
        while self._buffer and self.missing > 0 and size > 0:
            piece = self._buffer.front(int(min(self.missing, CHUNK, size)))
            self._write(piece)
            self._buffer.skip(len(piece))
            size -= len(piece)

    def add(self, data: bytes) -> None:
        """Take `data` over directly: the buffer is empty."""
        self._write(data)
        self._buffer.pass_by(len(data))

    def _write(self, data: Chunk) -> None:
        self._data.seek(len(self))
        self._data.write(data)

    def getvalue(self) -> bytes:
        """What has been gathered, without a copy."""
        self._data.truncate(len(self))
        return self._data.getvalue()


class Front:
    """The chunk that callers take by single calls into C, until somebody else wants the bytes.

    The bytes stay in the buffer meanwhile. Only the `BytesIO` knows how many have been taken; the
    buffer learns of it when the front is recalled. To recall it, what is left is read, which tells
    how much was taken and ends every iterator over it. That, too, is one call into C, so it can be
    interrupted and done again. Between threads, one call is one step only where there is a GIL;
    elsewhere no front is made.
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
        """Take back what is left; the offset in the stream up to which bytes have been taken."""
        if not self._rest:
            self._rest.extend(map(self.chunk.read, (-1,)))
        return self._begin + self._size - len(self._rest[0])


class _Parts(NamedTuple):
    kept: bytes
    collection: Optional[Collection]


class Inbound:
    """The bytes of one output stream of the child, between pump and callers."""

    def __init__(self, flow: Flow, bound: int = BOUND, memory: float = MEMORY) -> None:
        self.ending = Ending()
        #: Bytes that lie in the overflow, behind the buffer and before what is fed next.
        self.spilled = 0
        self._flow = flow
        self._bound = bound
        self._memory = memory
        self._granted = 0
        #: A caller has polled since he last took bytes.
        self._polled = False
        self._closed = False
        self._discards = False
        self._parts = _Parts(b"", None)
        self._buffer = Buffer()
        self._front: Optional[Front] = None
        flow.add(self)

    # The pump's side.

    @property
    def held(self) -> int:
        """Bytes that wait to be read, in memory or beyond."""
        held = len(self._buffer) + self.spilled
        collection = self._parts.collection
        return held if collection is None else held + len(collection)

    @property
    def position(self) -> int:
        """The offset in the stream of the next byte that callers take, or gather."""
        return self._buffer.position

    @property
    def end(self) -> int:
        """The offset in the stream behind everything that was fed, the overflow aside."""
        return self._buffer.end

    def room(self, chunk: int = CHUNK) -> int:
        """How many bytes may be read from the pipe now, at most `chunk`."""
        if self._closed or self.ending.eof:
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
        # Between the marks the pump rests: waking it for every few bytes costs more than it brings.
        room = max(self._bound, self._granted) - held
        return min(room, chunk) if room >= self._bound // 4 else 0

    @property
    def crowded(self) -> bool:
        """Whether the next chunk may belong in the overflow."""
        return self.spilled > 0 or (len(self._buffer) + CHUNK > self._memory and self.spills(CHUNK))

    @property
    def bulk(self) -> bool:
        """Whether a caller wants all there is."""
        collection = self._collecting()
        return collection is not None and collection.goal == math.inf

    def spills(self, size: int) -> bool:
        """Whether `size` bytes from the pipe belong in the overflow rather than in memory."""
        if self._closed or self._discards:
            return False
        if self.spilled:
            return True
        memory = max(self._memory, self._flow.need(self))
        return self._collecting() is None and len(self._buffer) + size > memory

    def refill(self) -> int:
        """How many bytes should come back from the overflow now."""
        if not self.spilled or self._closed:
            return 0
        # Enough to go on with; but a caller who wants a longer line than that has to get it.
        enough = max(self._memory // 2, self._flow.need(self))
        if self._collecting() is None and len(self._buffer) >= enough:
            return 0
        return min(self.spilled, CHUNK)

    def feed(self, data: bytes) -> None:
        """Bytes from the pipe, or back from the overflow, become available to callers."""
        if self._closed or self._discards:
            return
        collection = None if self._parts.collection is None else self._collecting()
        if collection is not None and not self._buffer:
            wanted = int(min(collection.missing, len(data)))
            collection.add(data if wanted == len(data) else data[:wanted])
            data = data[wanted:]
        self._buffer.append(data)

    def feed_eof(self) -> None:
        """The child, and everybody else, has closed the other end."""
        self.ending.eof = True

    def discard(self) -> None:
        """Nobody is left to want what comes from now on: it is thrown away. Safe in finalizers."""
        self._discards = True

    def close(self) -> None:
        """The reading end is closed: nothing more is wanted, what is held is thrown away."""
        self._closed = True
        self._recall()
        self._buffer = Buffer()
        self._parts = _Parts(self._parts.kept, None)

    # The callers' side.

    @property
    def closed(self) -> bool:
        """Whether the reading end is closed."""
        return self._closed

    @property
    def kept(self) -> bytes:
        """What earlier collections have kept."""
        return self._parts.kept

    @property
    def at_eof(self) -> bool:
        """Whether nothing will be added to what is in memory."""
        return self._closed or (self.ending.eof and not self.spilled)

    @property
    def buffer(self) -> Buffer:
        """The bytes a caller can take now; what an abandoned collection has gathered included.

        Not to be asked for while a collection is under way in another thread.
        """
        if self._front is not None:
            self._recall()
        if self._parts.collection is not None:
            self._reclaim()
        return self._buffer

    @property
    def uncollected(self) -> Buffer:
        """The same, but for what a collection has gathered, which is left alone."""
        if self._front is not None:
            self._recall()
        return self._buffer

    def _reclaim(self) -> None:
        collection = self._parts.collection
        if collection is not None:
            self._buffer.unread(collection.getvalue())  # which leaves the collection empty
            self._parts = _Parts(self._parts.kept, None)

    def open_front(self, size: int) -> io.BytesIO:
        """The next `size` bytes, to be taken by calls into C without the lock."""
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
        """Whether a collection is under way: other callers take their turn after it."""
        collection = self._parts.collection
        return collection is not None and collection.active

    def taken_by_other(self, thread: object) -> bool:
        """The same, unless the collection is that of `thread` itself.

        A signal handler may interrupt a caller who collects and call for the same bytes. Waiting
        for its turn it would wait for ever, so it takes what there is, as from an abandoned one.
        """
        collection = self._parts.collection
        return collection is not None and collection.active and collection.thread != thread

    def collecting(self, collection: Collection) -> bool:
        """Whether `collection` is under way: nobody has taken its bytes."""
        return self._parts.collection is collection

    def taken(self) -> None:
        """The caller has taken bytes: what polls have granted is used up."""
        self._polled = False
        self._granted = 0

    def grant(self) -> None:
        """A poll allows one more bound; polls without a read in between one more each."""
        self._granted = (self.held if self._polled else self._bound) + self._bound
        self._polled = True

    def collect(
        self,
        collection: Collection,
        wait: Wait,
        on_abandoned: Optional[OnAbandoned] = None,
    ) -> None:
        """Begin to gather, from what is held and what will come.

        What an interrupted caller has gathered is part of it.

        Args:
            collection: what is gathered into.
            wait: made by the caller, and referred to by him alone.
            on_abandoned: is called if the caller is interrupted before it can `abandon`.
        """
        self.begin(collection, wait, on_abandoned)
        self.gather(math.inf)

    def begin(
        self,
        collection: Collection,
        wait: Wait,
        on_abandoned: Optional[OnAbandoned] = None,
    ) -> None:
        """The same, and leave it to `gather` to take over what is held."""
        self._recall()
        before = self._parts.collection
        if before is not None and len(before) <= collection.goal:
            collection.adopt(before)
        else:
            collection.attach(self.buffer)
        self._parts = _Parts(self._parts.kept, collection)
        collection.activate(wait, on_abandoned)

    def gather(self, size: float) -> bool:
        """Take at most `size` bytes of what is held into the collection; whether that was all.

        Until it is all, what comes meanwhile has to wait its turn in the buffer.
        """
        collection = self._collecting()
        if collection is None:
            return True
        collection.absorb(size)
        return not self._buffer or collection.missing <= 0

    @property
    def lost(self) -> bool:
        """Whether there was too little memory to gather in, and what was gathered is gone."""
        collection = self._parts.collection
        return collection is not None and collection.lost

    def collected(self, collection: Collection) -> bool:
        """Whether `collection` has all it can get without waiting for silence."""
        return collection.missing <= 0 or (self.at_eof and not self._buffer)

    def finish(self, collection: Collection) -> bytes:
        """The gathered bytes, which now belong to the caller."""
        data = collection.getvalue()
        self._parts = _Parts(self._parts.kept, None)
        return data

    def keep(self, collection: Collection) -> None:
        """The gathered bytes are kept, behind what was kept before."""
        data = collection.getvalue()
        kept = self._parts.kept
        self._parts = _Parts(kept + data if kept and data else kept or data, None)

    def _collecting(self) -> Optional[Collection]:
        collection = self._parts.collection
        if collection is not None and collection.active and collection.missing > 0:
            return collection
        return None
