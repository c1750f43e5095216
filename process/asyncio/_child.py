"""The life of one child of an asyncio process: awaited, ended, cleaned up.

Theory of operation. The child belongs to its loop: the loop reaps it and closes its pipes. `finish`
returns when every pipe is closed.

A child that is dropped while its loop runs is left to the loop: SIGTERM at once, SIGKILL after a
grace period, the pipes closed. One that is still there when its loop shuts down is ended by its
`_shutdown`. A child whose loop is closed, or does not run, cannot be left to it: see `_orphans`.
"""

import asyncio
import contextlib
import io
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Callable, ClassVar, Iterable, List, Optional, Set, Tuple

from process import _platform
from process._child import GRACE, SIGKILL
from process.asyncio import _orphans as orphans
from process.asyncio._protocol import ChildProtocol
from process.asyncio._reader import Reader
from process.core._flow import Wait
from process.core._inbound import Collection

if TYPE_CHECKING:
    from process.asyncio._writer import Writer


class Child:
    """A child process that has been started, and its streams."""

    #: The children of this very process that have not been closed or ended. A fork has none. Here,
    #: since a finalizer may come when the interpreter has emptied the module already.
    alive: ClassVar[Set["Child"]] = set()

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: ChildProtocol) -> None:
        self.transport = transport
        self.protocol = protocol
        self.monitor = protocol.monitor
        self.process = asyncio.subprocess.Process(transport, protocol, self.monitor.loop)
        self.stdin: Optional[Writer] = protocol.stdin
        self.stdout: Optional[Reader] = protocol.stdout
        self.stderr: Optional[Reader] = protocol.stderr
        #: The exit code, once it has been seen: between the one who reaps the child and the loop
        #: that is told of it, nobody else can say.
        self._code: Optional[int] = None
        #: What `finish` has to tell; it may be cancelled before it can.
        self._held_open: List[str] = []
        self.alive.add(self)
        orphans.forget(self.pid)

    def feed(self, data: bytes) -> None:
        """Feed `data` to stdin, without waiting for it."""
        assert self.stdin is not None
        self.process.stdin = None  # spoken for
        self.stdin.write(data)
        self.stdin.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended, whether the loop has noticed or not."""
        if self._code is None:
            self._code = self.transport.get_returncode()
            if self._code is None:
                with contextlib.suppress(ChildProcessError):  # reaped; the loop will be told
                    self._code = _platform.exit_code(self.transport.get_pid())
        return self._code

    def poll(self) -> Optional[int]:
        """The exit code; a caller who asks again and again is waiting."""
        code = self.look()
        if code is None:
            self.monitor.flow.poll()
            for stream in (self.stdout, self.stderr):
                if stream is not None:
                    stream.polled()
            self.monitor.advance()
        return code

    async def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until the child has ended; whether it has.

        When the time is over it is looked once more, as by a caller who polls: then this and the
        exit code do not contradict each other, and a loop of calls without any time ends.
        """
        reached = await self._wait_until(lambda: self.protocol.exited, timeout)
        return reached or self.poll() is not None

    async def disappear(self, timeout: Optional[float] = None) -> bool:
        """Wait until the child has ended and its pipes are closed; whether that is so."""
        return await self._wait_until(lambda: self.protocol.gone, timeout)

    async def _wait_until(self, reached: Callable[[], bool], timeout: Optional[float]) -> bool:
        loop = self.monitor.loop
        deadline = None if timeout is None else loop.time() + timeout
        waited = False
        while not reached():
            remaining = None if deadline is None else max(0.0, deadline - loop.time())
            if remaining == 0 and waited:
                return False
            await self.monitor.changed(remaining)  # the loop has a turn, whatever the time
            waited = True
        return True

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended, or is not ours."""
        if self in self.alive and self.look() is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                _platform.send_signal(self.transport, number)

    def terminate(self) -> None:
        """Ask the child to end, unless it has."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Make the child end, unless it has."""
        self.send_signal(SIGKILL)

    async def keep(self, streams: Iterable[Optional[Reader]], join: bool) -> List[str]:
        """Read streams to their end and keep what comes for `output()` and `error()`.

        Returns:
            The names of those that were taken as finished though somebody holds them open.
        """
        open_ones: List[str] = []
        wait = Wait()
        collections = [(stream, Collection()) for stream in streams if stream is not None]
        try:
            wanted: List[Tuple[Reader, Collection]] = []
            for stream, collection in collections:
                if await stream.collect(collection, wait):
                    wanted.append((stream, collection))
                elif not stream.inbound.closed:
                    open_ones.append(stream.name)  # another task reads it to end of file
            if join:
                await self.wait()
            for stream, collection in wanted:
                if not await stream.complete(collection):
                    open_ones.append(stream.name)
        finally:
            for stream, collection in collections:
                stream.abandon(collection)
        return open_ones

    async def finish(self) -> List[str]:
        """Close stdin, wait, keep what is left, close; see `keep` for what is returned.

        Raises:
            ProcessError: a stream has lost bytes.
        """
        told = self not in self.alive
        if not told:
            if self.stdin is not None:
                self.stdin.close()
            self._held_open += await self.keep((self.stdout, self.stderr), join=True)
            self.close_streams()
            self.transport.close()
            await self.disappear()
            self.alive.discard(self)
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.check()
        return [] if told else self._held_open

    def close_streams(self) -> None:
        """Close the streams, read nothing, wait for nothing."""
        if self.monitor.loop.is_closed():
            return  # the block of a task that nobody runs any more is left: see `_orphans`
        if self.stdin is not None:
            self.stdin.abort()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def drop(self) -> None:
        """Nobody refers to the process any more. Safe in finalizers, in any thread."""
        if self not in self.alive:
            return
        loop = self.monitor.loop
        if loop.is_running():
            with contextlib.suppress(RuntimeError):  # closed in this very moment
                loop.call_soon_threadsafe(self._end)
                return
        end_orphans([self])

    def _end(self) -> None:
        """End the child, in the loop."""
        self.close_streams()
        self._try(signal.SIGTERM)
        if self.protocol.gone:
            self.alive.discard(self)
        else:  # the protocol closes the transport once the child has ended
            timer = self.monitor.loop.call_later(GRACE, self._try, SIGKILL)
            self.protocol.when_gone = partial(self._is_over, timer)

    def _is_over(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self.alive.discard(self)

    def _try(self, number: int) -> None:
        """Send a signal to a child that may have taken rights which forbid it."""
        with contextlib.suppress(PermissionError):
            self.send_signal(number)

    async def end(self) -> None:
        """End the child and wait until it is gone, or cannot be made to: the loop shuts down."""
        self.close_streams()
        self._try(signal.SIGTERM)
        if not await self.wait(GRACE):
            self._try(SIGKILL)
            await self.wait(GRACE)
        with contextlib.suppress(PermissionError):
            self.transport.close()
        if self.protocol.exited:
            await self.disappear()
        self.alive.discard(self)


def end_orphans(children: List[Child]) -> None:
    """End children that are not left to their loop."""
    Child.alive.difference_update(children)
    orphans.end([orphans.Orphan(child.transport, child.monitor.loop) for child in children])


def _forget_after_fork() -> None:
    """A fork has none of the children, and holds none of their pipes open.

    The pipes are the loop's, so they are closed behind its back: a copy that stays open would keep
    end of file from whoever reads the other end. But the loop's own objects will close the same
    numbers once more, and by then they must not be those of files of the fork's. So each number
    stays taken, by the null device.
    """
    transports = [child.transport for child in list(Child.alive)]
    Child.alive.clear()
    if not transports:
        return
    # With no descriptor left for it the pipes stay as they are: the fork has more urgent troubles.
    with contextlib.suppress(OSError), io.FileIO(os.devnull, "r+") as null:
        for transport in transports:
            for number in range(3):
                pipe = transport.get_pipe_transport(number)
                if pipe is None:
                    continue
                with contextlib.suppress(Exception):  # closed already; in a fork not worth a word
                    # asyncio tells of a pipe, uvloop of a socket.
                    file = pipe.get_extra_info("pipe") or pipe.get_extra_info("socket")
                    os.dup2(null.fileno(), file.fileno(), inheritable=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
