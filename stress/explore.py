"""Every interleaving of a small world, visited.

Theory of operation. The core is pure, so a world that is small enough can be walked through
completely: pipes that hold one or two bytes, a child that may read, write, close and exit in any
order, the pumps, and callers who call anything and may stop waiting whenever they wait. Where
threads take turns in reality, the search takes every turn there is, breadth first, so that the
first violation it finds has the shortest way there.

What is real and what is modelled. Flow, streams, endings and overflow are the library's own
objects, with tiny bounds. Pumps and callers are rewritten here as what they do between two points
where another thread may come in: a section under the lock, one system call, one wait. They follow
`process._pump`, `process._source`, `process._sink` and `process._child` line by line and have to be
changed with them. A wait is modelled as it is: who waits moves on only when he is rung, when he is
released, or when his pipe becomes ready, so that a forgotten wake-up shows.

What is looked for:

- stuck: a caller waits, and nothing can move. The caller's own impatience, a signal from outside
  and what a grandchild might do do not count as moves. Two waits are the caller's own business: for
  a child that reads its stdin, has got everything he has written and is to get more; and a plain
  read from a pipe that a grandchild holds open.
- bound: a pump reads beyond the bound, or beyond what the callers who wait have asked for, while
  nobody obliges it to.
- order: a byte comes twice, or not in its turn.
- lost: a byte is neither in a pipe, nor held, nor delivered.
- end: end of stream before the last byte.
- asleep: nobody calls, and a pump rests though it may move.

How it is fast. The real objects are mutable and slow to copy. So each state of them is kept once
and known by a number, and what a section under the lock does to it is computed once. The rest of a
state is tuples.
"""

import enum
import io
import math
import sys
import time
import weakref
from array import array
from collections import deque
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterator,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Tuple,
)

from process.core._buffer import Buffer
from process.core._ending import SILENCE, Ending
from process.core._flow import Flow, Wait
from process.core._inbound import CHUNK, Collection, Inbound
from process.core._outbound import Outbound
from process.core._overflow import File, Overflow

#: A call, or a part of one: its name and what it is given.
Call = Tuple[Any, ...]

STDIN, STDOUT, STDERR = 0, 1, 2
_NAMES = ("stdin", "stdout", "stderr")
#: What passes through each stream: no byte twice, so that order shows.
_PATTERNS = (b"0123456789", b"abcdefghij", b"ABCDEFGHIJ")


class Shell(enum.Flag):
    """What pumps and callers take care of; tests leave one out to see that it is missed."""

    NOTHING = 0
    #: Who waits for the end of a stream is known to the flow.
    COMPLETE_ENTERS = enum.auto()
    #: Who has taken bytes rings the pumps that have got room.
    TAKE_KICKS = enum.auto()
    #: Who has handed over bytes rings the pump.
    PUT_KICKS = enum.auto()
    #: Bytes between the pipe and the record count as on their way.
    BUSY = enum.auto()
    #: So do bytes on their way into the overflow.
    SPILL_BUSY = enum.auto()
    #: And bytes that lie there, even after end of file.
    SPILLED = enum.auto()
    ALL = COMPLETE_ENTERS | TAKE_KICKS | PUT_KICKS | BUSY | SPILL_BUSY | SPILLED


class World(NamedTuple):
    """A world to be explored."""

    #: What callers may call; see `_program`.
    calls: Tuple[Call, ...]
    #: How many calls a caller makes, one after the other.
    length: int = 2
    callers: int = 1
    #: How many bytes the child may write to stdout and stderr; `None`: no pipe.
    stdout: Optional[int] = 2
    stderr: Optional[int] = None
    #: Whether stdin is a pipe.
    stdin: bool = False
    #: Bytes given for stdin in advance, after which it is closed.
    given: Optional[int] = None
    #: Bytes that a pipe takes.
    capacity: int = 1
    bound: int = 1
    #: Bytes in memory before the rest overflows. At least 2: a stream is refilled below half of it.
    memory: int = 2
    #: Whether the child may leave somebody behind who holds its stdout and stderr.
    grandchild: bool = False
    shell: Shell = Shell.ALL
    flow: Callable[[], Flow] = Flow
    inbound: Callable[[Flow, int, int], Inbound] = Inbound
    outbound: Callable[[int], Outbound] = Outbound


class Violation(NamedTuple):
    """A property that does not hold, and how to get there."""

    kind: str
    text: str
    trace: Tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n{number:4}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.kind}: {self.text}{steps}"


class Result(NamedTuple):
    """What a search has found."""

    #: How many different states were visited.
    states: int
    #: How many steps were taken between them.
    steps: int
    #: Whether that is all there are.
    complete: bool
    violation: Optional[Violation]


