"""What differs between operating systems, and nothing else.

On POSIX every wait can be woken, and the end of a child is a descriptor where the kernel has one.
On Windows reads and writes block. Where a child has no descriptor a thread waits for it (`_exit`).
Both modules have the same names:

- `PipeEnd`: the library's end of a pipe, with the waits of the thread that moves its bytes;
- `ExitWatch`: the end of a child process, its exit code, and signals to it;
- `Reaper`: how the `Popen` of a child learns its exit code;
- `spawn_options`: additional arguments of `subprocess.Popen`;
- `block_signals`: for threads in which no signal is to be delivered;
- `make_pipe`: a pipe to relay into, and `relay_write`, a write to it;
- `read_at_once`: a read that does not wait, where the pipe cannot be opened anew;
- `reopen`: a second, non-blocking description of a pipe;
- `is_blocking`: whether reads of a descriptor wait for bytes;
- `is_duplicated`: whether others have the same end of a pipe;
- `has_reader`: whether a pipe has a reader;
- `wait_readable`: waits for a descriptor, with a timeout;
- `writes_raise_signals`: whether a write to a pipe may raise SIGPIPE, and `write_without_signal`, a
  write that does not;
- `await_end`: waits for a child without a thread;
- `exit_code`: of a child that has ended and has not been reaped;
- `send_signal`: to a child that a loop is going to reap.
"""

# ruff: noqa: F403 - the names above are those of the chosen module

import sys

if sys.platform == "win32":  # pragma: no cover - Windows
    from process._platform._windows import *
else:
    from process._platform._posix import *
