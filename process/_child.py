"""The life of one child: started, awaited, ended, cleaned up.

Theory of operation. `start` makes the pipes, spawns the child, and starts the pumps; if anything
fails, or an exception strikes, at any point, `Child.take_back` undoes what was done so far: the
child is ended and reaped, pumps and descriptors are gone. Whoever starts a child has made the
object before, and so has it in hand whatever happens.

`end` is the way out for children that nobody will wait for: a finalizer's, and those still running
when the interpreter exits. It may run at any line of any thread, a pump of the same child that
holds the plumbing's lock included. So it takes no lock, and every wait in it has a time limit:
SIGTERM, `GRACE` seconds, SIGKILL. A `Child` is in `alive` until it has been closed or ended.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import time
from threading import get_ident
from typing import Any, ClassVar, Iterable, List, NamedTuple, Optional, Set, Tuple, Union

from process import _platform
from process._descriptor import Descriptor
from process._files import RawReader, RawWriter, Reader, Writer, lendable
from process._plumbing import Plumbing
from process._pump import Pump, ReaderPump, WriterPump
from process._sink import Sink
from process._source import Source
from process.core._flow import Wait
from process.core._inbound import Collection, Inbound
from process.core._outbound import Outbound
from process.core.constants import PIPE
from process.core.types import File

#: Seconds that a child has between SIGTERM and SIGKILL when nobody waits for it.
GRACE = 1.0


#: Windows has no SIGKILL; there SIGTERM means `TerminateProcess`, which is as final.
SIGKILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


class Redirections(NamedTuple):
    """Where the child's streams go."""

    stdin: Union[bytes, File, None]
    stdout: Optional[File]
    stderr: Optional[File]


