"""The life of one child: started, awaited, ended, cleaned up.

`start` makes the pipes, spawns the child, and starts the threads of its streams; if anything fails,
or an exception is raised, at any point, `Child.roll_back` undoes what was done so far: the child is
ended and reaped, threads and descriptors are gone. The `Child` is made before anything else, so
there is always an object that knows what to undo.

`end` is for children that nobody will wait for: a finalizer's, and those still running when the
interpreter exits. It may run at any line of any thread, the thread of a stream that holds the
monitor's lock included. So it takes no lock, and every wait in it has a time limit: SIGTERM,
`GRACE` seconds, SIGKILL. A `Child` is in `alive` until it has been closed or ended.
"""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import time
from collections import deque
from functools import partial
from itertools import chain, repeat
from queue import SimpleQueue
from threading import get_ident
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
    Union,
)

from process import _platform
from process._descriptor import Descriptor, when_freed
from process._handover import Offer, given
from process._interpreter import losing_nothing, popen_class, run_uninterrupted
from process._polling import poll_until
from process.core._base import GRACE, SIGKILL, Redirections
from process.core._inbound import Collection, Inbound
from process.core._outbound import Outbound
from process.core.constants import PIPE
from process.core.errors import ProcessError
from process.core.types import File
from process.threads._files import RawReader, RawWriter, Reader, Writer
from process.threads._monitor import Monitor, Waiter, limited
from process.threads._reader import ReaderThread
from process.threads._sink import Sink
from process.threads._source import Source
from process.threads._thread import StreamThread
from process.threads._thread import start as start_threads
from process.threads._writer import WriterThread

if TYPE_CHECKING:
    import subprocess


