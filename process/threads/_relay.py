"""The second pipe of a stream, which `fileno()` names.

Theory of operation. Bytes that have been read from the child's pipe cannot be put back, yet
`fileno()` has to name a descriptor on which `select`, `os.read` or another process see exactly the
child's bytes. So the first call makes a second pipe. From then on the stream's own thread is the
relay: it passes on what was read before, and then moves bytes from the child's pipe to the second
one, in the kernel (`os.splice`) where that can be done.

1. *Order.* What the second pipe holds comes before what the buffer holds, and that before what the
   child's pipe holds.
2. *Own reads.* A read of the stream object suspends the relay, takes everything back out of the
   second pipe (`recall`), is served from the buffer like any other read, and puts back what is left
   (`push`): the pipe is empty then, so it fits. While callers do so, little is put back, which is
   enough for `select`, and the thread stands by.
3. *The receiver.* A process that was given the second pipe keeps it, whatever becomes of our end.
   The relay lives as long as there are bytes and somebody who can read them: when nobody can, the
   second pipe reports an error, the child's pipe is closed, and the child gets its SIGPIPE.

The methods are called under the lock of the monitor, except `close` and `leave`, which finalizers
call, and `blocking`.
"""

import os
import weakref
from collections import deque
from typing import Callable, Deque, Dict, Optional

from process import _platform
from process._descriptor import Descriptor
from process.core._buffer import Buffer
from process.threads._monitor import Waiter

#: Bytes to put back at most while callers read by way of the stream object.
_LITTLE = 4096

#: Bytes that the second pipe holds at least, where that can be chosen; bytes to take back at once.
#:
#: The GNU C library maps and unmaps larger blocks anew with each call.
_LEAST = 64 * 1024

#: Bytes to put back at most.
_ALL = 1024 * 1024