class Child:
    """A child process, its streams, and what moves them."""

    #: Those that have not been closed or ended. Here, since a finalizer may come when the
    #: interpreter has emptied the module already.
    alive: ClassVar[Set["Child"]] = set()

    def __init__(self) -> None:
        #: Initialised when it is spawned; so it is known even if an exception strikes late.
        self.popen = _new_popen()
        self.plumbing = Plumbing()
        #: The pipes that were made for it, both ends.
        self.descriptors: List[Descriptor] = []
        #: The stream of another process that is its stdin.
        self.borrowed: Optional[Source] = None
        self.stdin: Union[Writer, RawWriter, None] = None
        self.stdout: Union[Reader, RawReader, None] = None
        self.stderr: Union[Reader, RawReader, None] = None
        #: A fork inherits this object, but not the child.
        self.owner = os.getpid()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended.

        A fork cannot ask, and knows what was known before.
        """
        return self.popen.returncode if self.inherited else self.popen.poll()

    @property
    def inherited(self) -> bool:
        """Whether this is a fork of the process whose child it is.

        There are no pumps in a fork, and its copies of the pipes are closed: nothing is to be
        waited for.
        """
        return self.owner != os.getpid()

    def poll(self) -> Optional[int]:
        """The exit code, if the child has ended; a caller who asks again and again is waiting."""
        code = self.look()
        if code is None and not self.inherited:
            self.plumbing.poll()
        return code

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until the child has ended; whether it has."""
        if self.look() is None and not self.plumbing.wait_exit(self.popen, timeout):
            return False
        self._let_go_if_over()
        return True

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended, or is not ours."""
        if self.inherited:
            return
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def terminate(self) -> None:
        """Ask the child to end, unless it has."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Make the child end, unless it has."""
        self.send_signal(SIGKILL)

    def take_back(self) -> None:
        """End what was begun, when it cannot be completed. Nothing is left behind."""
        if self.borrowed is not None:
            self.borrowed.lent = False
        for pump in self.pumps():
            pump.stop()
        if getattr(self.popen, "pid", None) is not None and self.popen.returncode is None:
            self.kill()
            self.popen.wait()
        for pump in self.pumps():
            pump.join()
        for descriptor in self.descriptors:
            descriptor.close()
        self.alive.discard(self)
        self.plumbing.release()

    def drop(self) -> None:
        """The process object is gone: end the child. Safe in finalizers."""
        if self in self.alive and not self.inherited:
            for stream in (self.stdout, self.stderr):
                if stream is not None:
                    stream.source.drop()
            end([self])

    def keep(self, streams: Iterable[Union[Reader, RawReader, None]], join: bool) -> List[str]:
        """Read streams to their end and keep what comes for `output()` and `error()`.

        Returns:
            The names of those that were taken as finished though somebody holds them open.
        """
        open_ones: List[str] = []
        wait = Wait()
        mine = get_ident()
        collections = [
            (stream.source, Collection(thread=mine))
            for stream in streams
            if stream is not None and not stream.source.exhausted
        ]
        try:
            wanted: List[Tuple[Source, Collection]] = []
            for source, collection in collections:
                if source.collect(collection, wait):
                    wanted.append((source, collection))
                elif not source.closed:
                    open_ones.append(source.name)
            if join:
                self.wait()
            for source, collection in wanted:
                if not source.complete(collection, wait):
                    open_ones.append(source.name)
        finally:
            for source, collection in collections:
                source.abandon(collection, wait)
        return open_ones

    def finish(self) -> List[str]:
        """Close stdin, wait, keep what is left, close; see `keep` for what is returned.

        Raises:
            ProcessError: a pump has failed.
        """
        if self.inherited:
            return []
        self.plumbing.check_entry()
        if self.stdin is not None:
            self.stdin.close_soon()
        for stream in (self.stdout, self.stderr):
            if stream is not None and stream.source.lent:
                stream.close()
        open_ones: List[str] = []
        try:
            open_ones = self.keep((self.stdout, self.stderr), join=True)
        except MemoryError as error:  # it is closed all the same, and what is left is lost
            for stream in (self.stdout, self.stderr):
                if stream is not None:
                    stream.source.fail(error)
            self.close_streams()
            self.wait()
        self.close_streams()
        self.alive.discard(self)
        self.plumbing.release()
        for pump in self.pumps():
            pump.check()
        return open_ones

    def close(self) -> List[str]:
        """The same, and terminate the child first."""
        if not self.inherited:
            self.plumbing.check_entry()
        self.terminate()
        return self.finish()

    def close_streams(self) -> None:
        """Close the streams, read nothing, wait for nothing."""
        if self.inherited:
            return
        if self.stdin is not None:
            self.stdin.close_soon()
            self.stdin.sink.stop()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self._let_go_if_over()

    def _let_go_if_over(self) -> None:
        """Let go of everything, if the child has ended and its streams are closed.

        That is so without `finish` when a block is left by an exception.
        """
        if self.stdin is not None and not self.stdin.sink.pump.done:
            return
        for stream in (self.stdout, self.stderr):
            if stream is not None and not stream.closed:
                return
        if self.look() is not None:
            self.alive.discard(self)
            self.plumbing.release()

    def pumps(self) -> List[Pump]:
        """The pumps of the child's own pipes."""
        pumps: List[Pump] = [] if self.stdin is None else [self.stdin.sink.pump]
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                pump = stream.source.pump
                relay = pump.relay
                pumps += [pump] if relay is None else [pump, relay]
        return pumps


def start(child: Child, arguments: List[str], to: Redirections, buffer_size: int) -> None:
    """Start a child and the pumps for its streams.

    Raises:
        Exception: whatever has prevented it; `Child.take_back` is to follow.
    """
    theirs: List[Descriptor] = []

    def pipe(upstream: bool) -> "tuple[Descriptor, int]":
        child.descriptors.extend(Descriptor.pipe())
        read, write = child.descriptors[-2:]
        mine, other = (read, write) if upstream else (write, read)
        theirs.append(other)
        return mine, other.fileno()

    child.plumbing.open()
    ends: List[Optional[Descriptor]] = [None, None, None]
    files: List[Union[File, None]] = [None, to.stdout, to.stderr]
    if isinstance(to.stdin, bytes) or _is_pipe(to.stdin):
        ends[0], files[0] = pipe(upstream=False)
    else:
        files[0] = to.stdin
    borrowed = lendable(files[0])
    if borrowed is not None:
        if not borrowed.lent:  # else somebody else has borrowed it before
            child.borrowed = borrowed
        child.descriptors.append(borrowed.lend())
        theirs.append(child.descriptors[-1])
        files[0] = theirs[-1].fileno()
    for index in (1, 2):
        if _is_pipe(files[index]):
            ends[index], files[index] = pipe(upstream=True)
    subprocess.Popen.__init__(
        child.popen,
        arguments,
        stdin=files[0],
        stdout=files[1],
        stderr=files[2],
        **_platform.spawn_options,
    )
    Child.alive.add(child)
    child.plumbing.watch_exit(child.popen)
    _attach(child, ends, to.stdin, buffer_size)
    for pump in child.pumps():
        pump.start()
    for descriptor in theirs:
        descriptor.close()


