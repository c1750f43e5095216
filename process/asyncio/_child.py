"""The life of one child of an asyncio process: awaited, ended, cleaned up.

1. The child belongs to its loop: the loop reaps it and closes its pipes. `finish` returns once all
   pipes, and the files of what has overflowed, are closed.
2. A child that is dropped while its loop runs is left to the loop: SIGTERM at once, SIGKILL after a
   grace period, the pipes closed. If it stops before that, and for good, the child is an orphan.
3. A child that still exists when its loop shuts down is ended by `_shutdown`.
4. A child whose loop is closed, or does not run, cannot be left to it: see `_orphans`.
"""

import asyncio
import contextlib
import io
import os
import signal
import weakref
from functools import partial
from typing import TYPE_CHECKING, Callable, ClassVar, Iterable, List, Optional, Set, Tuple

from process import _platform
from process.asyncio import _orphans as orphans
from process.asyncio._protocol import ChildProtocol
from process.asyncio._reader import Reader
from process.core._base import GRACE, SIGKILL
from process.core._flow import Wait
from process.core._inbound import Collection

if TYPE_CHECKING:
    from process.asyncio._writer import Writer


class Child:
    """A child process that has been started, and its streams."""

    #: The children of this very process that have not been closed or ended. A fork has none. They
    #: are an attribute of the class because a finalizer may run after the interpreter has emptied
    #: the module.
    alive: ClassVar[Set["Child"]] = set()

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: ChildProtocol) -> None:
        self.transport = transport
        self.protocol = protocol
        self.monitor = protocol.monitor
        self.process = asyncio.subprocess.Process(transport, protocol, self.monitor.loop)
        self.stdin: Optional[Writer] = protocol.stdin
        self.stdout: Optional[Reader] = protocol.stdout
        self.stderr: Optional[Reader] = protocol.stderr
        #: The exit code, once it has been seen. After the child has been reaped, and before the
        #: loop has been told, nothing else knows it.
        self._code: Optional[int] = None
        #: The result of `finish`, which may be cancelled before it can return it.
        self._held_open: List[str] = []
        self.alive.add(self)
        orphans.forget(self.pid)

    def feed(self, data: bytes) -> None:
        """Feed `data` to stdin, without waiting for it."""
        assert self.stdin is not None
        self.process.stdin = None  # it is not the caller's
        self.stdin.write(data)
        self.stdin.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def readers(self) -> List[Reader]:
        """The output streams that are pipes."""
        return [stream for stream in (self.stdout, self.stderr) if stream is not None]

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended, whether the loop has noticed or not."""
        if self._code is None:
            self._code = self.transport.get_returncode()
            if self._code is None:
                with contextlib.suppress(ChildProcessError):  # reaped; the loop will be told
                    self._code = _platform.exit_code(self.transport.get_pid())
        return self._code

    def poll(self) -> Optional[int]:
        """The exit code; a caller that asks again and again is waiting."""
        code = self.look()
        if code is None:
            self.monitor.poll_all()
        return code

    async def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until the child has ended. Return whether it has.

        When the time is over the child is looked at once more, as in a poll. Then this and the exit
        code do not contradict each other, and a loop of calls with a timeout of 0 ends.
        """
        reached = await self._wait_until(lambda: self.protocol.exited, timeout)
        return reached or self.poll() is not None

    async def disappear(self, timeout: Optional[float] = None) -> bool:
        """Wait until the child has ended, pipes and files closed. Return whether that is so."""

        def gone() -> bool:
            return self.protocol.gone and True not in [each.spool.busy for each in self.readers]

        return await self._wait_until(gone, timeout)

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

    async def keep(self, streams: Iterable[Reader], join: bool) -> List[str]:
        """Read streams to their end and keep what comes for `output()` and `error()`.

        Returns:
            The names of those that were taken as finished though another process holds them open.
        """
        open_ones: List[str] = []
        wait = Wait()
        # There is nothing to come on the others.
        collections = [(stream, Collection()) for stream in streams if not stream.at_eof()]
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
        first = False
        if self in self.alive:
            if self.stdin is not None:
                self.stdin.close()
            try:
                self._held_open += await self.keep(self.readers, join=True)
            except MemoryError as error:  # it is closed all the same, and what is left is lost
                for stream in self.readers:
                    stream.lose(error)
                await self.wait()
            self.close_streams()
            self.transport.close()
            await self.disappear()
            first = self in self.alive  # of several calls one says what is held open
            self.alive.discard(self)
        for stream in self.readers:
            stream.check()
        return sorted(set(self._held_open)) if first else []

    def close_streams(self) -> None:
        """Close the streams, read nothing, wait for nothing."""
        if self.monitor.loop.is_closed():
            return  # a task that nobody runs any more leaves its block: see `_orphans`
        if self.stdin is not None:
            self.stdin.abort()
        for stream in self.readers:
            stream.close()

    def drop(self) -> None:
        """The process object has been collected: end the child. Safe in finalizers, in any thread.

        A loop that runs does it. Otherwise it is done here, in a bounded time.
        """
        if self not in self.alive:
            return
        loop = self.monitor.loop
        if loop.is_running():
            with contextlib.suppress(RuntimeError):  # it has just been closed
                loop.call_soon_threadsafe(_Last(self, self._end))
                return
        if self in self.alive:  # else the callback, which was freed, has done it
            end_orphans([self])

    def _end(self) -> None:
        """End the child, in the loop."""
        self.close_streams()
        self._try(signal.SIGTERM)
        if self.protocol.gone:
            self.alive.discard(self)
        else:  # the protocol closes the transport once the child has ended
            kill = _Last(self, partial(self._try, SIGKILL))
            timer = self.monitor.loop.call_later(GRACE, kill)
            # Weak: the timer is the loop's, which frees it when it is closed.
            self.protocol.when_gone = partial(self._is_over, weakref.ref(timer))

    def _is_over(self, reference: "weakref.ref[asyncio.TimerHandle]") -> None:
        self.alive.discard(self)
        timer = reference()
        if timer is not None:
            timer.cancel()

    def _try(self, number: int) -> None:
        """Send a signal to a child that may have taken rights which forbid it."""
        with contextlib.suppress(PermissionError):
            self.send_signal(number)

    async def end(self) -> None:
        """End the child, because the loop shuts down, and wait a bounded time until it is gone."""
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


