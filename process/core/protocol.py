"""The interface that both variants offer."""

import signal as signals
from typing import TYPE_CHECKING, Any, List, Optional, Protocol, Sequence, TypeVar, Union, overload

from process.core.constants import PIPE
from process.core.types import File, Returns, StrOrPath

if TYPE_CHECKING:
    from typing_extensions import Self

W_co = TypeVar("W_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

__all__ = ["ProcessProtocol"]


class ProcessProtocol(Protocol[W_co, R_co]):
    """A child process whose streams keep moving, so that no call deadlocks.

    Where a type is `Returns`, the synchronous variant returns the value and the asyncio variant a
    coroutine. While a caller waits in any of these members, or in a read or write of one of the
    streams, every piped stream of the process keeps moving.
    """

    @overload
    def __init__(
        self,
        arguments: StrOrPath,
        stdin: Union[bytes, File, None] = None,
        stdout: Optional[File] = PIPE,
        stderr: Optional[File] = PIPE,
        buffer_size: Optional[int] = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        arguments: Sequence[StrOrPath],
        stdin: Union[bytes, File, None] = None,
        stdout: Optional[File] = PIPE,
        stderr: Optional[File] = PIPE,
        buffer_size: Optional[int] = None,
    ) -> None: ...

    @property
    def arguments(self) -> List[str]:
        """The program and its arguments, as a new list."""
        ...

    @property
    def process(self) -> Any:
        """The underlying object of the standard library.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    @property
    def id(self) -> int:
        """The process id.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    @property
    def running(self) -> bool:
        """Whether the process is still running.

        A loop that polls this, or `exit_code`, counts as waiting: it does not deadlock.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    @property
    def exit_code(self) -> Optional[int]:
        """The exit code; `None` while the process runs; on POSIX `-N` if signal N has ended it.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    @property
    def stdin(self) -> W_co:
        """The stream to the child's stdin. If it was given bytes, it is closed.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessInvalidStreamError: stdin was not created with `PIPE`.
        """
        ...

    @property
    def stdout(self) -> R_co:
        """The stream from the child's stdout.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessInvalidStreamError: stdout was not created with `PIPE`.
        """
        ...

    @property
    def stderr(self) -> R_co:
        """The stream from the child's stderr.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessInvalidStreamError: stderr was not created with `PIPE`.
        """
        ...

    def run(self) -> "Returns[Self]":
        """Start the process. Returns at once, however large the input is.

        Returns:
            The process itself.

        Raises:
            ProcessAlreadyRunError: it has been run before.
            ProcessError: it cannot be started; the cause is chained. Nothing is left behind.
        """
        ...

    def output(self, join: bool = True) -> Returns[bytes]:
        """Everything on stdout to its end, except what was read from `stdout`.

        A stream ends at end of file. It is also taken as finished when the process has ended and
        nothing has arrived for one second, though another process keeps it open; then a
        `RuntimeWarning` says so. Called again, this returns the same bytes, and those that have
        come since if the stream is still open.

        Args:
            join: wait for the process first.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessInvalidStreamError: stdout was not created with `PIPE`.
            ProcessError: bytes have been lost for lack of memory; the cause is chained.
        """
        ...

    def error(self, join: bool = True) -> Returns[bytes]:
        """Everything on stderr to its end; see `output`.

        Args:
            join: wait for the process first.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessInvalidStreamError: stderr was not created with `PIPE`.
            ProcessError: bytes have been lost for lack of memory; the cause is chained.
        """
        ...

    def join(self, timeout: Optional[float] = None) -> Returns[None]:
        """Wait until the process itself has ended, even if another process still holds its pipes.

        Args:
            timeout: in seconds; `None` waits as long as it takes.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessTimeoutError: it has not ended in time. It runs on, and nothing is lost.
        """
        ...

    def signal(self, signal: signals.Signals) -> None:
        """Send a signal. Nothing happens if the process has ended.

        Args:
            signal: on Windows only SIGTERM, CTRL_C_EVENT and CTRL_BREAK_EVENT.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    def terminate(self) -> None:
        """Ask the process to end: SIGTERM, on Windows `TerminateProcess`.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    def kill(self) -> None:
        """Make the process end: SIGKILL, on Windows `TerminateProcess`.

        Raises:
            ProcessNotRunError: the process has not been run.
        """
        ...

    def close(self) -> Returns[None]:
        """Close stdin, terminate the process if it runs, and wait for it.

        What is left on stdout and stderr is kept for `output()` and `error()`, then both are
        closed. Closing again is harmless.

        Raises:
            ProcessNotRunError: the process has not been run.
            ProcessError: bytes have been lost for lack of memory; the cause is chained. The process
                has been closed all the same.
        """
        ...