def _new_popen() -> subprocess.Popen[bytes]:
    make: Any = subprocess.Popen.__new__
    popen: subprocess.Popen[bytes] = make(subprocess.Popen)
    return popen


def _is_pipe(file: object) -> bool:
    return isinstance(file, int) and file == PIPE


def _attach(
    child: Child,
    ends: List[Optional[Descriptor]],
    stdin: Union[bytes, File, None],
    buffer_size: int,
) -> None:
    """Make the stream objects and their pumps."""
    popen, plumbing = child.popen, child.plumbing
    if ends[0] is not None:
        port = plumbing.port(ends[0], writing=True)
        pump = WriterPump(plumbing, port, f"process-{popen.pid}-stdin", Outbound())
        raw = RawWriter(Sink(plumbing, pump))
        child.stdin = Writer(raw, buffer_size) if buffer_size else raw
        if isinstance(stdin, bytes):
            pump.outbound.put(stdin)
            child.stdin.close_soon()
        else:
            popen.stdin = child.stdin
    for index, name in ((1, "stdout"), (2, "stderr")):
        end = ends[index]
        if end is not None:
            port = plumbing.port(end, writing=False)
            inbound = Inbound(plumbing.flow)
            reader = ReaderPump(plumbing, port, f"process-{popen.pid}-{name}", inbound)
            raw_reader = RawReader(Source(plumbing, reader, name))
            stream = Reader(raw_reader, buffer_size) if buffer_size else raw_reader
            setattr(child, name, stream)
            setattr(popen, name, stream)


def end(children: List[Child]) -> None:
    """End children that nobody will wait for, and give back all that was theirs.

    Takes no lock and blocks for a bounded time: safe in a finalizer.
    """
    mine = [child for child in children if not child.inherited and child in Child.alive]
    for child in mine:
        Child.alive.discard(child)
        if child.stdin is not None:
            child.stdin.sink.pump.stop()
            child.stdin.sink.pump.join(0)
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.source.discard()
        if child.popen.poll() is None:
            with contextlib.suppress(PermissionError):  # it has become somebody else's
                child.terminate()
    _await_all(mine)
    for child in mine:
        if child.popen.returncode is None:
            with contextlib.suppress(PermissionError):
                child.kill()
    _await_all(mine)
    for child in mine:
        for pump in child.pumps():
            pump.stop()
        for pump in child.pumps():
            pump.join(GRACE)
        child.plumbing.release()


def _await_all(children: List[Child]) -> None:
    """Wait for the end of all, for `GRACE` seconds; what they still write is thrown away."""
    deadline = time.monotonic() + GRACE
    over: Set[_platform.Port] = set()
    while True:
        left = [child.plumbing for child in children if child.popen.poll() is None]
        remaining = deadline - time.monotonic()
        if not left or remaining <= 0:
            return
        watches = [plumbing.watch for plumbing in left]
        ports = [port for plumbing in left for port in plumbing.drainable() if port not in over]
        running = [watch for watch in watches if watch is not None]
        over |= _platform.await_ends(running, ports, remaining)


def end_all() -> None:
    """End every child that is still there: the interpreter exits."""
    end(list(Child.alive))


atexit.register(end_all)


def _renew_after_fork() -> None:
    """The locks of a fork's inherited children may be held, by threads that were not forked."""
    for child in list(Child.alive):
        child.plumbing.inherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
