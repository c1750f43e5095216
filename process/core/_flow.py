"""Who may hold beyond the bound.

Theory of operation. A plain pipe protects memory and stalls; a library that always reads never
stalls and protects nothing. The way out is to look at the caller. While no caller waits, a stream
holds at most its bound, and a child that writes on is blocked by its pipe: backpressure. While a
caller waits for something, everything it is *not* waiting for must move without bound, because the
child may not get to what is wanted before it has got rid of the rest.

Invariant (progress). For a caller that waits, every stream of the process has room, except the one
it reads itself, and that one has room until it holds what was asked for. So whatever the child does
next, it can do: no cycle child -> full pipe -> caller -> child can close.

A poll (`running`, `exit_code`) is a wait of no duration. It grants each stream room for one more
bound; and polled again without having been read, one more than it holds by then. So a loop of polls
ends, and a caller who looks once before each read piles up nothing.

This module does no I/O and takes no lock: whoever shares a `Flow` between threads guards it.
"""

import math
import weakref
from typing import Dict, List, Optional, Protocol, Tuple

#: Bytes a stream holds while nobody waits.
BOUND = 256 * 1024

#: No limit.
UNBOUNDED = math.inf


class Stream(Protocol):
    """What `Flow` knows of a stream: that a poll grants it room."""

    def grant(self) -> None:
        """Allow one more bound, counted from what is held now."""


class Wait:
    """One wait of one caller, for as long as it is referred to.

    A caller leaves explicitly; but an exception may strike just where he was about to. A wait that
    nobody left is over all the same when the caller's frame, and this object with it, is gone.
    """

    __slots__ = ("__weakref__",)


class Shell(Protocol):
    """What surrounds a `Flow`, as seen by connected processes. Called in any thread."""

    def wake(self) -> None:
        """See that the streams of this flow move if they may. Takes no lock."""

    def poll(self) -> None:
        """A caller has polled a connected process."""


class Flow:
    """The waits of all callers of one process.

    Processes are connected where one reads what another one writes. A caller that waits for one of
    them may depend on all, so its wait counts for all.
    """

    __slots__ = ("__weakref__", "_connected", "_shell", "_streams", "_waits")

    def __init__(self, shell: Optional[Shell] = None) -> None:
        self._shell = None if shell is None else weakref.ref(shell)
        self._connected: List[weakref.ref[Flow]] = []
        #: Weak, so that a flow and its streams are no cycle.
        self._streams: List[weakref.ref[Stream]] = []
        self._waits: Dict[int, Tuple[weakref.ref[Wait], Optional[Stream], float]] = {}

    def add(self, stream: Stream) -> None:
        """Make `stream` one that moves while a caller waits."""
        self._streams.append(weakref.ref(stream))

    def enter(self, wait: Wait, own: Optional[Stream] = None, need: float = 0) -> None:
        """A caller begins to wait, or has changed what he waits for.

        Args:
            wait: made by the caller, and referred to by him alone.
            own: the stream whose bytes he waits for; `None` where he waits for something else.
            need: how many bytes of it have to be held before he can go on.
        """
        if self._waits:
            for key, (reference, _, _) in list(self._waits.items()):
                if reference() is None:
                    del self._waits[key]
        self._waits[id(wait)] = (weakref.ref(wait), own, need)

        if self._connected:
            for shell in self.shells:
                shell.wake()

    def connect(self, other: "Flow") -> None:
        """One of the two processes reads what the other one writes."""
        self._connected = [*self._connected, weakref.ref(other)]
        other._connected = [*other._connected, weakref.ref(self)]

    @property
    def connected(self) -> "List[Flow]":
        """The flows of all processes that are connected with this one, directly or not."""
        if not self._connected:
            return []
        found: List[Flow] = [self]
        for flow in found:
            for reference in flow._connected:
                other = reference()
                if other is not None and other not in found:
                    found.append(other)
        return found[1:]

    @property
    def shells(self) -> List[Shell]:
        """What surrounds the connected flows."""
        if not self._connected:
            return []
        shells = [other._shell() for other in self.connected if other._shell is not None]
        return [shell for shell in shells if shell is not None]

    def leave(self, wait: Wait) -> None:
        """The caller no longer waits, if he ever did."""
        self._waits.pop(id(wait), None)

    def poll(self) -> None:
        """A caller has looked whether the process still runs."""
        for reference in self._streams:
            stream = reference()
            if stream is not None:
                stream.grant()

    @property
    def busy(self) -> bool:
        """Whether a caller waits, be it for a connected process."""
        if not self._waits and not self._connected:
            return False
        return self._waited or True in [other._waited for other in self.connected]

    @property
    def _waited(self) -> bool:
        return True in [wait() is not None for wait, _, _ in list(self._waits.values())]

    def waited_by_other(self, wait: Wait) -> bool:
        """Whether a caller waits other than the one whose `wait` this is."""
        others = [reference() for reference, _, _ in list(self._waits.values())]
        if True in [other is not None and other is not wait for other in others]:
            return True
        return True in [other._waited for other in self.connected]

    def need(self, stream: Stream) -> float:
        """How many bytes of `stream` the callers who read it want to have at hand."""
        return max(
            (need for wait, own, need in self._waits.values() if own is stream and wait()),
            default=0,
        )

    def limit(self, stream: Stream) -> float:
        """How many bytes the waiting callers oblige `stream` to hold: 0 while nobody waits."""
        limit: float = 0
        for wait, own, need in self._waits.values():
            if wait() is None:
                continue
            if own is not stream:
                return UNBOUNDED
            limit = max(limit, need)
        if self._connected and True in [other._waited for other in self.connected]:
            return UNBOUNDED
        return limit
