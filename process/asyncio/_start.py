"""The start of a child of an asyncio process.

Theory of operation. The loop makes the child, connects its pipes, which takes some turns, and then
hands it over. Meanwhile whoever has asked for it may be cancelled, the whole loop may shut down, an
exception may come from anywhere; and the child is there, or will be. So the loop is asked in a task
of its own, which nobody but us cancels. A caller who no longer wants the child says so and stays
until it has been dropped, ended and reaped; if he is torn out of that as well, it happens without
him, and the guard of the loop waits for it.

A loop may also fail when the child is there already: asyncio watches for its end by a thread or a
descriptor, and there may be neither to be had. It says so at once, and hands the child over some
turns later all the same, with nobody to reap it. Then that is done here.
"""

import asyncio
import contextlib
from typing import Any, List, Optional, Set

from process import _platform
from process._descriptor import Descriptor
from process._handover import offer
from process._lifecycle import GRACE, Redirections
from process.asyncio._child import Child
from process.asyncio._protocol import ChildProtocol
from process.core.constants import PIPE
from process.core.types import File

#: Seconds after which a loop that has not got on with a start that nobody wants is told to stop.
_A_MOMENT = 0.1

#: Turns of a loop, more than it takes to connect three pipes.
_TURNS = 30

#: Seconds after which it is looked again whether a child that the loop does not watch has ended.
_A_LOOK = 0.01


class Start:
    """A child that the loop has been asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer_size: int) -> None:
        self.loop = loop
        #: The child, once it has been handed over.
        self.child: Optional[Child] = None
        self._buffer_size = buffer_size
        self._begun = False
        self._given_up = False
        #: The loop has said that it cannot start the child.
        self._failed = False
        self._task: Optional[asyncio.Task[None]] = None

    async def wait(self, arguments: List[str], to: Redirections, stdin: Optional[File]) -> Child:
        """Ask the loop for the child, and wait for it.

        Raises:
            Exception: whatever has prevented it.
        """
        task = self._task = self.loop.create_task(self._ask(arguments, to, stdin))
        starting.add(self)
        task.add_done_callback(self._answered)
        try:
            await asyncio.wait([task])  # cancelled, this leaves the task alone
            task.result()
        finally:
            del task  # an error refers to this frame, and must not be referred to from it
        assert self.child is not None
        return self.child

    async def _ask(self, arguments: List[str], to: Redirections, stdin: Optional[File]) -> None:
        self._begun = True
        _reserve_descriptors()
        await self.loop.subprocess_exec(
            lambda: ChildProtocol(self.loop, self._buffer_size, self._arrived),
            *arguments,
            stdin=_descriptor(stdin),
            stdout=_descriptor(to.stdout),
            stderr=_descriptor(to.stderr),
            **_platform.spawn_options,
        )

    def _arrived(self, transport: asyncio.SubprocessTransport, protocol: ChildProtocol) -> None:
        """The loop hands the child over, even if it has been told to stop."""
        self.child = Child(transport, protocol)
        if self._given_up:
            self.child.drop()
        if self._failed:
            self._watch(transport)

    def _watch(self, transport: Any) -> None:
        """Tell the transport of the end of its child, as the watcher that the loop has not got.

        This uses a name that asyncio keeps to itself, for want of another. Only its loops fail in
        this way.
        """
        code = transport.get_extra_info("subprocess").poll()
        if code is None:
            self.loop.call_later(_A_LOOK, self._watch, transport)
        else:
            transport._process_exited(code)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        starting.discard(self)
        self._task = None
        if not task.cancelled():  # seen, even if nobody is there to be told
            self._failed = task.exception() is not None

    def give_up(self) -> None:
        """Nobody wants the child any more: it is dropped, now or as soon as it is there."""
        self._given_up = True
        if self._task is not None:
            # Once more, in case that an exception has struck before it was done.
            self._task.add_done_callback(self._answered)
        if self.child is not None:
            self.child.drop()
        elif self._task is not None and not self._begun:
            self._task.cancel()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_later(_A_MOMENT, self._insist)

    def _insist(self) -> None:
        """Tell the loop to stop.

        Where a whole loop is shut down asyncio's own task for the pipes is cancelled, and then the
        one who waits for it would wait for ever (gh-125502 of CPython).
        A second cancellation frees him. In any other case the child will be handed over all the
        same.
        """
        if self._task is not None:
            self._task.cancel()
            self.loop.call_later(_A_MOMENT, self._insist)

    async def over(self) -> None:
        """Wait until the child is gone, or cannot be made to; after `give_up`."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._failed:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        if self.child is not None:
            await self.child.disappear(2 * GRACE)


#: What the loops have been asked for, and have not answered.
starting: Set[Start] = set()


async def start(arguments: List[str], to: Redirections, buffer_size: int) -> Child:
    """Start a child and the transports for its streams.

    Raises:
        Exception: whatever has prevented it. Nothing is left behind.
    """
    stdin: Optional[File] = PIPE if isinstance(to.stdin, bytes) else to.stdin
    offered = offer(stdin)
    if offered is not None:
        stdin = offered.descriptor.fileno()
    started = Start(asyncio.get_running_loop(), buffer_size)
    try:
        child = await started.wait(arguments, to, stdin)
        if offered is not None:
            offered.accept(child.turnstile.flow)
        if isinstance(to.stdin, bytes):
            child.feed(to.stdin)
        return child
    except BaseException as error:
        if offered is not None:
            offered.withdraw()
        started.give_up()
        if isinstance(error, (Exception, asyncio.CancelledError)):
            await started.over()
        raise
    finally:
        if offered is not None:
            offered.descriptor.close()
        del started  # as in `Start.wait`


def _descriptor(file: Optional[File]) -> Optional[int]:
    """The descriptor of `file`, asked for before there is any pipe.

    Finding out later that a file has none, `subprocess.Popen` leaks the pipes that it has made by
    then, before Python 3.11.
    """
    return file if file is None or isinstance(file, int) else file.fileno()


def _reserve_descriptors() -> None:
    """See that there are as many descriptors left as the loop may need at once.

    Running out in the middle, `subprocess.Popen` leaks two of them before Python 3.11, and uvloop
    six. So it is better not to begin.

    Raises:
        OSError: there are too few.
    """
    ends: List[Descriptor] = []
    try:
        for _ in range(6):
            ends.extend(Descriptor.pipe())
    finally:
        for end in ends:  # by name: the frame of an error refers to them
            end.close()
