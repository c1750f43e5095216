"""Windows: the portable ways, and what only Windows has.

Console control events (`CTRL_C_EVENT`, `CTRL_BREAK_EVENT`) are delivered to process groups; a child
in the group of its parent could not be sent one without hitting the parent. So it has its own.

Nothing waits for an anonymous pipe without reading it, but it can be asked what it holds. While a
thread is inside of a read the pipe answers no other thread that asks (the system takes one request
at a time for each file), so only a thread that does not block in reads asks for its own.
"""

import os
import subprocess
from functools import partial
from importlib import import_module
from typing import Any, Dict, Tuple

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
    "RELAY_CHUNK",
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
    "reopen",
    "send_signal",
    "spawn_options",
    "wait_readable",
]

spawn_options: Dict[str, Any] = {
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x00000200)
}


#: Bytes to write into the second pipe of a stream at once: all of them fit, or none are written.
RELAY_CHUNK = 4096

#: A mode of pipes: reads and writes do not block.
_PIPE_NOWAIT = 1


class PipeEnd(_portable.PipeEnd):
    """The library's end of a pipe of the child."""

    def readable(self) -> bool:
        """Whether a read would return at once."""
        return _readable(self.descriptor.fileno())


def make_pipe(size: int) -> Tuple[Descriptor, Descriptor]:
    """The ends of a pipe to relay into, which holds `size` bytes; see `_portable.make_pipe`."""
    winapi: Any = import_module("_winapi")
    msvcrt: Any = import_module("msvcrt")
    ctypes: Any = import_module("ctypes")
    handles = winapi.CreatePipe(None, size)
    flags = getattr(os, "O_NOINHERIT", 0)
    read = Descriptor.own(msvcrt.open_osfhandle, handles[0], os.O_RDONLY | flags)
    write = Descriptor.own(msvcrt.open_osfhandle, handles[1], os.O_WRONLY | flags)
    mode = ctypes.byref(ctypes.c_ulong(_PIPE_NOWAIT))
    # `os.set_blocking` does the same, from Python 3.12 on.
    ctypes.windll.kernel32.SetNamedPipeHandleState(_handle(write.fileno()), mode, None, None)
    return read, write


def is_duplicated(descriptor: Descriptor) -> bool:
    """Whether others have the same end of a pipe: another process, or a duplicate.

    It is the system that counts the handles, and not the pipe, which would not answer.
    """
    ctypes: Any = import_module("ctypes")
    #: OBJECT_BASIC_INFORMATION, whose third field is the number of handles.
    answer = (ctypes.c_uint32 * 14)()
    query = ctypes.windll.ntdll.NtQueryObject
    handle = _handle(descriptor.fileno())
    query(handle, 0, ctypes.byref(answer), ctypes.sizeof(answer), None)
    return bool(answer[2] > 1)


def wait_readable(descriptor: int, timeout: float) -> bool:
    """Whether a read of a pipe would not block, after `timeout` seconds at the latest.

    The pipe is asked again and again.
    """
    return poll_until(partial(_readable, descriptor), timeout)


def _readable(descriptor: int) -> bool:
    """Whether a pipe holds bytes, or has come to its end."""
    ctypes: Any = import_module("ctypes")
    held = ctypes.c_ulong(0)
    peek = ctypes.windll.kernel32.PeekNamedPipe
    answered = peek(_handle(descriptor), None, 0, None, ctypes.byref(held), None)
    return not answered or held.value > 0  # no answer: broken, as a read will find


def _handle(descriptor: int) -> Any:
    # Imported by name, as they are needed nowhere else, and type checkers know parts of them only
    # on Windows.
    ctypes: Any = import_module("ctypes")
    msvcrt: Any = import_module("msvcrt")
    return ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