class _BrokenError(Exception):
    """A property does not hold."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


def _no_file() -> File:
    raise OSError


# The real objects.


class _Core:
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
                self.overflows[stream] = Overflow(_no_file)
        self.outbound = world.outbound(world.bound)
        if world.given is not None:
            self.outbound.put(_PATTERNS[STDIN][: world.given])
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


_ATOMS = frozenset((bool, int, float, str, bytes, type(None), type(_no_file), type, Shell))


def _attributes(thing: object) -> List[str]:
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [name for name in names if name != "__weakref__"] + list(getattr(thing, "__dict__", ()))


def _copy(thing: Any, memo: Dict[int, Any]) -> Any:
    """A deep copy. `copy.deepcopy` does the same, several times slower."""
    kind = type(thing)
    if kind in _ATOMS:
        return thing
    twin = memo.get(id(thing))
    if twin is not None:
        return twin
    if isinstance(thing, tuple):
        parts = [_copy(part, memo) for part in thing]
        return tuple(parts) if kind is tuple else kind(*parts)
    if isinstance(thing, dict):
        return {key: _copy(value, memo) for key, value in thing.items()}
    if isinstance(thing, (list, deque)):
        return kind(_copy(part, memo) for part in thing)
    if isinstance(thing, io.BytesIO):
        twin = io.BytesIO(thing.getvalue())
        twin.seek(thing.tell())
        memo[id(thing)] = twin
        return twin
    if kind is weakref.ref:
        target = thing()
        return None if target is None else weakref.ref(_copy(target, memo))
    if isinstance(thing, Flow):  # knows who waits by identity
        twin = memo[id(thing)] = kind()
        for stream in [reference() for reference in thing._streams]:
            if stream is not None:
                twin.add(_copy(stream, memo))
        for reference, own, need in thing._waits.values():
            wait = reference()
            if wait is not None:
                twin.enter(_copy(wait, memo), _copy(own, memo), need)
        return twin
    twin = memo[id(thing)] = object.__new__(kind)
    for name in _attributes(thing):
        setattr(twin, name, _copy(getattr(thing, name), memo))
    return twin


def _freeze(thing: Any, now: float, seen: Dict[int, int]) -> Any:
    """A hashable value that is the same for objects that will behave the same."""
    kind = type(thing)
    if kind in _ATOMS:
        return thing
    if id(thing) in seen:
        return ("seen", seen[id(thing)])
    if isinstance(thing, Buffer):
        # Not where in the stream it is, and not where one chunk ends and the next begins.
        searched = getattr(thing, "_searched", 0) - thing.position
        return thing.peek(len(thing)), max(0, searched)
    if isinstance(thing, Flow):  # the rest follows from what has been entered
        seen[id(thing)] = len(seen)
        return _freeze([reference() for reference in thing._streams], now, seen)
    if isinstance(thing, Collection):
        return thing.goal, thing.active, thing.getvalue()
    if isinstance(thing, Ending):
        return thing.eof, thing.remaining(now)
    if isinstance(thing, io.BytesIO):
        return thing.getvalue()
    if isinstance(thing, dict):
        return tuple((key, _freeze(thing[key], now, seen)) for key in sorted(thing))
    if isinstance(thing, (tuple, list, deque)):
        return tuple(_freeze(part, now, seen) for part in thing)
    seen[id(thing)] = len(seen)
    return tuple(_freeze(getattr(thing, name), now, seen) for name in _attributes(thing))


class _Cores:
    """Each state of the real objects once, by number, and where each section leads."""

    def __init__(self, world: World) -> None:
        self._cores: List[_Core] = []
        self._numbers: Dict[Any, int] = {}
        self._known: Dict[Tuple[Any, ...], Tuple[int, Any]] = {}
        self._intern(_Core(world))

    def _intern(self, core: _Core) -> int:
        now = core.now
        core.now = 0.0
        key = _freeze(core, now, {})
        core.now = now
        number = self._numbers.setdefault(key, len(self._cores))
        if number == len(self._cores):
            self._cores.append(core)
        return number

    def do(self, number: int, section: str, *arguments: Any) -> Tuple[int, Any]:
        """The number of the core after `section`, and what it has returned."""
        key = (number, section, arguments)
        known = self._known.get(key)
        if known is None:
            core: _Core = _copy(self._cores[number], {})
            value = getattr(core, section)(*arguments)
            known = self._known[key] = (self._intern(core), value)
        return known


# The rest of a state.


class _Pipe(NamedTuple):
    data: bytes = b""
    #: Whether somebody can still write, and read.
    writer: bool = True
    reader: bool = True


class _Child(NamedTuple):
    alive: bool = True
    #: The stream on which it blocks: to read stdin, or to write one of the others.
    blocked: Optional[int] = None
    #: The number of bytes it has read from stdin, and written to stdout and to stderr.
    moved: Tuple[int, int, int] = (0, 0, 0)
    #: It has seen the end of stdin.
    eof: bool = False
    #: Somebody has sent a signal, which may end it at any time.
    signalled: bool = False


class _Pump(NamedTuple):
    #: What comes next: decide, read or write, record, spill, refill, wait, end; done.
    at: str = "decide"
    #: Bytes in hand.
    data: bytes = b""
    #: Bytes that it may move.
    size: float = 0
    #: Bytes that may be held after the next read.
    cap: float = 0
    waits: bool = False
    waits_for_room: bool = False
    #: Whether the pipe ends the wait as well.
    ready: bool = False
    busy: bool = False
    rung: bool = False
    stopping: bool = False
    #: The end of the process, reported once, has been.
    told: bool = False


class _Caller(NamedTuple):
    #: How many calls he may still make.
    left: int
    call: Optional[Call] = None
    #: What is still to be done in this call.
    program: Tuple[Call, ...] = ()
    #: Whether he waits: enrolled, or with a time limit (timed), or released.
    wait: str = ""
    #: Whether what he waits for are bytes of a stream that he reads.
    own: bool = True
    #: The streams that he collects.
    collects: Tuple[int, ...] = ()


class _State(NamedTuple):
    core: int
    pipes: Tuple[Optional[_Pipe], ...]
    child: _Child
    pumps: Tuple[Optional[_Pump], ...]
    callers: Tuple[_Caller, ...]
    #: Bytes handed over for stdin, and bytes of stdout and stderr that callers have got.
    passed: Tuple[int, int, int]
    #: How much polls have allowed each stream to hold.
    allowed: Tuple[int, int, int] = (0, 0, 0)


#: What happens, whether it counts as a move, and where it leads.
_Step = Tuple[str, bool, _State]


def _put(row: Tuple[Any, ...], index: int, item: Any) -> Tuple[Any, ...]:
    return (*row[:index], item, *row[index + 1 :])


def _broken(kind: str, text: str) -> NoReturn:
    raise _BrokenError(kind, text)


class _Search:
    """The steps of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cores = _Cores(world)
        self.budgets = (0, world.stdout or 0, world.stderr or 0)
        piped = (
            world.stdin or world.given is not None,
            world.stdout is not None,
            world.stderr is not None,
        )
        self.start = _State(
            0,
            tuple(_Pipe() if is_piped else None for is_piped in piped),
            _Child(),
            tuple(_Pump() if is_piped else None for is_piped in piped),
            (_Caller(world.length),) * world.callers,
            (world.given or 0, 0, 0),
        )
        self.streams = [stream for stream in (STDIN, STDOUT, STDERR) if piped[stream]]
        self.outputs = [stream for stream in self.streams if stream != STDIN]
        #: What is happening, for a violation on the way.
        self.label = ""

    def _ask(self, state: _State, question: str, *arguments: Any) -> Any:
        return self.cores.do(state.core, question, *arguments)[1]

    def _do(self, state: _State, section: str, *arguments: Any) -> Tuple[_State, Any]:
        core, value = self.cores.do(state.core, section, *arguments)
        return state._replace(core=core), value

    def steps(self, state: _State) -> Iterator[_Step]:
        """Everything that may happen next."""
        yield from self._child_steps(state)
        for stream in self.streams:
            move = self._writer_step if stream == STDIN else self._reader_step
            self.label = f"{_NAMES[stream]} pump: {_there(state.pumps[stream]).at}"
            after = move(state, stream)
            if after is not None:
                yield self.label, True, after
        for index in range(len(state.callers)):
            yield from self._caller_steps(state, index)
        after = self._tick(state)
        if after is not None:
            yield "a second passes", True, after

    # The child.

    def _child_steps(self, state: _State) -> Iterator[_Step]:
        child = state.child
        if not child.alive:
            yield from self._grandchild_steps(state)
            return
        if child.signalled:
            self.label = "child: is ended by the signal"
            yield self.label, False, self._exit(state)
        wanted = self.streams if child.blocked is None else [child.blocked]
        for stream in wanted:
            self.label = f"child: {'writes to' if stream else 'reads from'} {_NAMES[stream]}"
            if stream == STDIN:
                after = self._child_reads(state)
            else:
                after = self._child_writes(state, stream)
            if after is not None:
                yield self.label, True, after
            elif child.blocked is None and self._may(state, stream):
                blocked = state._replace(child=child._replace(blocked=stream))
                yield f"{self.label} and blocks", True, blocked
        if child.blocked is None:
            for stream in self.streams:
                pipe = _there(state.pipes[stream])
                if pipe.writer if stream else pipe.reader:
                    self.label = f"child: closes {_NAMES[stream]}"
                    yield self.label, True, self._child_closes(state, stream)
            self.label = "child: exits"
            yield self.label, True, self._exit(state)

    def _grandchild_steps(self, state: _State) -> Iterator[_Step]:
        for stream in self.outputs:
            if _there(state.pipes[stream]).writer:
                self.label = f"grandchild: writes to {_NAMES[stream]}"
                after = self._child_writes(state, stream)
                if after is not None:
                    yield self.label, False, after
                self.label = f"grandchild: closes {_NAMES[stream]}"
                yield self.label, False, self._child_closes(state, stream)

    def _may(self, state: _State, stream: int) -> bool:
        """Whether the child may want to move bytes on `stream`."""
        pipe = _there(state.pipes[stream])
        if stream == STDIN:
            return pipe.reader and not state.child.eof
        return pipe.writer and state.child.moved[stream] < self.budgets[stream]

    def _child_reads(self, state: _State) -> Optional[_State]:
        child, pipe = state.child, _there(state.pipes[STDIN])
        if not self._may(state, STDIN):
            return None
        if pipe.data:
            count = child.moved[STDIN]
            if pipe.data[0] != _PATTERNS[STDIN][count]:
                _broken("order", f"the child reads {pipe.data!r} after {count} bytes of stdin")
            child = child._replace(moved=_put(child.moved, STDIN, count + 1), blocked=None)
            pipe = pipe._replace(data=pipe.data[1:])
        elif not pipe.writer:
            stopped = _there(state.pumps[STDIN]).stopping
            if child.moved[STDIN] != state.passed[STDIN] and not stopped:
                _broken("end", f"the child reads the end of stdin after {child.moved[STDIN]} bytes")
            child = child._replace(eof=True, blocked=None)
        else:
            return None
        return state._replace(child=child, pipes=_put(state.pipes, STDIN, pipe))

    def _child_writes(self, state: _State, stream: int) -> Optional[_State]:
        child, pipe = state.child, _there(state.pipes[stream])
        if not self._may(state, stream):
            return None
        if not pipe.reader:
            return self._exit(state) if child.alive else self._child_closes(state, stream)
        if len(pipe.data) >= self.world.capacity:
            return None
        count = child.moved[stream]
        data = pipe.data + _PATTERNS[stream][count : count + 1]
        child = child._replace(moved=_put(child.moved, stream, count + 1), blocked=None)
        pipes = _put(state.pipes, stream, pipe._replace(data=data))
        return state._replace(child=child, pipes=pipes)

    def _child_closes(self, state: _State, stream: int) -> _State:
        pipe = _there(state.pipes[stream])
        pipe = pipe._replace(writer=False) if stream else pipe._replace(reader=False, data=b"")
        return state._replace(pipes=_put(state.pipes, stream, pipe))

    def _exit(self, state: _State) -> _State:
        state = state._replace(child=state.child._replace(alive=False, blocked=None))
        for stream in self.streams:
            if stream == STDIN or not self.world.grandchild:
                state = self._child_closes(state, stream)
        return state

    # The pumps.

    def _pump(self, state: _State, stream: int, **changes: Any) -> _State:
        pump = _there(state.pumps[stream])._replace(**changes)
        return state._replace(pumps=_put(state.pumps, stream, pump))

    def _notify(self, state: _State) -> _State:
        callers = tuple(
            caller._replace(wait="released") if caller.wait in ("enrolled", "timed") else caller
            for caller in state.callers
        )
        return state._replace(callers=callers)

    def _movable(self, state: _State, stream: int) -> bool:
        pump = _there(state.pumps[stream])
        if not pump.waits:
            return False
        if stream == STDIN:
            movable: bool = self._ask(state, "writer_movable", pump.waits_for_room)
        else:
            movable = self._ask(state, "reader_movable", stream, pump.waits_for_room)
        return movable

    def _kick(self, state: _State) -> _State:
        for stream in self.streams:
            if self._movable(state, stream):
                state = self._pump(state, stream, rung=True)
        return state

    def _reader_step(self, state: _State, stream: int) -> Optional[_State]:
        pump, pipe = _there(state.pumps[stream]), _there(state.pipes[stream])
        if pump.at == "decide":
            if pump.stopping:
                return self._pump(state, stream, at="end")
            at, size = self._ask(state, "reader_decides", stream)
            if at == "end":
                return self._pump(state, stream, at=at)
            self.label += f", {at} {size or ''}"
            return self._pump(
                state,
                stream,
                at=at,
                size=size,
                cap=self._cap(state, stream) if at == "read" else 0,
                waits=at != "refill",
                waits_for_room=at == "wait",
                ready=False,
                busy=at != "wait" and Shell.BUSY in self.world.shell,
            )
        if pump.at == "read":
            if pipe.data:
                data = pipe.data[: int(pump.size)]
                held = self._beyond(state, stream) + len(data)
                if held > pump.cap:
                    _broken("bound", f"{held} bytes of {_NAMES[stream]} held, not {pump.cap}")
                pipes = _put(state.pipes, stream, pipe._replace(data=pipe.data[len(data) :]))
                state = state._replace(pipes=pipes)
                return self._pump(state, stream, at="record", data=data, size=0, cap=0)
            if not pipe.writer:
                return self._pump(state, stream, at="record", data=b"", size=0, cap=0)
            return self._pump(state, stream, at="wait", ready=True, busy=False, size=0, cap=0)
        if pump.at == "record":
            state, spills = self._do(state, "record", stream, pump.data)
            if spills:
                if Shell.SPILL_BUSY not in self.world.shell:
                    state = self._tell(state, stream)
                return self._pump(state, stream, at="spill")
            return self._pump(self._tell(state, stream), stream, at="decide", data=b"")
        if pump.at == "spill":
            state, _ = self._do(state, "spill", stream, pump.data)
            return self._pump(self._tell(state, stream), stream, at="decide", data=b"")
        if pump.at == "refill":
            state, _ = self._do(state, "refill", stream, pump.size)
            return self._pump(self._tell(state, stream), stream, at="decide", size=0)
        if pump.at == "wait":
            return self._woken(state, stream, bool(pipe.data) or not pipe.writer)
        if pump.at == "end":
            state, _ = self._do(state, "reader_ends", stream)
            closed = _put(state.pipes, stream, pipe._replace(reader=False, data=b""))
            return self._done(state._replace(pipes=closed), stream)
        return None

    def _tell(self, state: _State, stream: int) -> _State:
        return self._notify(
            self._pump(state, stream, busy=False, waits=False, waits_for_room=False)
        )

    def _woken(self, state: _State, stream: int, ready: bool) -> Optional[_State]:
        pump = _there(state.pumps[stream])
        ended = not state.child.alive and not pump.told
        if not (pump.stopping or pump.rung or ended or (pump.ready and ready)):
            return None
        state = self._pump(state, stream, at="decide", rung=False, ready=False)
        if ended and not pump.stopping:
            self.label += " sees that the process has ended"
            state, _ = self._do(state, "process_ended")
            state = self._notify(self._pump(state, stream, told=True))
        return state

    def _done(self, state: _State, stream: int) -> _State:
        told = _there(state.pumps[stream]).told
        stopping = _there(state.pumps[stream]).stopping
        done = _Pump(at="done", told=told, stopping=stopping)
        return self._notify(state._replace(pumps=_put(state.pumps, stream, done)))

    def _writer_step(self, state: _State, stream: int) -> Optional[_State]:
        pump, pipe = _there(state.pumps[stream]), _there(state.pipes[stream])
        if pump.at == "decide":
            if pump.stopping:
                return self._pump(state, stream, at="end")
            at, data = self._ask(state, "writer_decides")
            if at == "end":
                return self._pump(state, stream, at=at)
            self.label += f", {at}"
            rests = at == "wait"
            return self._pump(
                state, stream, at=at, data=data, waits=rests, waits_for_room=rests, ready=False
            )
        if pump.at == "write":
            count = len(pump.data[: self.world.capacity - len(pipe.data)])
            if not pipe.reader:
                count = -1
            else:
                pipe = pipe._replace(data=pipe.data + pump.data[:count])
            state = state._replace(pipes=_put(state.pipes, stream, pipe))
            return self._pump(state, stream, at="record", data=b"", size=count)
        if pump.at == "record":
            state, _ = self._do(state, "sent", pump.size)
            at = "decide" if pump.size else "wait"
            return self._notify(self._pump(state, stream, at=at, size=0, ready=not pump.size))
        if pump.at == "wait":
            room = len(pipe.data) < self.world.capacity or not pipe.reader
            return self._woken(state, stream, room)
        if pump.at == "end":
            state, _ = self._do(state, "writer_ends")
            closed = _put(state.pipes, stream, pipe._replace(writer=False))
            return self._done(state._replace(pipes=closed), stream)
        return None

    # What must hold.

    def _beyond(self, state: _State, stream: int) -> int:
        """The bytes that have left the pipe and have not come to a caller."""
        pipe = _there(state.pipes[stream])
        return state.child.moved[stream] - len(pipe.data) - state.passed[stream]

    def _cap(self, state: _State, stream: int) -> float:
        """How many bytes `stream` may hold, judged by what the callers are doing."""
        cap: float = max(self.world.bound, state.allowed[stream])
        for caller in state.callers:
            if caller.call is None:
                continue
            part = caller.program[0]
            mine = part[0] == "take" and part[1] == stream and caller.own
            if mine and part[2] != "read line":
                cap = max(cap, part[3])
            else:
                return math.inf
        return cap

    def check(self, state: _State) -> None:
        """Look at a state for what must never be."""
        for stream in self.outputs:
            if _there(state.pumps[stream]).at == "done" or self._ask(state, "closed", stream):
                continue
            held = self._ask(state, "held", stream) + len(_there(state.pumps[stream]).data)
            if held != self._beyond(state, stream):
                _broken("lost", f"{held} bytes of {_NAMES[stream]} held")
        if all(caller.call is None for caller in state.callers):
            for stream in self.streams:
                pump = _there(state.pumps[stream])
                if pump.at == "wait" and not pump.rung and self._movable(state, stream):
                    _broken("asleep", f"the pump of {_NAMES[stream]} rests though it may move")

    def waits(self, state: _State) -> Optional[Call]:
        """The call of a caller who waits for what is bound to come, if there is one."""
        child = state.child
        for caller in state.callers:
            if caller.call is None:
                continue
            given = child.blocked == STDIN and child.moved[STDIN] == state.passed[STDIN]
            if given and not self._ask(state, "outbound_is")[0]:
                continue  # He has to write more, or close stdin.
            part = caller.program[0]
            read = part[1] if part[0] in ("take", "gather") else None
            left_behind = not child.alive and self.world.grandchild
            if left_behind and read is not None and _there(state.pipes[read]).writer:
                continue  # This is for the grandchild to end.
            return caller.call
        return None

    def _deliver(self, state: _State, stream: int, data: bytes, ends: bool) -> _State:
        """A caller has got `data`; with `ends`, he has been told that it is the end."""
        count = state.passed[stream]
        if data != _PATTERNS[stream][count : count + len(data)]:
            _broken("order", f"{data!r} after {count} bytes of {_NAMES[stream]}")
        if Shell.TAKE_KICKS in self.world.shell:
            state = self._kick(state)
        count += len(data)
        if ends and count != state.child.moved[stream]:
            _broken("end", f"end of {_NAMES[stream]} after {count} bytes, and more was written")
        return state._replace(passed=_put(state.passed, stream, count))

    # The callers.

    def _caller(self, state: _State, index: int, **changes: Any) -> _State:
        caller = state.callers[index]._replace(**changes)
        return state._replace(callers=_put(state.callers, index, caller))

    def _caller_steps(self, state: _State, index: int) -> Iterator[_Step]:
        caller = state.callers[index]
        name = f"caller {index}"
        if caller.call is None:
            if caller.left:
                for call in self.world.calls:
                    self.label = f"{name}: calls {_name(call)}"
                    program = self._program(call)
                    after = self._caller(state, index, call=call, program=program)
                    yield self.label, False, self._part(after, index)
            return
        part = caller.program[0]
        if self._may_go_on(state, caller):
            self.label = f"{name}: goes on with {_name(caller.call)}: {_name(part)}"
            yield self.label, True, self._part(self._caller(state, index, wait=""), index)
        if caller.wait or part[0] in ("exit", "pump"):
            self.label = f"{name}: stops waiting"
            yield self.label, False, self._give_up(state, index)

    def _may_go_on(self, state: _State, caller: _Caller) -> bool:
        part = caller.program[0]
        if part[0] == "exit":
            return not state.child.alive
        if part[0] == "pump":
            return bool(_there(state.pumps[part[1]]).at == "done")
        if caller.wait == "timed":
            return bool(self._ask(state, "remaining", part[1]) == 0)
        return caller.wait != "enrolled"

    def _tick(self, state: _State) -> Optional[_State]:
        for caller in state.callers:
            if caller.wait not in ("timed", "released"):
                continue
            part = caller.program[0]
            if part[0] == "complete" and self._ask(state, "remaining", part[1]):
                return self._do(state, "tick")[0]
        return None

    def _program(self, call: Call) -> Tuple[Call, ...]:
        """The parts of a call, one for each section under the lock and each wait."""
        name = call[0]
        if name in ("read", "read available", "read line"):  # stream, number of bytes
            return (("take", call[1], name, call[2]),)
        if name == "gather":  # stream, number of bytes: `read` of many, or of all
            stream, goal = call[1:]
            return ("collect", stream, goal), ("gather", stream)
        if name == "write":  # number of bytes
            return ("put", call[1]), ("drain", 2), ("left",)
        if name == "flush":
            return ("drain", 3), ("left",)
        if name == "close stdin":
            return ("close soon",), ("drain", -1), ("left",)
        if name == "join":
            return ("enter",), ("exit",), ("left",)
        if name == "output":  # stream, join
            return (("collect", call[1], math.inf), *self._keep((call[1],), call[2]))
        if name in ("leave", "close"):
            collect = tuple(("collect", stream, math.inf) for stream in self.outputs)
            program = (*collect, *self._keep(tuple(self.outputs), True))
            if self.start.pipes[STDIN] is not None:
                program = (("close soon",), *program, ("stop",), ("pump", STDIN))
            for stream in self.outputs:
                program = (*program, ("shut", stream), ("pump", stream))
            return (("signal",), *program) if name == "close" else program
        if name == "close stream":
            return ("shut", call[1]), ("pump", call[1])
        return (call,)  # poll, poll loop, signal

    def _keep(self, streams: Tuple[int, ...], join: bool) -> Tuple[Call, ...]:
        return (
            *((("enter",), ("exit",), ("left",)) if join else ()),
            *(("complete", stream) for stream in streams),
            *(("abandon", stream) for stream in streams),
        )

    def _give_up(self, state: _State, index: int) -> _State:
        cleanup = tuple(("abandon", stream) for stream in state.callers[index].collects)
        return self._caller(state, index, program=(*cleanup, ("left",)), wait="")

    def _next(self, state: _State, index: int) -> _State:
        program = state.callers[index].program[1:]
        if program:
            return self._caller(state, index, program=program)
        left = state.callers[index].left - 1
        state, _ = self._do(state, "forget", str(index))
        return state._replace(callers=_put(state.callers, index, _Caller(left)))

    def _wait(self, state: _State, index: int, *own: Any, wait: str = "enrolled") -> _State:
        """Register, enrol, and ring the pumps."""
        state, _ = self._do(state, "enter", str(index), *own)
        return self._kick(self._caller(state, index, wait=wait, own=bool(own)))

    def _part(self, state: _State, index: int) -> _State:
        """Do the next part of a call, as far as the lock is held."""
        name, *arguments = state.callers[index].program[0]
        part = getattr(self, f"_part_{name.replace(' ', '_')}")
        after: _State = part(state, index, *arguments)
        return after

    def _part_take(self, state: _State, index: int, stream: int, kind: str, size: int) -> _State:
        if self._ask(state, "closed", stream):
            return self._give_up(state, index)
        state = self._kick(state)
        if self._ask(state, "busy", stream):
            return self._wait(state, index)
        last = _PATTERNS[stream][self.budgets[stream] - 1 :][:1]
        state, data = self._do(state, "take", str(index), stream, kind, size, last)
        if data is None:
            need = {"read": size, "read available": 1}.get(kind)
            need = self._ask(state, "held", stream) + self.world.bound if need is None else need
            return self._wait(state, index, stream, need)
        whole = data[-1:] == last if kind == "read line" else len(data) == size
        ends = not data or not (whole or kind == "read available")
        state = self._deliver(state, stream, data, ends)
        return self._next(state._replace(allowed=_put(state.allowed, stream, 0)), index)

    def _part_left(self, state: _State, index: int) -> _State:
        for token in (str(index), f"{index} exit"):
            state, _ = self._do(state, "leave", token)
        state, _ = self._do(state, "forget", f"{index} exit")
        return self._next(state, index)

    def _part_enter(self, state: _State, index: int) -> _State:
        state, _ = self._do(state, "enter", f"{index} exit")
        return self._next(self._kick(state), index)

    def _part_exit(self, state: _State, index: int) -> _State:
        return self._next(state, index)

    def _part_pump(self, state: _State, index: int, _: int) -> _State:
        return self._next(state, index)

    def _part_collect(self, state: _State, index: int, stream: int, goal: float) -> _State:
        caller = state.callers[index]
        if self._ask(state, "closed", stream):
            rest = tuple(
                part
                for part in caller.program
                if part[0] not in ("collect", "complete", "gather", "abandon") or part[1] != stream
            )
            return self._next(self._caller(state, index, program=(("",), *rest)), index)
        if self._ask(state, "busy", stream):
            return self._wait(state, index)
        state, _ = self._do(state, "collect", str(index), stream, goal)
        collects = (*caller.collects, stream)
        return self._next(self._caller(state, index, collects=collects), index)

    def _part_gather(self, state: _State, index: int, stream: int) -> _State:
        if self._ask(state, "closed", stream):
            return self._give_up(state, index)
        goal = _there(state.callers[index].call)[2]
        state, data = self._do(state, "finish", str(index), stream)
        if data is None:
            return self._wait(state, index)
        state = self._notify(self._caller(state, index, collects=()))
        return self._next(self._deliver(state, stream, data, len(data) < goal), index)

    def _part_complete(self, state: _State, index: int, stream: int) -> _State:
        pump, pipe = _there(state.pumps[stream]), _there(state.pipes[stream])
        pending = bool(pipe.data) or not pipe.writer
        closed = self._ask(state, "closed", stream)
        state, data = self._do(
            state, "keep", str(index), stream, pump.at == "done", pump.busy, pending
        )
        if data is not None:
            state = self._notify(self._deliver(state, stream, data, not closed))
            return self._next(state, index)
        wait = "enrolled" if self._ask(state, "remaining", stream) is None else "timed"
        if Shell.COMPLETE_ENTERS in self.world.shell:
            return self._wait(state, index, wait=wait)
        return self._kick(self._caller(state, index, wait=wait))

    def _part_abandon(self, state: _State, index: int, stream: int) -> _State:
        state, _ = self._do(state, "abandon", str(index), stream)
        collects = tuple(other for other in state.callers[index].collects if other != stream)
        return self._next(self._notify(self._caller(state, index, collects=collects)), index)

    def _part_shut(self, state: _State, index: int, stream: int) -> _State:
        state, _ = self._do(state, "close", stream)
        return self._next(self._notify(self._kick(state)), index)

    def _part_put(self, state: _State, index: int, size: int) -> _State:
        closing, broken, _, _ = self._ask(state, "outbound_is")
        if closing or broken:
            return self._give_up(state, index)
        put = state.passed[STDIN]
        state, _ = self._do(state, "put", _PATTERNS[STDIN][put : put + size])
        state = state._replace(passed=_put(state.passed, STDIN, put + size))
        if Shell.PUT_KICKS in self.world.shell:
            state = self._kick(state)
        return self._next(state, index)

    def _part_drain(self, state: _State, index: int, until: int) -> _State:
        answers = self._ask(state, "outbound_is")
        if answers[1] or (until > 0 and answers[until]) or _there(state.pumps[STDIN]).at == "done":
            return self._next(state, index)
        return self._wait(state, index)

    def _part_close_soon(self, state: _State, index: int) -> _State:
        state, _ = self._do(state, "close_soon")
        if self._movable(state, STDIN):
            state = self._pump(state, STDIN, rung=True)
        return self._next(state, index)

    def _part_stop(self, state: _State, index: int) -> _State:
        if _there(state.pumps[STDIN]).at != "done":
            state = self._pump(state, STDIN, stopping=True, rung=True)
        return self._next(state, index)

    def _part_signal(self, state: _State, index: int) -> _State:
        child = state.child._replace(signalled=state.child.alive)
        return self._next(state._replace(child=child), index)

    def _part_poll(self, state: _State, index: int) -> _State:
        return self._next(self._poll(state), index)

    def _part_poll_loop(self, state: _State, index: int) -> _State:
        if not state.child.alive:
            return self._next(state, index)
        return self._caller(self._poll(state), index, wait="polling")

    def _poll(self, state: _State) -> _State:
        if not state.child.alive:
            return state
        allowed = state.allowed
        for stream in self.outputs:
            most = max(self.world.bound, self._beyond(state, stream)) + self.world.bound
            allowed = _put(allowed, stream, most)
        state, _ = self._do(state._replace(allowed=allowed), "poll")
        return self._kick(state)


