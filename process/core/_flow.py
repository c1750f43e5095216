"""How much each stream of a process may hold, given what callers wait for.

Theory of operation. A plain pipe bounds memory and can deadlock; a library that always reads cannot
deadlock, but does not bound memory. So it depends on the callers. While no caller waits, a stream
holds at most its bound, and then the child blocks in its next write: backpressure. While a caller
waits for something, everything it is *not* waiting for must move without bound, because the child
may have to write that first.

Invariant (progress). For a caller that waits, every stream of the process and of all connected ones
has room, except the one it reads itself, and that one has room until it holds what was asked for.
So whatever the child does next, it can do: there is no cycle child -> full pipe -> caller -> child.

A poll (`running`, `exit_code`, a `join` that times out) is a wait of no duration. It grants each
stream room for one more bound; if nothing was read since the last poll, for one bound more than it
holds. So a loop of polls ends, and with a caller that polls once before each read a stream holds at
most two bounds.

This module does no I/O and takes no lock: a `Flow` that threads share needs one around it. Those of
connected processes are read without their locks: what is read is one object or copied in one call,
and a wait is registered before the others are woken.
"""

import math
import weakref
from typing import Dict, List, Optional, Protocol, Tuple

#: Bytes that a stream may hold while no caller waits.
BOUND = 256 * 1024

#: No limit.
UNBOUNDED = math.inf


class Stream(Protocol):
    """What `Flow` knows of a stream: that a poll grants it room."""

    def grant(self) -> None:
        """Allow one more bound; if polled before without a read, counted from what is held."""


class Wait:
    """One wait of one caller, for as long as it is referred to.

    A caller calls `Flow.leave`, but an exception may be raised just before that. The wait then ends
    when the caller's frame, and this object with it, is gone.
    """

    __slots__ = ("__weakref__",)


class Shell(Protocol):
    """The owner of a `Flow`, as connected processes see it. Called in any thread."""

    def wake(self) -> None:
        """Wake the streams of this flow that may move. Takes no lock."""

    def poll(self) -> None:
        """A caller has polled a connected process."""


class Flow:
    """The waits of all callers of one process.

    Processes are connected if one reads what the other writes. A caller that waits for one of them
    may depend on all, so its wait counts for all.
    """

    __slots__ = ("__weakref__", "_connected", "_shell", "_streams", "_waits")

    def __init__(self, shell: Optional[Shell] = None) -> None:
        self._shell = None if shell is None else weakref.ref(shell)
        self._connected: List[weakref.ref[Flow]] = []
        #: Weak, so that a flow and its streams form no cycle.
        self._streams: List[weakref.ref[Stream]] = []
        self._waits: Dict[int, Tuple[weakref.ref[Wait], Optional[Stream], float]] = {}

    def add(self, stream: Stream) -> None:
        """Let `stream` move while a caller waits."""
        self._streams.append(weakref.ref(stream))

    def enter(self, wait: Wait, own: Optional[Stream] = None, need: float = 0) -> None:
        """Register a caller that begins to wait, or that now waits for something else.

        Args:
            wait: made by the caller; nothing else refers to it.
            own: the stream whose bytes the caller waits for; `None` if it waits for something else.
            need: how many bytes of `own` have to be held before the caller can go on.
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
        """Connect two processes, of which one reads what the other writes.

        No lock covers both, so each list grows by one call into C: of two threads that connect the
        same process, none undoes what the other one does.

        The wait of a caller that waits already counts for all of them from now on.
        """
        self._connected.append(weakref.ref(other))
        other._connected.append(weakref.ref(self))
        if self.busy:
            for shell in [*self.shells, *other.shells]:
                shell.wake()

    @property
    def connected(self) -> "List[Flow]":
        """The flows of all processes connected with this one, directly or not."""
        if not self._connected:
            return []
        found: List[Flow] = [self]
        for flow in found:
            for reference in list(flow._connected):
                other = reference()
                if other is not None and other not in found:
                    found.append(other)
        return found[1:]

    @property
    def shells(self) -> List[Shell]:
        """The owners of the connected flows."""
        if not self._connected:
            return []
        shells = [other._shell() for other in self.connected if other._shell is not None]
        return [shell for shell in shells if shell is not None]

    def leave(self, wait: Wait) -> None:
        """End the wait of a caller, if it was registered."""
        self._waits.pop(id(wait), None)

    def poll(self) -> None:
        """Grant room to all streams: a caller has asked whether the process still runs."""
        for reference in self._streams:
            stream = reference()
            if stream is not None:
                stream.grant()

    @property
    def busy(self) -> bool:
        """Whether a caller waits for this process or a connected one."""
        if not self._waits and not self._connected:
            return False
        return self._waited or True in [other._waited for other in self.connected]

    @property
    def _waited(self) -> bool:
        return True in [wait() is not None for wait, _, _ in list(self._waits.values())]

    def others(self, wait: Wait) -> List[Wait]:
        """The waits, but for `wait`, of callers for this process or a connected one."""
        flows = [self, *self.connected]
        waits = [entry[0]() for flow in flows for entry in list(flow._waits.values())]
        return [other for other in waits if other is not None and other is not wait]

    def need(self, stream: Stream) -> float:
        """How many bytes its waiting readers need `stream` to hold."""
        return max(
            (need for wait, own, need in self._waits.values() if own is stream and wait()),
            default=0,
        )

    def limit(self, stream: Stream) -> float:
        """How many bytes `stream` has to hold for the waiting callers: 0 if there are none."""
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