class Child:
    """A child process, its streams, and the threads that move them."""

    #: Those that have not been closed or ended. Here, since a finalizer may run when the
    #: interpreter has emptied the module already.
    alive: ClassVar[Set["Child"]] = set()
    #: Those that a finalizer is in the middle of ending.
    ending: ClassVar[Set["Child"]] = set()
    #: What wakes the threads that wait for the drop of a child.
    waiting: ClassVar[Dict["Child", Callable[[], object]]] = {}
    _get_pid: ClassVar[Any] = os.getpid

    def __init__(self) -> None:
        #: Initialised when it is spawned; so it is known even if an exception is raised late.
        self.popen = _new_popen()
        self.monitor = Monitor()
        #: The ends of pipes that are closed once the child has inherited them, or has not.
        self.theirs: List[Descriptor] = []
        #: Our ends of pipes, until their threads have them.
        self.ours: List[Descriptor] = []
        #: Streams of other processes that the child is given.
        self.offers: List[Offer] = []
        self.stdin: Union[Writer, RawWriter, None] = None
        self.stdout: Union[Reader, RawReader, None] = None
        self.stderr: Union[Reader, RawReader, None] = None
        self.sink: Optional[Sink] = None
        self.sources: List[Source] = []
        #: Held by the thread that rolls back.
        self._rolling_back = _thread.allocate_lock()
        #: A fork inherits this object, but not the child.
        self.owner = os.getpid()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    @property
    def inherited(self) -> bool:
        """Whether this is a fork of the process whose child it is.

        No thread of the library runs in a fork, and its copies of the pipes are closed: there is
        nothing to wait for.
        """
        pid: int = type(self)._get_pid()
        return self.owner != pid

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended.

        A fork cannot ask, and knows what was known before.
        """
        code: Optional[int] = self.popen.returncode
        watch = self.monitor.watch
        if watch is None or self.inherited:
            return code
        code = watch.look()
        if code is not None:
            for source in self.sources:
                source.reader.notice()
        return code

    def poll(self) -> Optional[int]:
        """The exit code, if the child has ended; a caller that asks again and again is waiting."""
        code = self.look()
        lock = self.monitor.lock
        # `look` is not asked by a fork, whose lock may be held for good.
        if code is None and self.owner == type(self)._get_pid() and not lock._is_owned():
            try:  # what `with self.monitor` does, without two calls
                self.monitor.poll_all()
            finally:
                if lock._is_owned():
                    lock.release()
        return code

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until the child has ended. Return whether it has.

        Meanwhile every stream has room, so the library does not keep the child from ending.
        """
        if self.look() is None and not self._wait(timeout):
            return False
        self._release_if_over()
        return True

    def _wait(self, timeout: Optional[float]) -> bool:
        monitor = self.monitor
        deadline = None if timeout is None else time.monotonic() + timeout
        waiter = Waiter()
        with monitor:
            try:
                while self.look() is None:
                    remaining = None if deadline is None else deadline - time.monotonic()
                    if remaining is not None and remaining <= 0:
                        monitor.poll_all()  # else a loop of these would not move anything
                        return self.look() is not None
                    with monitor.lock:
                        monitor.enter(waiter)
                        watch = monitor.watch
                    if watch is not None and watch.fileno() >= 0:
                        watch.wait(limited(remaining))
                    elif watch is not None and not monitor.ended:
                        waiter.sleep(remaining)  # the thread of the watch ends it
            finally:
                with monitor.lock:
                    monitor.leave(waiter)
            monitor.process_ended()
        return True

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended, or is not ours."""
        watch = self.monitor.watch
        if watch is not None and not self.inherited:
            watch.send_signal(number)

    def accept_offers(self) -> None:
        """Take over the streams of other processes that the child was given.

        This cannot be undone, so it is the last step of a run: nothing is rolled back after it.
        Interrupted, it is done again.
        """
        for offered in self.offers:
            offered.accept(self.monitor.flow)
        self.offers = []

    def roll_back(self) -> None:
        """End what was begun, when it cannot be completed. Nothing is left behind."""
        try:
            run_uninterrupted(self._roll_back_once)
        except RuntimeError:  # a thread cannot be started
            self._roll_back()

    def _roll_back_once(self) -> None:
        """Roll back, after another thread that does it for a caller that was interrupted."""
        with self._rolling_back:
            self._roll_back()

    def _roll_back(self) -> None:
        for thread in self.threads():
            thread.stop()
        if getattr(self.popen, "pid", None) is not None and self.popen.returncode is None:
            # Not by way of the watch, which may not have been made.
            with contextlib.suppress(PermissionError):
                self.popen.kill()
            self.popen.wait()
        for offered in self.offers:  # now that nobody has them any more
            offered.descriptor.close()
            offered.withdraw()
        # First the child's ends: where reads block, that ends them.
        for descriptor in self.theirs:
            descriptor.close()
        for thread in self.threads():
            thread.join(by_polling=True)
            if not thread.alive:
                thread.end.close()
            elif thread.end.descriptor in self.ours:
                # It is still in a read or a write, and closes its pipe itself.
                self.ours.remove(thread.end.descriptor)
        for descriptor in self.ours:
            descriptor.close()
        self.alive.discard(self)
        self.monitor.release()

    @property
    def over(self) -> bool:
        """Whether it has been closed or ended, or is not ours: nothing is left to be done."""
        return self not in self.alive or self.inherited

    def drop(self) -> None:
        """The process object has been collected: end the child. Safe in finalizers."""
        if not self.over:
            for source in self.sources:
                source.closed = True  # fails pending reads
            end([self])

    def drop_elsewhere(self) -> Callable[[], object]:
        """What drops the child when it is called, in C, and leaves the work to another thread.

        If there is no thread for that, it is this thread that drops it.
        """
        present = self.waiting.get(self)
        if present is not None:
            return present
        if sys.is_finalizing():  # no other thread runs
            return self.drop
        dropped: SimpleQueue[bool] = SimpleQueue()
        drop = partial(dropped.put, True)  # may be called twice, at any point, and never fails

        def await_drop() -> None:  # pragma: no cover - tracers do not get to see this thread
            _platform.block_signals()
            if not dropped.get():  # ends when the process object is freed or closed, or at exit
                return
            try:
                self.drop()
            finally:
                self.waiting.pop(self, None)

        # In one call into C: nobody is to believe in a thread that was not started.
        begin: Iterator[Any] = chain(
            map(_thread.start_new_thread, (await_drop,), ((),)),
            map(self.waiting.setdefault, (self,), (drop,)),
        )
        try:
            (present,) = deque(begin, maxlen=1)
        except RuntimeError:
            return self.drop
        if present is not drop:  # another thread was quicker
            dropped.put(False)
        return present

    def keep(self, sources: Iterable[Source], join: bool) -> List[str]:
        """Read streams to their end and keep what comes for `output()` and `error()`.

        Returns:
            The names of those that were taken as finished though somebody holds them open.
        """
        open_ones: List[str] = []
        waiter = Waiter()
        mine = get_ident()
        collections = [
            (source, Collection(thread=mine)) for source in sources if not source.exhausted
        ]
        with self.monitor:
            try:
                wanted: List[Tuple[Source, Collection]] = []
                for source, collection in collections:
                    if source.collect(collection, waiter):
                        wanted.append((source, collection))
                    elif not source.closed and not source.handed_over:
                        open_ones.append(source.name)
                if join:
                    self.wait()
                for source, collection in wanted:
                    if not source.complete(collection, waiter):
                        open_ones.append(source.name)
            finally:
                for source, collection in collections:
                    source.abandon(collection, waiter)
        return open_ones

    def finish(self) -> List[str]:
        """Close stdin, wait, keep what is left, close; see `keep` for what is returned.

        Raises:
            ProcessError: the thread of a stream has failed.
        """
        if self.inherited:
            return []
        if sys.is_finalizing():
            self.drop()  # no thread runs that would read what is left
            return []
        self.monitor.check_entry()
        if self.stdin is not None:
            self.stdin.close_soon()
        ours = [source for source in self.sources if source.reclaim()]
        open_ones: List[str] = []
        kept = False
        while not kept:
            try:
                open_ones = self.keep(ours, join=True)
                for source in ours:
                    source.keep_rest()
                kept = True
            except ProcessError:
                # Some of a stream is lost, which is reported below: keep what the other one has.
                others = [source for source in ours if source.reader.failure is None]
                if len(others) == len(ours):
                    raise
                ours = others
            except MemoryError as error:  # it is closed all the same, and what is left is lost
                with self.monitor.lock:
                    for source in ours:
                        source.reader.fail(error)
                self.close_streams()
                self.wait()
                kept = True
        self.close_streams()
        self.alive.discard(self)
        self.monitor.release()
        for thread in self.threads():
            thread.check()
        return open_ones

    def close(self) -> List[str]:
        """`finish`, and terminate the child first."""
        if not self.inherited:
            self.monitor.check_entry()
        self.send_signal(signal.SIGTERM)
        return self.finish()

    def close_streams(self) -> None:
        """Close the streams, read nothing, wait for nothing."""
        if self.inherited:
            return
        if self.stdin is not None and self.sink is not None:
            self.stdin.close_soon()
            self.sink.writer.stop()  # what has not been sent is thrown away
            self.sink.writer.join()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self._release_if_over()

    def _release_if_over(self) -> None:
        """Let go of everything, if the child has ended and its streams are closed.

        That is so without `finish` when a block is left by an exception.
        """
        if self.sink is not None and not self.sink.writer.done:
            return
        if False not in [source.closed for source in self.sources] and self.look() is not None:
            self.alive.discard(self)
            self.monitor.release()

    def source(self, name: str) -> Source:
        """What is behind the stream of that name."""
        (source,) = [source for source in self.sources if source.name == name]
        return source

    def threads(self) -> List[StreamThread]:
        """The threads of the child's own pipes."""
        threads: List[StreamThread] = [] if self.sink is None else [self.sink.writer]
        return threads + [source.reader for source in self.sources]


