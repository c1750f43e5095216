"""The real objects of one process, and what is done to them under the lock."""

import io
from typing import Dict, Optional, Tuple

from process.core._buffer import Buffer
from process.core._ending import SILENCE
from process.core._flow import Flow, Wait
from process.core._inbound import CHUNK, Collection, Inbound
from process.core._overflow import File, Overflow
from stress.explore.world import PATTERNS, STDERR, STDIN, STDOUT, Shell, World


def no_file() -> File:
    raise OSError


class Core:
    """The core objects of one process. Its methods are sections under the lock."""

    def __init__(self, world: World) -> None:
        self.now = 0.0
        self.shell = world.shell
        self.flow = world.flow()
        #: The flow of the process that reads what this one writes.
        self.receiver = world.flow()
        if world.receiver:
            self.flow.connect(self.receiver)
        self.inbounds: Dict[int, Inbound] = {}
        self.overflows: Dict[int, Overflow] = {}
        for stream, budget in ((STDOUT, world.stdout), (STDERR, world.stderr)):
            if budget is not None:
                self.inbounds[stream] = world.inbound(self.flow, world.bound, world.memory)
                self.overflows[stream] = Overflow(no_file)
        self.outbound = world.outbound(world.bound)
        if world.given is not None:
            self.outbound.put(PATTERNS[STDIN][: world.given])
            self.outbound.closing = True
        self.collections: Dict[str, Collection] = {}
        #: The kind and the size of what each front is for, and the front.
        self.fronts: Dict[int, Tuple[str, int, io.BytesIO]] = {}
        self.chunk = world.capacity
        self.buffer_size = world.buffer
        #: The waits, and what they are for, by the name of the caller.
        self.waits: Dict[str, Wait] = {}
        self.entered: Dict[str, Tuple[Optional[int], float]] = {}

    # Threads.

    def movable(self, stream: int) -> bool:
        if stream == STDIN:
            return len(self.outbound) > 0
        inbound = self.inbounds[stream]
        return inbound.refill() > 0 or inbound.room() > 0

    def needed(self, stream: int) -> bool:
        if stream == STDIN:
            return self.outbound.closing or self.flow.busy
        inbound = self.inbounds[stream]
        return inbound.spilled > 0 or self.flow.limit(inbound) > inbound.held

    def over(self, stream: int) -> bool:
        if stream == STDIN:
            return self.outbound.finished
        inbound = self.inbounds[stream]
        return inbound.closed or (inbound.ending.eof and not inbound.spilled)

    def thread_ends(self, stream: int) -> None:
        if stream == STDIN:
            if len(self.outbound):
                self.outbound.break_off()
            self.outbound.close()
            return
        self.overflows[stream].close()
        if not self.inbounds[stream].ending.eof:
            self.inbounds[stream].close()

    def reader_decides(self, stream: int) -> Tuple[int, int]:
        inbound = self.inbounds[stream]
        refill = inbound.refill()
        return refill, 0 if refill else inbound.room()

    def record(self, stream: int, data: bytes) -> bool:
        inbound = self.inbounds[stream]
        inbound.ending.arrived(self.now)
        spills = bool(data) and inbound.spills(len(data))
        if not data:
            inbound.feed_eof()
        elif not spills:
            inbound.feed(data)
        return spills

    def spill(self, stream: int, data: bytes) -> None:
        self.overflows[stream].append(data)
        self.inbounds[stream].spilled += len(data)

    def refill(self, stream: int, size: int) -> None:
        data = self.overflows[stream].take(size)
        self.inbounds[stream].spilled -= len(data)
        self.inbounds[stream].feed(data)

    def to_send(self) -> bytes:
        return bytes(self.outbound.front(CHUNK))

    def sent(self, count: int) -> None:
        if count < 0:
            self.outbound.break_off()
        elif count:
            self.outbound.sent(count)

    def process_ended(self) -> None:
        for inbound in self.inbounds.values():
            inbound.ending.process_ended(self.now)

    # Callers.

    def enter(self, token: str, stream: Optional[int] = None, need: float = 0) -> None:
        own = None if stream is None else self.inbounds[stream]
        self._flow(token).enter(self.waits.setdefault(token, Wait()), own, need)
        self.entered[token] = stream, need

    def _flow(self, token: str) -> Flow:
        return self.receiver if token.endswith("receiver") else self.flow

    def leave(self, token: str) -> None:
        wait = self.waits.get(token)
        if wait is not None:
            self._flow(token).leave(wait)
            self.entered.pop(token, None)

    def forget(self, token: str) -> None:
        self.waits.pop(token, None)
        self.entered.pop(token, None)

    def abandon_all(self, name: str) -> None:
        """The caller's frame is gone, with everything that only it referred to."""
        for token in [token for token in self.waits if token.partition(" ")[0] == name]:
            self.forget(token)
        for token in [token for token in self.collections if token.partition(" ")[0] == name]:
            del self.collections[token]

    def poll(self) -> None:
        self.flow.poll()

    def tick(self) -> None:
        self.now += SILENCE

    def held(self, stream: int) -> int:
        return self.inbounds[stream].held

    def held_for_callers(self, stream: int) -> int:
        """The same, without what callers have taken from the front."""
        inbound = self.inbounds[stream]
        front = inbound._front
        if front is None or inbound.closed:
            return inbound.held
        return inbound.held - (front._begin + front.chunk.tell() - inbound._buffer.position)

    def touched(self, stream: int) -> bool:
        inbound = self.inbounds[stream]
        return inbound.end > 0 or inbound.ending.eof

    def directly_readable(self, stream: int) -> bool:
        """As in the library; but there a chunk is larger than the whole memory is here."""
        inbound = self.inbounds[stream]
        return not inbound.spills(self.chunk) and not inbound.ending.eof

    def closed(self, stream: int) -> bool:
        return self.inbounds[stream].closed

    def busy(self, stream: int) -> bool:
        return self.inbounds[stream].busy

    def kept(self, stream: int) -> bytes:
        return self.inbounds[stream].kept

    def take_front(self, stream: int, kind: str, size: int) -> bytes:
        """Take from the front, if it is of that kind, as `iter(partial(chunk.read, size), b"")`."""
        kind_of_front, size_of_front, chunk = self.fronts.get(stream, ("", 0, io.BytesIO()))
        return chunk.read(size) if (kind_of_front, size_of_front) == (kind, size) else b""

    def take(self, token: str, stream: int, kind: str, size: int, last: bytes) -> Optional[bytes]:
        inbound = self.inbounds[stream]
        buffer = inbound.buffer
        count = self._count(buffer, kind, size, last, inbound.at_eof)
        if count < 0:
            return None
        self.leave(token)
        data = buffer.peek(count)
        buffer.skip(len(data))
        inbound.taken()
        if kind != "read line":
            with buffer.front(CHUNK) as view:
                length = len(view) // size * size
            if length:
                self.fronts[stream] = kind, size, inbound.open_front(length)
        return data

    def _count(self, buffer: Buffer, kind: str, size: int, last: bytes, eof: bool) -> int:
        if kind == "read":
            return size if len(buffer) >= size or eof else -1
        if kind == "read available":
            return size if buffer or eof else -1
        count = buffer.find(last)
        return len(buffer) if count < 0 and eof else count

    def satisfied(self, token: str, stream: int, kind: str, size: int, last: bytes) -> bool:
        inbound = self.inbounds[stream]
        if inbound.at_eof:
            return True
        if inbound.busy:
            return False
        if Shell.MORE_NEEDED in self.shell and inbound.held >= self.entered[token][1]:
            return True
        return self._count(inbound.buffer, kind, size, last, False) >= 0

    def settled(self, token: str, stream: int) -> bool:
        inbound = self.inbounds[stream]
        collection = self.collections[f"{token} {stream}"]
        return inbound.closed or not inbound.collecting(collection) or inbound.collected(collection)

    def collect(self, token: str, stream: int, goal: float) -> None:
        collection = self.collections[f"{token} {stream}"] = Collection(goal)
        self.inbounds[stream].collect(collection, self.waits.setdefault(token, Wait()))

    def finish(self, token: str, stream: int) -> Optional[bytes]:
        collection = self.collections[f"{token} {stream}"]
        if not self.inbounds[stream].collected(collection):
            return None
        self.leave(token)
        del self.collections[f"{token} {stream}"]
        return self.inbounds[stream].finish(collection)

    def keep(
        self, token: str, stream: int, done: bool, busy: bool, pending: bool
    ) -> Optional[bytes]:
        inbound = self.inbounds[stream]
        collection = self.collections[f"{token} {stream}"]
        if inbound.collected(collection) or (
            inbound.ending.remaining(self.now) == 0 and self._silent(inbound, done, busy, pending)
        ):
            before = len(inbound.kept)
            inbound.keep(collection)
            return inbound.kept[before:]
        return None

    def _silent(self, inbound: Inbound, done: bool, busy: bool, pending: bool) -> bool:
        if done or (inbound.at_eof if self.shell & Shell.SPILLED else inbound.ending.eof):
            return True
        if busy or inbound.spilled or not inbound.room() or pending:
            inbound.ending.arrived(self.now)
        return inbound.ending.remaining(self.now) == 0

    def remaining(self, stream: int) -> Optional[float]:
        return self.inbounds[stream].ending.remaining(self.now)

    def abandon(self, token: str, stream: int) -> None:
        self.leave(token)
        self.collections.pop(f"{token} {stream}").abandon()

    def close(self, stream: int) -> None:
        self.inbounds[stream].close()

    def put(self, data: bytes) -> None:
        if len(data) >= self.buffer_size:
            self.outbound.put(data)
        elif self.outbound.tail is None:
            self.outbound.open_tail(data)
        else:
            self.outbound.tail += data

    def may_wait(self) -> bool:
        """Whether nothing need be sent before the next flush."""
        return len(self.outbound) < self.buffer_size and not self.flow.busy

    def close_soon(self) -> None:
        self.outbound.close()

    def outbound_is(self) -> Tuple[bool, bool, bool, bool]:
        return (
            self.outbound.closing,
            self.outbound.broken,
            not self.outbound.full,
            not len(self.outbound),
        )
