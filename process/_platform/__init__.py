"""What differs between operating systems, and nothing else.

`_portable` is right everywhere: blocking reads and writes, a lock to park on, a thread that waits
for the child. `_windows` adds what it has to ask Windows for. `_posix` does better where `poll`
exists: every wait can be woken, and the end of the child is a descriptor. Both offer the same
names:

- `Wakeup`: wakes threads that wait in a `Port`;
- `Port`: one end of a pipe, with the waits of the pump that serves it;
- `Hub`, made by `make_hub`: several ports waited for at once, where that is possible;
- `ExitWatch`: the end of a child process;
- `spawn_options`: what `subprocess.Popen` is told in addition;
- `await_end`: waits for a child without a thread;
- `await_ends`: waits for several, and throws away what they write;
- `exit_code`: of a child that has ended and has not been reaped;
- `reap`: the same child, now;
- `send_signal`: to a child that a loop is going to reap;
- `wait_readable`: for descriptors in the hands of the caller.
"""

import sys

if sys.platform == "win32":  # pragma: no cover - Windows
    from process._platform._windows import (
        ExitWatch,
        Hub,
        Port,
        Wakeup,
        await_end,
        await_ends,
        exit_code,
        make_hub,
        reap,
        send_signal,
        spawn_options,
        wait_readable,
    )
else:
    from process._platform._posix import (
        ExitWatch,
        Hub,
        Port,
        Wakeup,
        await_end,
        await_ends,
        exit_code,
        make_hub,
        reap,
        send_signal,
        spawn_options,
        wait_readable,
    )

__all__ = [
    "ExitWatch",
    "Hub",
    "Port",
    "Wakeup",
    "await_end",
    "await_ends",
    "exit_code",
    "make_hub",
    "reap",
    "send_signal",
    "spawn_options",
    "wait_readable",
]