def start(child: Child, arguments: List[str], to: Redirections, buffer_size: int) -> None:
    """Start a child and the threads of its streams; `Child.accept_offers` is to follow.

    Raises:
        Exception: whatever has prevented it; `Child.roll_back` is to follow.
    """

    def pipe(upstream: bool) -> "Tuple[Descriptor, int]":
        read, write = Descriptor.pipe()
        mine, other = (read, write) if upstream else (write, read)
        child.ours.append(mine)
        child.theirs.append(other)
        return mine, other.fileno()

    ends: List[Optional[Descriptor]] = [None, None, None]
    stdin, stdout, stderr = to
    files: List[Optional[File]] = [None, stdout, stderr]
    if isinstance(stdin, bytes) or _is_pipe(stdin):
        ends[0], files[0] = pipe(upstream=False)
    else:
        files[0] = given(stdin, child.offers)
    for index in (1, 2):
        if _is_pipe(files[index]):
            ends[index], files[index] = pipe(upstream=True)
        else:
            files[index] = given(files[index], child.offers)
    _popen_init(
        child.popen,
        arguments,
        stdin=files[0],
        stdout=files[1],
        stderr=files[2],
        **_platform.spawn_options,
    )
    Child.alive.add(child)
    watch = child.monitor.watch = _platform.ExitWatch(child.popen)
    watch.notify(child.monitor.process_ended)
    _attach(child, ends, stdin, buffer_size)
    for descriptor in [*child.theirs, *[offered.descriptor for offered in child.offers]]:
        descriptor.close()
    # What fits into the pipe is there at once, and may be all.
    if child.stdin is not None and isinstance(stdin, bytes):
        child.stdin.close_soon()
    threads = [thread for thread in child.threads() if not thread.begin()]
    start_threads([watch, *threads])
    child.theirs, child.ours = [], []


#: References to calls of `run` that are under way.
_calls: Dict[int, Any] = {}


