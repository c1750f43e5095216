"""Writes to a pipe of the loop's, where those of its transport would raise SIGPIPE.

The transports write in the thread of the loop, some at once, all in callbacks of the loop. If the
child has closed its end, the write raises SIGPIPE, which ends a program that has restored the
default action. The signal cannot be blocked around writes that the loop does at its own time; and
blocked in between, too, it would be blocked in every child that the thread starts.

So in such a program the transport keeps the pipe, closes it and says when it is closed, but is
given no bytes. They are written here, with the signal blocked during the write.
"""

import asyncio
import os
from contextlib import suppress
from typing import Any, Callable, List, Optional

from process import _platform
from process._descriptor import Descriptor

#: Seconds until the next attempt, if there is no descriptor left to wait for room with.
_TRY_AGAIN = 0.05


class UnsignalledPipe:
    """The pipe of a transport.

    Args:
        loop: the loop of the transport.
        transport: the owner of the pipe. As long as it holds bytes, none can be written here.
        on_room: called, once or again and again, when there may be room; see `watch`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: Any, on_room: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._on_room = on_room
        #: What is watched. A loop takes no second callback for the descriptor of a transport.
        self._watched: Optional[Descriptor] = None

    @property
    def _fileno(self) -> int:
        # asyncio tells of a pipe, uvloop of a socket.
        info = self._transport.get_extra_info
        number: int = (info("pipe") or info("socket")).fileno()
        return number

    def write(self, data: memoryview, counts: List[int]) -> None:
        """Write what there is room for; see `write_without_signal`."""
        if self._transport.get_write_buffer_size():
            raise BlockingIOError  # the transport was given bytes before
        _platform.write_without_signal(self._fileno, data, counts)

    def watch(self) -> None:
        """Call `on_room` as long as there is room, until `unwatch`."""
        try:
            if self._watched is None:
                self._watched = Descriptor.own(os.dup, self._fileno)
            self._loop.add_writer(self._watched.fileno(), self._on_room)
        except OSError:  # there is no descriptor left
            self._loop.call_later(_TRY_AGAIN, self._on_room)

    def unwatch(self) -> None:
        """Call `on_room` no more, and let go of the pipe. Harmless if it is not watched."""
        if self._watched is None:
            return
        number = self._watched.fileno()
        if number >= 0:  # else this was interrupted, or the process is a fork
            # First: what is closed the selector would not forget.
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_writer(number)
        self._watched.close()
        self._watched = None
