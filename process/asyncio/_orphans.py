"""Children whose loop is closed, or does not run.

Such a child cannot be left to its loop: nobody would end it, reap it, or close its pipes, and the
transports, left to the garbage collector, would warn (`ResourceWarning`). So it is ended here, in a
bounded time: SIGTERM, a grace period, SIGKILL. Its pipes are closed without the transports.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from typing import Any, List, NamedTuple, Set

from process import _platform
from process.core._base import GRACE, SIGKILL


class Orphan(NamedTuple):
    """A child, and the loop that no longer looks after it."""

    transport: asyncio.SubprocessTransport
    loop: asyncio.AbstractEventLoop

    @property
    def pid(self) -> int:
        """The process id."""
        return self.transport.get_pid()

    def ended(self) -> bool:
        """Whether the child has ended; it is reaped, unless its loop is going to."""
        if self.transport.get_returncode() is not None:
            return True
        popen = self.transport.get_extra_info("subprocess")
        if popen is not None:
            return popen.poll() is not None
        # uvloop has no `Popen`; until it is closed it reaps by itself, and counts on it.
        try:
            if self.loop.is_closed():
                return os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
            return _platform.exit_code(self.pid) is not None
        except ChildProcessError:
            return True  # reaped already

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        if self.ended():
            return
        popen = self.transport.get_extra_info("subprocess")
        with contextlib.suppress(OSError):  # it has other rights, or has just ended
            if popen is not None:  # which knows the handle, and the exit code to give, on Windows
                popen.send_signal(number)
            else:
                os.kill(self.pid, number)

    def wait(self, deadline: float) -> bool:
        """Wait for the end until `deadline`. Return whether the child has ended.

        This is a finalizer's last resort. There may be no descriptor left for a pidfd, and late in
        the exit of the interpreter Python 3.12 and later refuse to start a thread. The deadline
        ends it, however the end of the child is awaited.
        """
        return _platform.await_end(self.pid, self.ended, max(0.0, deadline - time.monotonic()))


def end(orphans: List[Orphan]) -> None:
    """End children and silence their transports, in a bounded time. Safe in finalizers."""
    for orphan in orphans:
        _outlived.add(orphan.pid)
        orphan.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for orphan in orphans:
        if not orphan.wait(deadline):
            orphan.send_signal(SIGKILL)
            orphan.wait(time.monotonic() + GRACE)
    for orphan in orphans:
        if not orphan.loop.is_running():
            _silence(orphan.transport, orphan.loop)


def forget(pid: int) -> None:
    """A new child has the number `pid`."""
    _outlived.discard(pid)


def _silence(transport: Any, loop: Any) -> None:
    """Close the pipes for transports that cannot do it themselves.

    A transport of asyncio closes its pipe in a callback of its loop; if the loop never runs that,
    the finalizer of the transport complains. So the callback is called here. It is private to
    asyncio, but there is no public way. A loop without these names is left alone.
    """
    for number in range(3):
        pipe = transport.get_pipe_transport(number)
        lose = getattr(pipe, "_call_connection_lost", None)
        # What is open is a `_pipe` with the selector loop, and a `_sock` with the proactor loop.
        if lose is None or not (getattr(pipe, "_pipe", None) or getattr(pipe, "_sock", None)):
            continue
        if pipe.is_closing() and not loop.is_closed():
            continue  # the callback is on its way
        with contextlib.suppress(Exception):
            loop._remove_reader(pipe._fileno)
            loop._remove_writer(pipe._fileno)
        pipe._closing = True
        with contextlib.suppress(Exception):
            lose(None)
    with contextlib.suppress(Exception):
        transport.close()


#: The process ids of children that have outlived their loop.
_outlived: Set[int] = set()


def _worth_logging(record: logging.LogRecord) -> bool:
    """Whether this is not what a child watcher says of a child that has outlived its loop."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return _outlived.isdisjoint(arg for arg in arguments if isinstance(arg, int))


logging.getLogger("asyncio").addFilter(_worth_logging)
