"""What differs between operating systems, and nothing else.

`_portable` works everywhere: blocking reads and writes, a thread that waits for the child.
`_windows` adds what needs calls of Windows. `_posix` does better where `poll` exists: every wait
can be woken, and the end of the child is a descriptor. Both have the same names:

- `PipeEnd`: the library's end of a pipe, with the waits of the thread that moves its bytes;
- `ExitWatch`: the end of a child process, its exit code, and signals to it;
- `spawn_options`: additional arguments of `subprocess.Popen`;
- `block_signals`: for threads in which no signal is to be delivered;
- `make_pipe`: a pipe to relay into, and `relay_write`, a write to it;
- `reopen`: a second, non-blocking description of a pipe;
- `is_blocking`: whether reads of a descriptor wait for bytes;
- `is_duplicated`: whether others have the same end of a pipe;
- `has_reader`: whether a pipe has a reader;
- `wait_readable`: waits for a descriptor, with a timeout;
- `writes_raise_signals`: whether a write to a pipe may raise SIGPIPE, and `write_without_signal`, a
  write that does not;
- `await_end`: waits for a child without a thread;
- `exit_code`: of a child that has ended and has not been reaped;
- `reap`: the same child, now;
- `send_signal`: to a child that a loop is going to reap.
"""

import sys

if sys.platform == "win32":  # pragma: no cover - Windows
    from process._platform._windows import (
        ExitWatch,
        PipeEnd,
        await_end,
        block_signals,
        exit_code,
        has_reader,
        is_blocking,
        is_duplicated,
        make_pipe,
        reap,
        relay_write,
        reopen,
        send_signal,
        spawn_options,
        wait_readable,
        write_without_signal,
        writes_raise_signals,
    )
else:
    from process._platform._posix import (
        ExitWatch,
        PipeEnd,
        await_end,
        block_signals,
        exit_code,
        has_reader,
        is_blocking,
        is_duplicated,
        make_pipe,
        reap,
        relay_write,
        reopen,
        send_signal,
        spawn_options,
        wait_readable,
        write_without_signal,
        writes_raise_signals,
    )

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
    "write_without_signal",
    "writes_raise_signals",
]
