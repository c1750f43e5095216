"""Windows: the portable code, and what only Windows has.

Console control events (`CTRL_C_EVENT`, `CTRL_BREAK_EVENT`) are delivered to process groups. Each
child has its own group, so an event for it does not reach the parent.

An anonymous pipe cannot be polled, but `PeekNamedPipe` says what it holds. While a thread is inside
a read, `PeekNamedPipe` of another thread blocks (the system serves one request at a time for each
file), so only the thread that reads a pipe, and does not block in reads, calls it.
"""

import os
import subprocess
from functools import partial
from importlib import import_module
from operator import itemgetter
from typing import Any, Dict, Iterator, Tuple

from process._descriptor import Descriptor
from process._platform import _portable
from process._platform._portable import (
    ExitWatch,
    await_end,
    block_signals,
    exit_code,
    has_reader,
    is_blocking,
    reap,
    reopen,
    send_signal,
)
from process._polling import poll_until

__all__ = [
    "ExitWatch",
    "PipeEnd",
    "await_end",
    "block_signals",
    "exit_code",
    "has_reader",
    "is_blocking",
    "is_duplicated",
    "make_pipe",
    "reap",
    "relay_write",
    "reopen",
    "send_signal",
    "spawn_options",
    "wait_readable",
]

spawn_options: Dict[str, Any] = {
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x00000200)
}


#: Bytes to write at once without blocking: all of them fit, or none are written.
_ATOMIC_WRITE = 4096

#: A mode of pipes: reads and writes do not block.
_PIPE_NOWAIT = 1


class PipeEnd(_portable.PipeEnd):
    """The library's end of a pipe of the child."""

    def readable(self) -> bool:
        """Whether a read would return at once."""
        return _readable(self.descriptor.fileno())


def make_pipe(size: int) -> Tuple[Descriptor, Descriptor]:
    """The ends of a pipe to relay into, which holds `size` bytes; see `_portable.make_pipe`."""
    msvcrt: Any = import_module("msvcrt")
    read, write = _winapi().CreatePipe(None, size)
    # `os.set_blocking` does the same, but only from Python 3.12 on.
    _winapi().SetNamedPipeHandleState(write, _PIPE_NOWAIT, None, None)
    flags = getattr(os, "O_NOINHERIT", 0)
    return (
        Descriptor.own(msvcrt.open_osfhandle, read, os.O_RDONLY | flags),
        Descriptor.own(msvcrt.open_osfhandle, write, os.O_WRONLY | flags),
    )


def relay_write(outlet: Descriptor, data: memoryview) -> Iterator[int]:
    """Write to such a pipe without blocking; see `_posix.relay_write`.

    Not by way of `os.write`, whose errors do not tell a full pipe from a broken one.
    """
    written = map(_winapi().WriteFile, (_handle(outlet.fileno()),), (data[:_ATOMIC_WRITE],))
    return map(itemgetter(0), written)


def is_duplicated(descriptor: Descriptor) -> bool:
    """Whether others have the same end of a pipe: another process, or a duplicate.

    The system counts the handles, so this does not block while another thread reads the pipe.
    """
    ctypes: Any = import_module("ctypes")
    # OBJECT_BASIC_INFORMATION, whose third field is the number of handles.
    answer = (ctypes.c_uint32 * 14)()
    handle = ctypes.c_void_p(_handle(descriptor.fileno()))
    size = ctypes.sizeof(answer)
    ctypes.windll.ntdll.NtQueryObject(handle, 0, ctypes.byref(answer), size, None)
    return bool(answer[2] > 1)


def wait_readable(descriptor: int, timeout: float) -> bool:
    """Whether a read of a pipe would not block, after `timeout` seconds at the latest.

    It is checked repeatedly, with pauses.
    """
    return poll_until(partial(_readable, descriptor), timeout)


def _readable(descriptor: int) -> bool:
    """Whether a pipe holds bytes, or is at end of file."""
    try:
        return bool(_winapi().PeekNamedPipe(_handle(descriptor), 0)[0])
    except OSError:
        return True  # broken, as a read will find


def _handle(descriptor: int) -> int:
    handle: int = import_module("msvcrt").get_osfhandle(descriptor)
    return handle


def _winapi() -> Any:
    """What `subprocess` and `multiprocessing` use; type checkers know it only on Windows."""
    return import_module("_winapi")
