"""The start of a child of an asyncio process.

1. The loop makes the child, connects its pipes in some later iterations, and then hands it over.
   Meanwhile the caller may be cancelled, the loop may shut down, or an exception may be raised
   anywhere, and the child exists, or will. So the loop is asked in a task of its own, which is not
   cancelled with the caller.
2. A caller that no longer wants the child cancels the `Start` and stays until the child has been
   dropped, ended and reaped. If the caller is cancelled again, this goes on without it, and
   `_shutdown` waits for it.
3. When a whole loop shuts down, asyncio's own task that connects the pipes is cancelled, and so is
   ours. asyncio kills the child then and waits for its end, on some versions for ever, since it is
   not told of it (gh-125502). It must not be told to stop before the child has been reaped, and has
   to be afterwards. So we have to know when that is: see `ChildProtocol.process_exited`.
4. A loop may fail when the child exists already: asyncio watches for its end by a thread or a
   descriptor, and the thread cannot be started, or there is no descriptor left. The loop raises at
   once, and hands the child over some iterations later all the same, with nobody to reap it. Then
   the child is reaped here.
"""

import asyncio
import contextlib
import sys
from functools import partial
from typing import IO, Any, List, Optional, Set

from process import _platform
from process._descriptor import Descriptor
from process._handover import Offer, given
from process.asyncio._child import Child
from process.asyncio._monitor import complete
from process.asyncio._protocol import ChildProtocol
from process.core._base import GRACE, Redirections
from process.core.constants import PIPE

#: Whether `subprocess.Popen` leaks descriptors when it runs out of them.
_POPEN_LEAKS = sys.version_info < (3, 11)

#: Iterations of a loop: more than it takes to connect three pipes.
_TURNS = 30

#: Seconds between two looks at a child that the loop does not watch.
_LOOK_AGAIN = 0.01


