"""The child's stdin, as callers see it.

A caller hands its bytes over, whole, and then waits until no more than the bound is left of them.
While it waits the child's output has room, so a child that answers before it has read everything
can go on reading. An interrupted caller may return early, but everything it has handed over is on
its way, once.
"""

import errno
import os
from typing import TYPE_CHECKING, Any, Callable

from process._descriptor import Descriptor
from process._handover import Offer
from process.core._buffer import Chunk
from process.threads._monitor import Monitor, Waiter
from process.threads._writer import WriterThread

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Sink:
    """The stdin of the child, for any number of callers."""

    def __init__(self, monitor: Monitor, writer: WriterThread) -> None:
        self.writer = writer
        self.outbound = writer.outbound
        self._monitor = monitor

    def write(self, chunk: Chunk, buffer_size: int) -> None:
        """Hand `chunk` over, and wait until there is room again.

        Args:
            chunk: must not change from now on.
            buffer_size: below this many bytes nothing need be sent before the next flush.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
        """
        outbound, writer = self.outbound, self.writer
        with self._monitor:
            with self._monitor.lock:
                if outbound.closing or outbound.broken or writer.failure is not None:
                    self._check()
                if isinstance(chunk, bytes) and len(chunk) < buffer_size:
                    if outbound.tail is not None:
                        outbound.tail += chunk
                    elif chunk:
                        outbound.open_tail(chunk)
                else:
                    outbound.put(chunk)
                if len(outbound) < buffer_size and not self._monitor.flow.busy:
                    return
                done = writer.write_directly()
                self._check_broken()
                if done:
                    return
                writer.pass_on()
                # What nobody will read is not on its way, but will come to nothing at once.
                broken = writer.end.broken()
                if not broken and not outbound.full:
                    return
            self._wait(lambda: not broken and not outbound.full)

    def push(self) -> None:
        """Send what small writes have left, as `write` does.

        Not in the middle of a locked section, which only a signal handler can have interrupted: to
        refuse its bytes it is too late, and a later call sends them.
        """
        if not self._monitor.lock._is_owned():
            self.write(b"", 0)

    def flush(self) -> None:
        """Wait until everything is in the child's pipe.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
        """
        outbound, monitor = self.outbound, self._monitor
        lock = monitor.lock
        if monitor.inherited or lock._is_owned():
            monitor.check_entry()
        try:  # what `with monitor` does, without two calls
            with lock:
                if outbound.closing or outbound.broken or self.writer.failure is not None:
                    self._check("flush of closed file")
                if self.writer.write_directly():
                    if outbound.broken:
                        self._check_broken()
                    if not monitor.flow.busy:
                        outbound.open_tail(b"")  # for the next small write
                    return
            self._wait(lambda: not outbound.buffer)
        finally:
            if lock._is_owned():
                lock.release()

    def write_through(self, data: "Buffer", /) -> int:
        """Wait until everything, and behind it `data`, is in the child's pipe.

        Returns:
            The number of bytes of `data`.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
        """
        chunk = data if type(data) is bytes else contiguous(data)
        outbound, writer, monitor = self.outbound, self.writer, self._monitor
        lock = monitor.lock
        if monitor.inherited or lock._is_owned():
            monitor.check_entry()
        try:  # as in `flush`
            with lock:
                if outbound.closing or outbound.broken or writer.failure is not None:
                    self._check()
                end = writer.end
                if (
                    0 < len(chunk) <= end.atomic
                    and not outbound.buffer
                    and writer.claimable
                    and end.can_write_directly()
                ):
                    # Past the queue. An exception comes before the write or after it, and there is
                    # nothing to be recorded, as a pipe takes so little wholly or not at all.
                    try:
                        return os.write(end.descriptor.fileno(), chunk)
                    except BlockingIOError:
                        pass
                    except OSError:  # EPIPE
                        writer.break_off()
                outbound.put(chunk)
                done = writer.write_directly()
                if outbound.broken:
                    self._check_broken()
                if done:
                    return len(chunk)
            self._wait(lambda: not outbound.buffer)
            return len(chunk)
        finally:
            if lock._is_owned():
                lock.release()

    def close_soon(self) -> None:
        """Close the stream once everything is sent, without waiting for that."""
        with self._monitor, self._monitor.lock:
            self.outbound.close()
            self.writer.write_directly()
            self.writer.look()

    def close(self) -> None:
        """Wait until everything is sent and the pipe is closed. Closing twice is harmless.

        A child that has closed its end before is no error here.
        """
        with self._monitor:
            self.close_soon()
            self._wait(lambda: False, check=False)
            self.writer.join()

    def offer(self) -> Offer:
        """Offer the pipe to a process that is about to be started; see `_handover`.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
            OSError: there is no descriptor left.
        """
        self.fileno()
        with self._monitor, self._monitor.lock:
            self._check()
            copy = Descriptor.own(os.dup, self.writer.end.share())
            return Offer(copy, self._monitor.flow)

    def fileno(self) -> int:
        """The child's pipe. What was written before and not flushed may go in later.

        Raises:
            BrokenPipeError: the child has closed its end.
            ValueError: the stream is closed.
        """
        writer = self.writer
        with self._monitor:
            waiter = Waiter()
            while True:
                with self._monitor.lock:
                    self._check()
                    self.outbound.tail = None
                    if not writer.writing or not writer.end.pollable:
                        self._monitor.leave(waiter)
                        return writer.end.share()
                    self._monitor.enter(waiter, lambda: not writer.writing)
                waiter.sleep()

    def _wait(self, reached: Callable[[], bool], check: bool = True) -> None:
        """Wait until `reached()`, or until the child closes its end or the thread ends.

        Where the pipe is free the caller waits for it, and writes to it, itself.
        """
        monitor, writer, outbound = self._monitor, self.writer, self.outbound
        waiter = Waiter()

        def over() -> bool:
            return reached() or outbound.broken or writer.done

        try:
            while True:
                with monitor.lock:
                    writer.write_directly()
                    if over():
                        if check:
                            self._check_broken()
                        return
                    polls = (
                        len(outbound) > 0
                        and writer.end.can_write_directly()
                        and writer.claim(waiter)
                    )
                    if not polls:
                        writer.release(waiter)
                        if outbound.finished:
                            writer.look()
                    monitor.enter(waiter, over)
                if polls:
                    writer.poll(waiter)
                else:
                    waiter.sleep()
        finally:
            with monitor.lock:
                monitor.leave(waiter)
                writer.release(waiter)
                writer.pass_on()

    def _check(self, closed: str = "write to closed file") -> None:
        if self.outbound.closing:
            raise ValueError(closed)
        self._check_broken()

    def _check_broken(self) -> None:
        self.writer.check()
        if self.outbound.broken:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def contiguous(data: Any) -> bytes:
    """A copy, unless it is `bytes`: the caller may change anything else as soon as we return."""
    if type(data) is bytes:
        return data
    with memoryview(data) as view:
        if not view.c_contiguous:
            raise BufferError("memoryview: underlying buffer is not C-contiguous")
        return bytes(view)