def _there(thing: Any) -> Any:
    assert thing is not None
    return thing


def _name(call: Call) -> str:
    return " ".join(map(str, call))


def explore(
    world: World,
    limit: Optional[int] = None,
    progress: Optional[Callable[[int, int], None]] = None,
) -> Result:
    """Walk through every state of `world`, breadth first.

    Args:
        world: what there is, and what may be called.
        limit: give up after this many states.
        progress: called now and then with the number of states known and of those still to visit.

    Returns:
        What was found; the search ends with the first violation.
    """
    search = _Search(world)
    numbers: Dict[_State, int] = {search.start: 0}
    queue: Deque[_State] = deque([search.start])
    origins: List[Tuple[int, str]] = [(-1, "")]
    #: Where a move leads from, and to.
    moves = array("l"), array("l")
    #: For each state visited, whether a caller waits there.
    waits = bytearray()
    steps = 0

    def result(violation: Optional[Violation] = None, complete: bool = False) -> Result:
        return Result(len(numbers), steps, complete, violation)

    def violation(kind: str, text: str, number: int, *trace: str) -> Result:
        labels = list(trace)
        while number > 0:
            number, label = origins[number]
            labels.append(label)
        return result(Violation(kind, text, tuple(reversed(labels))))

    while queue:
        state = queue.popleft()
        number = len(waits)
        stays = True
        search.label = ""
        try:
            search.check(state)
            for label, counts, after in search.steps(state):
                steps += 1
                if after == state:
                    continue
                if after not in numbers:
                    numbers[after] = len(origins)
                    origins.append((number, label))
                    queue.append(after)
                if counts:
                    stays = False
                    moves[0].append(number)
                    moves[1].append(numbers[after])
        except _BrokenError as error:
            return violation(error.kind, error.text, number, *filter(None, [search.label]))
        call = search.waits(state)
        waits.append(call is not None)
        if call is not None and stays:
            return violation("stuck", f"{_name(call)} waits, and nothing can move", number)
        if limit is not None and len(numbers) >= limit:
            return result()
        if progress is not None and not number % 20000:
            progress(len(numbers), len(queue))
    for number in _trapped(waits, *moves):
        return violation("stuck", "a caller waits, and no move leads out", number)
    return result(complete=True)