class Start:
    """A child that the loop has been asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer_size: int) -> None:
        self.loop = loop
        #: The child, once it has been handed over.
        self.child: Optional[Child] = None
        self._protocol: Optional[ChildProtocol] = None
        self._buffer_size = buffer_size
        self._begun = False
        self._cancelled = False
        #: The loop has said that it cannot start the child.
        self._failed = False
        #: The loop was told to stop in the middle, by the program.
        self._stopped = False
        self._task: Optional[asyncio.Task[None]] = None

    async def wait(self, arguments: List[str], given: List[Optional[int]]) -> Child:
        """Ask the loop for the child, and wait for it.

        Raises:
            Exception: whatever has prevented it.
        """
        task = self._task = self.loop.create_task(self._ask(arguments, given))
        starting.add(self)
        task.add_done_callback(self._answered)
        answered: asyncio.Future[None] = self.loop.create_future()
        task.add_done_callback(partial(complete, answered))
        try:
            await answered  # a cancellation leaves the task alone
            task.result()
        finally:
            del task  # an error refers to this frame, and must not be referred to from it
        if self.child is None:
            raise MemoryError("no memory for the streams")  # see `ChildProtocol.connection_made`
        return self.child

    async def _ask(self, arguments: List[str], given: List[Optional[int]]) -> None:
        if self._cancelled:
            return  # an exception was raised before `wait` had the task
        self._begun = True
        _reserve_descriptors(self.loop, 4 + 2 * given.count(PIPE))
        stdin, stdout, stderr = given
        await self.loop.subprocess_exec(
            self._make_protocol,
            *arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            **_platform.spawn_options,
        )

    def _make_protocol(self) -> ChildProtocol:
        self._protocol = ChildProtocol(self.loop, self._buffer_size, self._arrived, self._reaped)
        return self._protocol

    def _arrived(self, transport: asyncio.SubprocessTransport, protocol: ChildProtocol) -> None:
        """Take the child from the loop, which hands it over even if it has been told to stop."""
        self.child = Child(transport, protocol)
        if self._stopped:
            starting.discard(self)
            protocol.monitor.notify()
        if self._cancelled:
            self.child.drop()
        if self._failed:
            self._watch(transport)

    def _watch(self, transport: Any) -> None:
        """Tell the transport of the end of its child, in place of the watcher that failed.

        The method is private to asyncio, but there is no public one. Only its loops fail like this.
        """
        code = transport.get_extra_info("subprocess").poll()
        if code is None:
            self.loop.call_later(_LOOK_AGAIN, self._watch, transport)
        else:
            transport._process_exited(code)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        self._stopped = task.cancelled()
        if not self._stopped:  # the exception counts as retrieved
            self._failed = task.exception() is not None
        if self._dying is None:
            starting.discard(self)

    @property
    def _dying(self) -> Optional[ChildProtocol]:
        """The protocol of a child that the loop has killed, and neither reaped nor handed over."""
        protocol = self._protocol
        if not self._stopped or self.child is not None or protocol is None or protocol.reaped:
            return None
        return protocol

    def _reaped(self) -> None:
        """The child has been reaped before it was handed over, if it ever is."""
        if self._stopped:
            starting.discard(self)
        if self._cancelled:
            self._insist(_TURNS)

    def cancel(self) -> None:
        """Drop the child, now or as soon as the loop hands it over."""
        self._cancelled = True
        if self._task is not None:
            # Again, in case an exception was raised before `wait` did it.
            self._task.add_done_callback(self._answered)
        if self.child is not None:
            self.child.drop()
        elif self._task is not None and not self._begun:
            self._task.cancel()
        elif self._protocol is not None and self._protocol.reaped:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._insist(_TURNS)

    def _insist(self, turns: int) -> None:
        """Tell the loop to stop, if in so many turns it does not hand over a child that it has."""
        if self._task is None:
            return
        if turns:
            self.loop.call_soon(self._insist, turns - 1)
        else:
            self._task.cancel()

    async def over(self) -> None:
        """Wait until the child is gone, for a bounded time unless it is killed; after `cancel`."""
        if self._task is not None:
            await asyncio.wait([self._task])
        while (dying := self._dying) is not None:
            await dying.monitor.changed()
        if self._failed:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        if self.child is not None:
            await self.child.disappear(2 * GRACE)
        protocol = self._protocol
        if protocol is not None and protocol.out_of_memory:
            while not protocol.gone:  # its child has been killed
                await protocol.monitor.changed()


#: The starts that loops have been asked for and have not answered.
starting: Set[Start] = set()


async def start(arguments: List[str], to: Redirections, buffer_size: int) -> Child:
    """Start a child and the transports for its streams.

    Raises:
        Exception: whatever has prevented it. Nothing is left behind.
    """
    offers: List[Offer] = []
    started = Start(asyncio.get_running_loop(), buffer_size)
    try:
        stdin, stdout, stderr = to
        files = [
            file if file is None or isinstance(file, int) else _number(file, offers)
            for file in (PIPE if isinstance(stdin, bytes) else stdin, stdout, stderr)
        ]
        child = await started.wait(arguments, files)
        for offered in offers:
            offered.accept(child.monitor.flow)
        if isinstance(stdin, bytes):
            child.feed(stdin)
        return child
    except BaseException as error:
        for offered in offers:
            offered.withdraw()
        started.cancel()
        if isinstance(error, (Exception, asyncio.CancelledError)):
            await started.over()
        raise
    finally:
        for offered in offers:
            offered.descriptor.close()
        del started  # as in `Start.wait`


def _number(file: IO[bytes], offers: List[Offer]) -> int:
    """The descriptor of `file`, asked for before there is any pipe.

    If `subprocess.Popen` finds out later that a file has none, it leaks the pipes that it has made
    by then, before Python 3.11.
    """
    number = given(file, offers)
    return number if isinstance(number, int) else file.fileno()


def _reserve_descriptors(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """See that there are as many descriptors left as the loop may need at once.

    Running out in the middle, `subprocess.Popen` leaks two of them before Python 3.11
    (gh-87474), and uvloop leaks six.

    Raises:
        OSError: there are too few.
    """
    if isinstance(loop, asyncio.BaseEventLoop) and not _POPEN_LEAKS:
        return
    Descriptor.reserve(count)
