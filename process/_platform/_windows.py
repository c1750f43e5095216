"""Windows: the portable ways, and what only Windows has.

Console control events (`CTRL_C_EVENT`, `CTRL_BREAK_EVENT`) are delivered to process groups; a child
in the group of its parent could not be sent one without hitting the parent. So it has its own.

Nothing waits for an anonymous pipe without reading it, but it can be asked what it holds.
"""

import subprocess
from functools import partial
from importlib import import_module
from typing import Any, Dict

from process._platform._portable import (
    ExitWatch,
    PipeEnd,
    await_end,
    block_signals,
    exit_code,
    has_reader,
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
    "reap",
    "reopen",
    "send_signal",
    "spawn_options",
    "wait_readable",
]

spawn_options: Dict[str, Any] = {
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x00000200)
}


def wait_readable(descriptor: int, timeout: float) -> bool:
    """Whether a read of a pipe would not block, after `timeout` seconds at the latest.

    The pipe is asked again and again. A read could do the waiting; but while a thread is inside of
    it, the pipe answers no other thread that asks.
    """
    return poll_until(partial(_readable, descriptor), timeout)


def _readable(descriptor: int) -> bool:
    """Whether a pipe holds bytes, or has come to its end."""
    # Imported by name, as they are needed nowhere else, and type checkers know parts of them only
    # on Windows.
    ctypes: Any = import_module("ctypes")
    msvcrt: Any = import_module("msvcrt")
    held = ctypes.c_ulong(0)
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
    answered = ctypes.windll.kernel32.PeekNamedPipe(handle, None, 0, None, ctypes.byref(held), None)
    return not answered or held.value > 0  # no answer: broken, as a read will find