def _trapped(waits: bytearray, sources: "array[int]", targets: "array[int]") -> List[int]:
    """The states from which moves lead for ever through states in which a caller waits."""
    trapped = bytearray(waits)
    before: Dict[int, List[int]] = {}
    for source, target in zip(sources, targets):
        if waits[source]:
            before.setdefault(target, []).append(source)
    free = [number for number, waiting in enumerate(waits) if not waiting]
    while free:
        for number in before.get(free.pop(), ()):
            if trapped[number]:
                trapped[number] = False
                free.append(number)
    return [number for number, is_trapped in enumerate(trapped) if is_trapped]


#: Worlds that take minutes. The smaller ones are in `tests/core/test_explore.py`.
_READS: Tuple[Call, ...] = (
    ("read", STDOUT, 1),
    ("read available", STDOUT, 2),
    ("gather", STDOUT, math.inf),
    ("output", STDOUT, True),
    ("output", STDOUT, False),
    ("poll",),
    ("poll loop",),
    ("join",),
    ("leave",),
)
_WRITES: Tuple[Call, ...] = (
    ("write", 1),
    ("write", 3),
    ("flush",),
    ("close stdin",),
    ("read", STDOUT, 1),
    ("output", STDOUT, True),
    ("join",),
    ("close",),
)
WORLDS: Dict[str, World] = {
    "reads": World(calls=_READS, length=4, stdout=4),
    "lines": World(calls=(("read line", STDOUT, -1), *_READS), length=3, stdout=4),
    "both outputs": World(calls=_READS, length=2, stdout=2, stderr=2),
    "echo": World(calls=_WRITES, length=3, stdout=2, stdin=True),
    "write while stdout floods": World(calls=(("write", 3),), length=1, stdout=3, stdin=True),
    "given": World(calls=_READS, length=2, stdout=2, given=3),
    "grandchild": World(calls=_READS, length=3, stdout=3, grandchild=True),
    "two callers": World(calls=_READS, length=2, callers=2, stdout=2),
    "marks": World(calls=_READS, length=4, stdout=9, capacity=2, bound=8, memory=16),
}


def main(limit: int = 1_000_000) -> bool:
    """Explore `WORLDS` one after the other; whether all is well."""
    well = True
    for name, world in WORLDS.items():
        begin = time.monotonic()

        def progress(known: int, left: int) -> None:
            sys.stderr.write(f"\r{known:10,} states, {left:,} still to visit   ")

        result = explore(world, limit, progress)
        seconds = time.monotonic() - begin
        extent = "all of them" if result.complete else "so far"
        print(f"\r{name}: {result.states:,} states, {extent}, {seconds:.0f} s")
        if result.violation is not None:
            well = False
            print(result.violation)
    return well


if __name__ == "__main__":
    sys.exit(not main())
