"""The part of a stream that does not fit in memory, written and read by the executor of the loop.

New bytes wait in a queue in memory. Jobs write them to an `Overflow`, and read them back when the
caller has made room. The order of the bytes is: `Inbound`, files, queue.

1. One job is under way at a time: it writes a piece, reads a piece, or closes the files. Reads come
   first, and once the files are empty the queue is handed out directly, without the files.
2. Bytes that are being written stay in the queue until the job has succeeded, and bytes that are
   being read stay counted in `Inbound.spilled` until they have been fed. Jobs belong to the stream,
   not to a task, so a cancellation cannot hit one.
3. Jobs are begun and recorded in callbacks of the loop, except the one that closes the files. A
   task only asks for that (`call_soon`), so an exception raised in a task by a signal handler finds
   no half-recorded job.
4. While the queue is long the transport is paused, which bounds memory. A job that has begun
   depends on the disk alone, but it may not begin: the executor is also the program's, whose work
   may depend on this very stream. So a job that has not begun after
   `_PATIENCE` seconds is withdrawn, and until the executor has time again the queue may become
   twice as long every `_PATIENCE` seconds: an executor that is merely late costs little memory, and
   no wait lasts for ever. While there is no executor at all (the loop shuts down, no thread can be
   started) the queue grows without limit, and every `_PATIENCE` seconds it is tried again.
5. The files are used by the thread that has claimed the job, or, if there is no job, by the loop.
   To close them, a caller first sets a flag and then tries the lock. A user of the files first
   releases the lock and then looks at the flag. So one of the two sees the other, and closes.
"""

import asyncio
import contextlib
import math
import threading
from collections import deque
from functools import partial
from itertools import islice
from typing import Deque, List, Optional

from process._spool import open_spool
from process.asyncio._monitor import LoopMonitor
from process.core._inbound import CHUNK, Inbound
from process.core._overflow import Overflow

#: Bytes that one job moves.
_PIECE = 1024 * 1024

#: Bytes in the queue above which the transport is paused, unless the executor is late.
_QUEUE = 4 * 1024 * 1024

#: Seconds that a job may wait for a thread. On a busy machine a thread may come late.
_PATIENCE = 1.0