class Relay:
    """The second pipe of a stream."""

    def __init__(self, held: int = 0) -> None:
        #: What callers get.
        self.descriptor, self.outlet = _platform.make_pipe(max(held, _LEAST))
        #: Nobody can read the second pipe any more.
        self.broken = False
        #: Callers read by way of the stream object at present.
        self.little = False
        #: Calls that read by way of the stream object.
        self._suspensions: Dict[int, weakref.ref[Waiter]] = {}
        self._own: Optional[Descriptor] = None
        #: What has been taken back and not yet recorded, and where in the stream it ends.
        self._recalled: Deque[bytes] = deque()
        self._recalled_end = 0
        #: What has been put back and not yet recorded, and where in the stream it begins.
        self._pushed: Deque[int] = deque()
        self._pushed_begin = 0

    @property
    def suspended(self) -> bool:
        """Whether a caller reads by way of the stream object."""
        if not self._suspensions:
            return False
        return True in [reference() is not None for reference in list(self._suspensions.values())]

    @property
    def blocking(self) -> bool:
        """Whether reads of the stream wait for bytes; a caller may have changed that."""
        number = self.descriptor.fileno()
        try:
            return number < 0 or _platform.is_blocking(number)
        except OSError:  # closed at this very moment: this is asked without the lock, too
            return True

    def suspend(self, waiter: Waiter, on_abandoned: Callable[[object], None]) -> None:
        """A caller is going to read by way of the stream object."""
        self._suspensions[id(waiter)] = weakref.ref(waiter, on_abandoned)
        self.little = True

    def suspended_by(self, waiter: Waiter) -> bool:
        """Whether this caller reads by way of the stream object."""
        reference = self._suspensions.get(id(waiter))
        return reference is not None and reference() is waiter

    def resume(self, waiter: Waiter) -> None:
        """The caller has read."""
        self._suspensions.pop(id(waiter), None)

    def resume_all(self) -> None:
        """Nobody is to read by way of the stream object any more: the pipe is a receiver's."""
        self._suspensions.clear()

    def recall(self, buffer: Buffer) -> None:
        """Take everything back."""
        self.commit(buffer)
        if self._own is None:
            self._own = _platform.reopen(self.descriptor.fileno(), os.O_RDONLY)
        own = self._own  # referred to, it stays open even if a finalizer lets go of it
        self._recalled_end = buffer.position
        try:
            while True:
                if own is None:
                    _platform.read_at_once(self.descriptor.fileno(), _LEAST, self._recalled)
                else:
                    self._recalled.extend(map(os.read, (own.fileno(),), (_LEAST,)))
                size = len(self._recalled[-1])
                if not size or (own is not None and size < _LEAST):
                    break  # nothing is written to the pipe meanwhile: that was all
        except BlockingIOError:
            pass
        self.commit(buffer)

    def push(self, buffer: Buffer) -> bool:
        """Put back what the buffer holds, as far as it should be. Return whether anything was."""
        if self._recalled or self._pushed:
            self.commit(buffer)
        outlet = self._outlet() if len(buffer) else None
        if outlet is None:
            return False
        begin = before = buffer.position
        little = self.little and not self.ended
        end = begin + (_LITTLE if little else _ALL)
        try:
            while True:
                view = buffer.front(end - before)
                self._pushed_begin = before
                self._pushed.extend(_platform.relay_write(outlet, view))
                self.commit(buffer)
                position = buffer.position
                if position == before or little or position >= end or not len(buffer):
                    break  # there is no room, or enough has been put back
                before = position
        except BlockingIOError:
            pass  # the thread waits for room
        except OSError:  # EPIPE: the last reader has left
            self.broken = True
        finally:
            if outlet is not self.outlet:
                outlet.close()
        return buffer.position > begin

    @property
    def ended(self) -> bool:
        """Whether the second pipe is at its end, which is what holds then."""
        return self.outlet.fileno() < 0

    def _outlet(self) -> Optional[Descriptor]:
        """An end to write to. At the end of the stream it is opened anew, if that can be done."""
        number = self.descriptor.fileno()
        if not self.ended or number < 0:
            return self.outlet
        return _platform.reopen(number, os.O_WRONLY)

    def is_handed_over(self, buffer: Buffer) -> bool:
        """Close our end, and find out whether somebody else has it; if so, leave the bytes there.

        If not, it is for the caller to drop the relay, and then to close the outlet.

        Only when our end is closed does the pipe tell. So what it holds is taken out first, and put
        back if it is a receiver's.
        """
        if _platform.is_duplicated(self.descriptor):
            self.let_go()
            self.close()
            return True
        outlet = self._outlet()
        self.recall(buffer)
        self.let_go()
        self.close()
        if outlet is None or not _platform.has_reader(outlet):
            return False
        self.outlet, ended = outlet, self.outlet
        # In the thread of a caller a write may raise SIGPIPE, and the receiver may leave at any
        # time. So there is a reader of our own meanwhile; without one the thread writes.
        reader = _platform.reopen(outlet.fileno(), os.O_RDONLY)
        if reader is not None or ended is not outlet:
            self.push(buffer)
        if reader is not None:
            reader.close()
        if ended is not outlet and not len(buffer):
            outlet.close()
        return True

    def leave(self) -> None:
        """Close our end, and find out whether nobody else has it, unless that has been done."""
        if self.descriptor.fileno() < 0:
            return
        duplicated = _platform.is_duplicated(self.descriptor)
        self.close()
        if not self.ended and not duplicated and not _platform.has_reader(self.outlet):
            self.broken = True

    def commit(self, buffer: Buffer) -> None:
        """Record what callers have taken back and put back."""
        if self._recalled:
            if buffer.position == self._recalled_end:
                data = b"".join(self._recalled)
                if data:
                    buffer.unread(data)
            self._recalled.clear()
        if self._pushed:
            buffer.skip_to(self._pushed_begin + sum(self._pushed))
            self._pushed.clear()

    @property
    def empty(self) -> bool:
        """Whether the second pipe holds nothing."""
        number = self.descriptor.fileno()
        return number < 0 or not _platform.wait_readable(number, 0)

    def let_go(self) -> None:
        """Callers do not read by way of the stream object at present. The lock is held.

        A reader of our own would hide that there is no other one, so it is not left to be freed.
        """
        self.little = False
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def close(self) -> None:
        """Close the end that callers have. Takes no lock: safe in finalizers.

        A caller may be about to use our own reader, which is closed once nothing refers to it.
        """
        self._own = None
        self.descriptor.close()
