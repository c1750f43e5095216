"""The end of a child, for which a thread waits."""

import threading
from typing import TYPE_CHECKING, Callable, Optional

from process._polling import poll_until

if TYPE_CHECKING:
    import subprocess


class ExitWatch:
    """The end of a child. A thread waits for it and reaps it."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._ended = False
        self._callback: Optional[Callable[[], None]] = None

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it cannot be started.
        """
        name = f"process-{self._popen.pid}-exit"
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    def _watch(self) -> None:
        self._await_end()
        self._ended = True
        callback = self._callback
        if callback is not None:
            callback()

    def _await_end(self) -> None:
        self._popen.wait()

    def notify(self, callback: Callable[[], None]) -> None:
        """Call `callback`, once or twice, in any thread, when the child has ended."""
        self._callback = callback
        if self._ended:
            callback()

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended."""
        return self._popen.poll()

    def fileno(self) -> int:
        """A descriptor that is readable once the child has ended, or -1 if there is none."""
        return -1

    def wait(self, timeout: float) -> None:
        """Return when the child has ended, or after `timeout` seconds. Takes no lock.

        The callback of `notify` comes sooner.
        """
        poll_until(lambda: self.look() is not None, timeout)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended.

        Raises:
            PermissionError: the child has changed its user id, and may not be signalled.
        """
        self._popen.send_signal(number)

    def release(self) -> None:
        """See that the child, which has ended, is reaped: the thread does that."""
        self._callback = None