class _Job:
    """One piece of file work, for the thread or the loop, whichever claims it first."""

    def __init__(self, writes: int = 0, reads: int = 0) -> None:
        #: How many chunks of the queue are to be written.
        self.writes = writes
        #: How many bytes are to be read.
        self.reads = reads
        #: What has been read.
        self.pieces: List[bytes] = []
        #: The executor's answer.
        self.future: Optional[asyncio.Future[None]] = None
        self._ticket = [None]

    def claim(self) -> bool:
        """Whether the caller is the first one, and so does the job. Atomic."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True


class Spool:
    """A queue of bytes, first in, first out, behind what an `Inbound` has in memory."""

    def __init__(self, monitor: LoopMonitor, inbound: Inbound) -> None:
        #: What has made bytes inaccessible, if anything has.
        self.failure: Optional[Exception] = None
        self._monitor = monitor
        self._inbound = inbound
        self._queue: Deque[bytes] = deque()
        self._queued = 0
        #: Bytes in the queue above which the transport is paused.
        self._limit: float = _QUEUE
        self._overflow = Overflow(open_spool)
        #: Bytes in the overflow.
        self._stored = 0
        #: Held while the overflow is used by a job, or closed.
        self._lock = threading.Lock()
        self._closing = False
        self._job: Optional[_Job] = None
        #: Whether the executor can be relied on.
        self._usable = True

    @property
    def congested(self) -> bool:
        """Whether so much waits to be written that no more should be read from the pipe."""
        return self._queued > self._limit

    @property
    def busy(self) -> bool:
        """Whether a job, which belongs to the stream, is under way."""
        return self._job is not None

    def append(self, chunk: bytes) -> None:
        """Add `chunk` behind everything held."""
        self._queue.append(chunk)
        self._queued += len(chunk)
        self._inbound.spilled += len(chunk)
        self.advance()

    def advance(self) -> None:
        """Begin the next job, if there is one and none is under way. Called by the loop."""
        if self._job is not None or self._closing:
            return
        if self._inbound.refill():
            if not self._stored:
                chunk = self._queue.popleft()
                self._queued -= len(chunk)
                self._deliver([chunk])
            elif self._usable:
                self._submit(_Job(reads=min(self._stored, _PIECE)))
            else:
                self._read_here()
        elif self._queue and self._usable:
            size = count = 0
            for chunk in self._queue:
                count += 1
                size += len(chunk)
                if size >= _PIECE:
                    break
            self._submit(_Job(writes=count))

    def close(self) -> None:
        """Throw away what is held, and give its space back as soon as possible."""
        self._discard()
        if self._job is None and self._stored:
            self._submit(_Job())

    def release(self) -> None:
        """`close` without the loop, which does not run. Safe in finalizers."""
        self._discard()
        if self._job is not None and self._job.claim():
            self._job = None
        self._close_files()

    def _discard(self) -> None:
        self._closing = True
        self._queue.clear()
        self._queued = self._inbound.spilled = 0

    def forget_after_fork(self) -> None:
        """In a fork: close the copies of the files. No other thread of it could use them."""
        self._closing = True
        self._overflow.close()

    # The work.

    def _submit(self, job: _Job) -> None:
        loop = self._monitor.loop
        chunks = list(islice(self._queue, job.writes))
        timer = loop.call_later(_PATIENCE, self._give_up, job)
        self._job = job
        try:
            job.future = loop.run_in_executor(None, self._work, job, chunks)
        except RuntimeError:  # the executor is shut down, or no thread can be started
            timer.cancel()
            self._refused(job)
        else:
            job.future.add_done_callback(partial(self._finished, job, timer))

    def _work(self, job: _Job, chunks: List[bytes]) -> None:
        """Do a job, in a thread of the executor, unless it has been withdrawn."""
        try:
            if job.claim():
                self._use_files(job, chunks)
        finally:
            self._keep_quiet(job)

    def _use_files(self, job: _Job, chunks: List[bytes]) -> None:
        try:
            with self._lock:
                if self._closing:
                    pass
                elif job.reads:
                    left = job.reads
                    while left > 0:
                        piece = self._overflow.take(min(left, CHUNK))
                        job.pieces.append(piece)
                        left -= len(piece)
                else:
                    self._overflow.append(b"".join(chunks))
        finally:
            if self._closing:
                self._close_files()

    def _keep_quiet(self, job: _Job) -> None:
        """Do not report to a closed loop: up to early releases of 3.12 the attempt is logged."""
        if self._monitor.loop.is_closed() and job.future is not None:
            with contextlib.suppress(RuntimeError):  # raised after the future has been cancelled
                job.future.cancel()

    def _finished(
        self, job: _Job, timer: asyncio.TimerHandle, future: "asyncio.Future[None]"
    ) -> None:
        """Record a job that has been done."""
        timer.cancel()
        error = None if future.cancelled() else future.exception()
        if job is not self._job:  # withdrawn; so the executor has time again
            self._try_again()
            return
        if self._refused(job):  # by an executor that is shut down, or broken
            return
        self._job = None
        if self._closing:
            self._stored = 0
            if len(self._overflow):  # the thread has not been told in time to close the files
                self._submit(_Job())
        elif error is not None:
            self._fail(error)
        elif job.reads:
            self._stored -= job.reads
            self._deliver(job.pieces)
            return
        else:
            size = sum(map(len, islice(self._queue, job.writes)))
            self._queued, self._stored = self._queued - size, self._stored + size
            for _ in range(job.writes):
                self._queue.popleft()
        self._changed()

    def _refused(self, job: _Job) -> bool:
        """Do without the executor for a while, if it has not begun the job, and never will."""
        refused = self._take_back(job, math.inf)
        if refused:
            self._monitor.loop.call_later(_PATIENCE, self._try_again)
        return refused

    def _give_up(self, job: _Job) -> None:
        """Do without the executor, if it has not begun the job, until it has time again."""
        if self._take_back(job, self._limit):
            self._allow_more()

    def _allow_more(self) -> None:
        """Let the queue become longer for as long as the executor has no time."""
        if not self._usable and not self._closing:
            self._limit *= 2
            self._monitor.loop.call_later(_PATIENCE, self._allow_more)
            self._changed()

    def _try_again(self) -> None:
        """Rely on the executor."""
        if not self._usable:
            self._usable = True
            self._limit = _QUEUE
            self._changed()

    def _take_back(self, job: _Job, limit: float) -> bool:
        """Do without the executor, if it has not begun the job; whether that is so."""
        if job is not self._job or not job.claim():
            return False
        self._usable = False
        self._limit = limit
        self._job = None
        if self._closing:
            self._close_files()
        self._changed()
        return True

    def _read_here(self) -> None:
        """Read a piece in the thread of the loop, for want of another one."""
        try:
            piece = self._overflow.take(CHUNK)
        except OSError as error:
            self._fail(error)
            self._changed()
        else:
            self._stored -= len(piece)
            self._deliver([piece])

    def _deliver(self, pieces: List[bytes]) -> None:
        try:
            for piece in pieces:
                self._inbound.feed(piece)
                self._inbound.spilled -= len(piece)
        except MemoryError as error:
            self._fail(error)
        self._changed()

    def _changed(self) -> None:
        self._monitor.notify()
        self._monitor.advance()

    def _close_files(self) -> None:
        """Close the files now, or leave it to the thread that uses them."""
        if self._lock.acquire(blocking=False):
            try:
                self._overflow.close()
            finally:
                self._lock.release()

    def _fail(self, error: BaseException) -> None:
        # Its traceback would keep bytes alive, and form a cycle with it.
        self.failure = error.with_traceback(None)  # type: ignore[assignment]
