"""The last opportunity to end children: their loop shuts down, or the interpreter exits.

1. An asynchronous generator that has been begun is closed by `loop.shutdown_asyncgens()`, which
   `asyncio.run` calls at its end. Each loop with children has one here, which then ends those that
   were never closed. After that there is no loop to close a transport with, and uvloop even waits
   for the child.
2. Children that still exist when the interpreter exits are ended by an exit handler.
"""

import asyncio
import atexit
import contextlib
import weakref
from typing import AsyncGenerator, Dict, Set

from process._polling import poll_until
from process.asyncio._child import Child, end_orphans
from process.asyncio._start import starting
from process.core._base import GRACE


async def watch_running_loop() -> None:
    """See that no child of the running loop outlives it."""
    loop = asyncio.get_running_loop()
    if loop in _watched:
        return
    # A generator refers to its loop until the loop shuts down, and some loops are just closed.
    for other in [other for other in list(_begun) if other.is_closed()]:
        _begun.pop(other, None)  # another loop, in another thread, may have done it
    begun = _begun.get(loop)
    if begun is None:
        begun = _begun[loop] = _shutdown(loop)
    await begun.__anext__()  # perhaps once more, if that has been interrupted
    _watched.add(loop)


async def _shutdown(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
    """End the children of a loop before it is closed."""
    try:
        while True:
            yield
    finally:
        seen: Set[object] = set()  # a child that cannot be ended is tried once
        while True:  # a task that still runs may start another child meanwhile
            starts = [start for start in list(starting) if start.loop is loop and start not in seen]
            for start in starts:
                start.cancel()
            for start in starts:
                await start.over()
            children = [child for child in list(Child.alive) if child.monitor.loop is loop]
            theirs = [child for child in children if child not in seen]
            if not starts and not theirs:
                # Not earlier: at the exit of the interpreter `gather` would look for a loop.
                break
            seen.update(starts, theirs)
            await asyncio.gather(*[child.end() for child in theirs], return_exceptions=True)
        _begun.pop(loop, None)


#: Loops that have, or have had, a generator.
_watched: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()

#: The generators of the loops that have not been shut down.
_begun: Dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}


def _end_all() -> None:
    """End every child that still exists, because the interpreter exits.

    A loop that a daemon thread runs is told to close its pipes, and has a bounded time to do it.
    """
    children = list(Child.alive)
    still_run = [child for child in children if child.monitor.loop.is_running()]
    for child in still_run:
        with contextlib.suppress(RuntimeError):  # it has just been closed
            child.monitor.loop.call_soon_threadsafe(child.close_streams)
    end_orphans(children)
    poll_until(lambda: all(child.protocol.gone for child in still_run), GRACE)
    # A generator that is collected unfinished wakes its loop. So late, that crashes a loop of
    # uvloop that a daemon thread runs.
    for begun in list(_begun.values()):
        with contextlib.suppress(StopIteration, RuntimeError):  # it has ended now, or runs
            begun.aclose().send(None)


atexit.register(_end_all)
