"""The last moments at which something can be done about children: a loop, or the interpreter, ends.

Theory of operation. An asynchronous generator that has been begun is closed by
`loop.shutdown_asyncgens()`, which `asyncio.run` calls last of all. That is the one moment to end
what was never closed: later there is no loop to close a transport with, and uvloop even waits for
the child. What is left when the interpreter exits is ended by an exit handler.
"""

import asyncio
import atexit
import contextlib
import weakref
from typing import AsyncGenerator, Dict

from process._child import GRACE
from process._polling import poll_until
from process.asyncio._child import Child, end_orphans
from process.asyncio._start import starting


async def guard() -> None:
    """See that no child of the running loop outlives it."""
    loop = asyncio.get_running_loop()
    if loop in _guarded:
        return
    _guarded.add(loop)
    # A guard refers to its loop. It goes when the loop shuts down; but some are just closed.
    for other in [other for other in list(_guards) if other.is_closed()]:
        del _guards[other]
    _guards[loop] = begun = _guard(loop)
    await begun.__anext__()


async def _guard(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
    """Ends the children of a loop before it is closed."""
    try:
        yield
    finally:
        starts = [start for start in list(starting) if start.loop is loop]
        for start in starts:
            start.give_up()
        for start in starts:
            await start.over()
        theirs = [child.end() for child in list(Child.alive) if child.monitor.loop is loop]
        if theirs:  # for no children, at the interpreter's exit, `gather` would look for a loop
            await asyncio.gather(*theirs, return_exceptions=True)
        _guards.pop(loop, None)


#: Loops that have, or have had, a guard.
_guarded: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()

#: The guards of the loops that have not been shut down.
_guards: Dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}


def _end_all() -> None:
    """End every child that is still there: the interpreter exits.

    A loop that a daemon thread runs is told to close its pipes, and has a moment to do it.
    """
    children = list(Child.alive)
    looked_after = [child for child in children if child.monitor.loop.is_running()]
    for child in looked_after:
        with contextlib.suppress(RuntimeError):  # closed in this very moment
            child.monitor.loop.call_soon_threadsafe(child.close_streams)
    end_orphans(children)
    poll_until(lambda: all(child.protocol.gone for child in looked_after), GRACE)
    # Dropped unfinished, a guard wakes its loop; so late, a daemon thread in uvloop crashes of it.
    for begun in list(_guards.values()):
        with contextlib.suppress(StopIteration, RuntimeError):  # it is over now, or at work
            begun.aclose().send(None)


atexit.register(_end_all)