def finish_after(call: object, unfinished: List[Callable[[], object]]) -> None:
    """When `call`, which only the frame of a call refers to, is freed, do what is `unfinished`.

    Each is done in a thread of its own, where no handler runs.
    """
    number = id(call)
    steps: Iterator[Any] = chain(
        map(_thread.start_new_thread, unfinished, repeat(())),
        map(_calls.pop, (number,), (None,)),
    )
    _calls[number] = when_freed(call, steps)


class _Popen(_platform.Reaper, popen_class()):  # type: ignore[misc] # it is found out late
    # That of `Popen` polls children it does not wait for, which are ended or awaited here. It is
    # replaced by a call into C: no signal handler, whose exception would be lost, can run there.
    __del__: Any = bool

    def _execute_child(self, *arguments: Any) -> None:
        base: Any = super()
        losing_nothing(base._execute_child)(*arguments)


_Popen.__name__ = _Popen.__qualname__ = "Popen"  # which is what its `repr` says
_popen_init: Any = _Popen.__init__


def _new_popen() -> "subprocess.Popen[bytes]":
    make: Any = _Popen.__new__
    popen: subprocess.Popen[bytes] = make(_Popen)
    return popen


def _is_pipe(file: object) -> bool:
    return isinstance(file, int) and file == PIPE


def _attach(
    child: Child,
    ends: List[Optional[Descriptor]],
    stdin: Union[bytes, File, None],
    buffer_size: int,
) -> None:
    """Make the stream objects and their threads."""
    popen, monitor = child.popen, child.monitor
    if ends[0] is not None:
        end = _platform.PipeEnd(ends[0], writing=True)
        writer = WriterThread(monitor, end, f"process-{popen.pid}-stdin", Outbound())
        child.sink = Sink(monitor, writer)
        sink = child.sink
        child.stdin = Writer(sink, buffer_size) if buffer_size else RawWriter(sink)
        if isinstance(stdin, bytes):
            writer.outbound.put(stdin)
        else:
            popen.stdin = child.stdin
    for index, name in ((1, "stdout"), (2, "stderr")):
        descriptor = ends[index]
        if descriptor is not None:
            end = _platform.PipeEnd(descriptor, writing=False)
            inbound = Inbound(monitor.flow)
            reader = ReaderThread(monitor, end, f"process-{popen.pid}-{name}", inbound)
            source = Source(monitor, reader, name)
            child.sources.append(source)
            stream = Reader(source, buffer_size) if buffer_size else RawReader(source)
            setattr(child, name, stream)
            setattr(popen, name, stream)


def end(children: List[Child]) -> None:
    """End children that nobody will wait for, and give back all that was theirs.

    Takes no lock and blocks for a bounded time: safe in a finalizer.
    """
    mine = [child for child in children if not child.over]
    for child in mine:
        Child.ending.add(child)
        Child.alive.discard(child)
        if child.sink is not None:
            child.sink.writer.stop()
        for source in child.sources:
            source.discard()
        if child.look() is None:
            with contextlib.suppress(PermissionError):  # it has become somebody else's
                child.send_signal(signal.SIGTERM)
    _await_all(mine)
    for child in mine:
        if child.look() is None:
            with contextlib.suppress(PermissionError):
                child.send_signal(SIGKILL)
    _await_all(mine)
    for child in mine:
        threads = [thread for thread in child.threads() if not thread.serves_others]
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(GRACE, by_polling=True)
        for source in child.sources:
            source.release()
        child.monitor.release()
        Child.ending.discard(child)


def _await_all(children: List[Child]) -> None:
    """Wait for the end of all, for `GRACE` seconds; what they still write is thrown away."""
    deadline = time.monotonic() + GRACE
    for child in children:
        watch = child.monitor.watch
        if watch is not None and child.look() is None:
            watch.wait(max(0.0, deadline - time.monotonic()))


def end_all() -> None:
    """End every child that is still there: the interpreter exits.

    Another thread may be in the middle of that, and would not get to the end of it. And a thread
    that waits for a drop must not be woken by one that comes when the interpreter is half gone.
    """
    end(list(Child.alive))
    for wake in list(Child.waiting.values()):
        wake()
    poll_until(lambda: not Child.ending and not Child.waiting, 3 * GRACE)


atexit.register(end_all)


def _renew_after_fork() -> None:
    """The locks of a fork's inherited children may be held, by threads that were not forked."""
    for child in list(Child.alive):
        child.monitor.inherit()
    Child.waiting.clear()  # their threads were not forked
    Child.ending.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
