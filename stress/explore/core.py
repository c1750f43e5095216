"""The real objects of one process, and what is done to them under the lock."""

from typing import Dict, Optional, Tuple

from process.core._ending import SILENCE
from process.core._flow import Wait
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
        #: Who waits, and for what, by the name of the caller.
        self.waits: Dict[str, Wait] = {}
        self.entered: Dict[str, Tuple[Optional[int], float]] = {}

    # Pumps.

    def reader_decides(self, stream: int) -> Tuple[str, int]:
        inbound = self.inbounds[stream]
        if inbound.closed or (inbound.ending.eof and not inbound.spilled):
            return "end", 0
        refill = inbound.refill()
        if refill:
            return "refill", refill
        room = inbound.room()
        return ("read", room) if room else ("wait", 0)

    def reader_movable(self, stream: int, waits_for_room: bool) -> bool:
        inbound = self.inbounds[stream]
        if inbound.closed or inbound.refill():
            return True
        return waits_for_room and inbound.room() > 0

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

    def reader_ends(self, stream: int) -> None:
        self.overflows[stream].close()
        if not self.inbounds[stream].ending.eof:
            self.inbounds[stream].close()

    def writer_decides(self) -> Tuple[str, bytes]:
        if self.outbound.finished:
            return "end", b""
        view = self.outbound.front(CHUNK)
        return ("write", bytes(view)) if view else ("wait", b"")

    def writer_movable(self, waits_for_room: bool) -> bool:
        return waits_for_room and (len(self.outbound) > 0 or self.outbound.finished)

    def sent(self, count: int) -> None:
        if count < 0:
            self.outbound.break_off()
        elif count:
            self.outbound.sent(count)

    def writer_ends(self) -> None:
        if len(self.outbound):
            self.outbound.break_off()

    def process_ended(self) -> None:
        for inbound in self.inbounds.values():
            inbound.ending.process_ended(self.now)

    # Callers.

    def enter(self, token: str, stream: Optional[int] = None, need: float = 0) -> None:
        own = None if stream is None else self.inbounds[stream]
        self.flow.enter(self.waits.setdefault(token, Wait()), own, need)
        self.entered[token] = stream, need

    def leave(self, token: str) -> None:
        wait = self.waits.get(token)
        if wait is not None:
            self.flow.leave(wait)
            self.entered.pop(token, None)

    def forget(self, token: str) -> None:
        self.waits.pop(token, None)
        self.entered.pop(token, None)

    def poll(self) -> None:
        self.flow.poll()

    def tick(self) -> None:
        self.now += SILENCE

    def held(self, stream: int) -> int:
        return self.inbounds[stream].held

    def closed(self, stream: int) -> bool:
        return self.inbounds[stream].closed

    def busy(self, stream: int) -> bool:
        return self.inbounds[stream].busy

    def kept(self, stream: int) -> bytes:
        return self.inbounds[stream].kept

    def take(self, token: str, stream: int, kind: str, size: int, last: bytes) -> Optional[bytes]:
        inbound = self.inbounds[stream]
        buffer = inbound.buffer
        eof = inbound.at_eof
        if kind == "read":
            count = size if len(buffer) >= size or eof else -1
        elif kind == "read available":
            count = size if buffer or eof else -1
        else:
            count = buffer.find(last)
            if count < 0 and eof:
                count = len(buffer)
        if count < 0:
            return None
        self.leave(token)
        data = buffer.peek(count)
        inbound.taken()
        buffer.skip(len(data))
        return data

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
        self.outbound.put(data)

    def close_soon(self) -> None:
        self.outbound.closing = True

    def outbound_is(self) -> Tuple[bool, bool, bool, bool]:
        return (
            self.outbound.closing,
            self.outbound.broken,
            not self.outbound.full,
            not len(self.outbound),
        )
