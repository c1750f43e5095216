"""Each state of the real objects, stored once and numbered."""

import io
import weakref
from collections import deque
from typing import Any, Dict, List, Tuple

from process.core._buffer import Buffer
from process.core._ending import Ending
from process.core._flow import Flow
from process.core._inbound import Collection, Front
from stress.explore.core import Core, no_file
from stress.explore.world import Shell, World

_ATOMS = frozenset((bool, int, float, str, bytes, type(None), type(no_file), type, Shell))


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
    if kind is bytearray:
        twin = memo[id(thing)] = bytearray(thing)
        return twin
    if isinstance(thing, io.BytesIO):
        twin = io.BytesIO(thing.getvalue())
        twin.seek(thing.tell())
        memo[id(thing)] = twin
        return twin
    if kind is weakref.ref:
        target = thing()
        return None if target is None else weakref.ref(_copy(target, memo))
    if isinstance(thing, Flow):  # knows waits by identity
        twin = memo[id(thing)] = kind()
        twin._connected = _copy(thing._connected, memo)
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
    """A hashable value that is equal for objects that behave alike."""
    kind = type(thing)
    if kind in _ATOMS:
        return thing
    if id(thing) in seen:
        return ("seen", seen[id(thing)])
    if isinstance(thing, Buffer):
        # Not where in the stream it is, and not where one chunk ends and the next begins.
        searched = thing._searched.items()
        ahead = [(separator, end - thing.position) for separator, end in searched]
        return thing.peek(len(thing)), tuple(sorted(pair for pair in ahead if pair[1] > 0))
    if isinstance(thing, Flow):  # the rest follows from what has been entered
        seen[id(thing)] = len(seen)
        return _freeze([reference() for reference in thing._streams], now, seen)
    if isinstance(thing, Collection):
        return thing.goal, thing.active, thing.getvalue()
    if isinstance(thing, Ending):
        return thing.eof, thing.remaining(now)
    if isinstance(thing, io.BytesIO):
        return thing.getvalue()[thing.tell() :]
    if isinstance(thing, Front):
        # How much of it was taken is in the position of the buffer as far as it is recorded.
        return thing.chunk.tell()
    if kind is bytearray:  # the tail, which the buffer holds
        return True
    if isinstance(thing, dict):
        return tuple((key, _freeze(thing[key], now, seen)) for key in sorted(thing))
    if isinstance(thing, (tuple, list, deque)):
        return tuple(_freeze(part, now, seen) for part in thing)
    seen[id(thing)] = len(seen)
    return tuple(_freeze(getattr(thing, name), now, seen) for name in _attributes(thing))


class Cores:
    """Each state of the real objects, by number, and the result of each section."""

    def __init__(self, world: World) -> None:
        self._cores: List[Core] = []
        self._numbers: Dict[Any, int] = {}
        self._known: Dict[Tuple[Any, ...], Tuple[int, Any]] = {}
        self._intern(Core(world))

    def _intern(self, core: Core) -> int:
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
            core: Core = _copy(self._cores[number], {})
            value = getattr(core, section)(*arguments)
            known = self._known[key] = (self._intern(core), value)
        return known