class _Last:
    """A callback by which a loop ends a dropped child, or which does so when it is freed.

    A loop may stop before it gets to a callback, and be closed without running again. Then it frees
    the callback, and the child is an orphan.
    """

    __slots__ = ("_callback", "_child")

    def __init__(self, child: Child, callback: Callable[[], None]) -> None:
        self._child = child
        self._callback: Optional[Callable[[], None]] = callback

    def __call__(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def __del__(self) -> None:
        child = self._child
        if self._callback is not None and child in child.alive:
            end_orphans([child])


def end_orphans(children: List[Child]) -> None:
    """End children that are not left to their loop."""
    Child.alive.difference_update(children)
    for child in children:
        if not child.monitor.loop.is_running():
            for stream in child.readers:
                stream.spool.release()
    orphans.end([orphans.Orphan(child.transport, child.monitor.loop) for child in children])


def _forget_after_fork() -> None:
    """Let go of the children in a fork: it has none of them, and holds none of their pipes open.

    The pipes are the loop's, so they are closed behind its back: a copy that stays open would keep
    end of file from the reader of the other end. But the loop's own objects will close the same
    numbers once more, and by then they must not be those of files of the fork's. So each number
    stays taken, by the null device.
    """
    children = list(Child.alive)
    Child.alive.clear()
    if not children:
        return
    # With no descriptor left for it the pipes stay as they are: the fork has more urgent troubles.
    with contextlib.suppress(OSError), io.FileIO(os.devnull, "r+") as null:
        for child in children:
            for number in range(3):
                pipe = child.transport.get_pipe_transport(number)
                if pipe is None:
                    continue
                with contextlib.suppress(Exception):  # closed already, which does not matter here
                    # asyncio tells of a pipe, uvloop of a socket.
                    file = pipe.get_extra_info("pipe") or pipe.get_extra_info("socket")
                    os.dup2(null.fileno(), file.fileno(), inheritable=False)
    for child in children:
        for stream in child.readers:
            stream.spool.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
