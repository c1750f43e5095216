"""What the threaded and the asyncio variant share.

They differ in how they start a child and how they wait for it. All that does not wait is here.
"""

import operator
import signal as signals
import warnings
from typing import (
    Any,
    ClassVar,
    Generic,
    List,
    NoReturn,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from process.core.constants import PIPE
from process.core.errors import ProcessInvalidStreamError, ProcessNotRunError
from process.core.process import AbstractProcess
from process.core.types import File, StrOrPath

#: Where the child's stdin, stdout and stderr go.
Redirections = Tuple[Union[bytes, File, None], Optional[File], Optional[File]]

#: Grace period: seconds between SIGTERM and SIGKILL for a child that no caller waits for.
GRACE = 1.0

#: Windows has no SIGKILL; there SIGTERM means `TerminateProcess`, which is as final.
SIGKILL: int = getattr(signals, "SIGKILL", signals.SIGTERM)


class Child(Protocol):
    """A child process that has been started."""

    #: Its streams; `None` where there is no pipe.
    stdin: Any
    stdout: Any
    stderr: Any

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    def look(self) -> Optional[int]:
        """The exit code, if the child has ended."""

    def poll(self) -> Optional[int]:
        """`look`, for a caller that polls, and so counts as waiting: its streams get more room."""

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended."""

    def drop(self) -> None:
        """The process object is gone: end the child. Safe in finalizers."""


W = TypeVar("W")
R = TypeVar("R")
C = TypeVar("C", bound=Child)


class BaseProcess(AbstractProcess[W, R], Generic[W, R, C]):
    """A process with any kind of `Child`."""

    #: What `None` or a negative number means for `buffer_size`.
    _default_buffer_size: ClassVar[int]

    _child: Optional[C] = None

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

    def __init__(
        self,
        arguments: Union[StrOrPath, Sequence[StrOrPath]],
        stdin: Union[bytes, File, None] = None,
        stdout: Optional[File] = PIPE,
        stderr: Optional[File] = PIPE,
        buffer_size: Optional[int] = None,
    ) -> None:
        size = self._default_buffer_size if buffer_size is None else buffer_size
        super().__init__(arguments, stdin, stdout, stderr, size)

    @property
    def _buffer_size(self) -> int:
        """The size of the stream buffers.

        Evaluated by `run`, which reports a value that is not an integer.
        """
        size = operator.index(self._requested_size)
        return self._default_buffer_size if size < 0 else size

    @property
    def _process(self) -> Any:
        """The same as `process`, but `None` before `run`.

        Not private: subclasses and tests written for python-process read it. It does not use
        `process`, which such a subclass may override in terms of `_process`.
        """
        child: Any = self._child
        return None if child is None else child.process

    @property
    def id(self) -> int:
        return self._started.pid

    @property
    def running(self) -> bool:
        return self._started.poll() is None

    @property
    def exit_code(self) -> Optional[int]:
        return self._started.poll()

    @property
    def stdin(self) -> W:
        stream: W = self._stream("stdin")
        return stream

    @property
    def stdout(self) -> R:
        stream: R = self._stream("stdout")
        return stream

    @property
    def stderr(self) -> R:
        stream: R = self._stream("stderr")
        return stream

    def signal(self, signal: signals.Signals) -> None:
        self._started.send_signal(signal)

    def terminate(self) -> None:
        self._started.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        self._started.send_signal(SIGKILL)

    def __repr__(self) -> str:
        fields: List[Tuple[str, Any]] = [("arguments", self._arguments)]
        child = self._child
        if child is not None:
            code = child.look()
            fields += [("id", child.pid), ("running", code is None), ("exit_code", code)]
            fields += [
                (name, getattr(child, name))
                for name in ("stdin", "stdout", "stderr")
                if getattr(child, name) is not None
            ]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields)})"

    def __reduce__(self) -> NoReturn:
        # Called by `copy` and `pickle`. A copy would share the child, and end it when dropped.
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} object: it owns a process")

    def __del__(self) -> None:
        if self._child is not None:
            self._child.drop()

    @property
    def _started(self) -> C:
        if self._child is None:
            raise ProcessNotRunError
        return self._child

    def _stream(self, name: str) -> Any:
        stream = getattr(self._started, name)
        if stream is None:
            raise ProcessInvalidStreamError(f"Process was not created with `{name}=PIPE`")
        return stream

    def _warn(self, held_open: List[str], stacklevel: int) -> None:
        """Warn of streams that were taken as finished although they are open.

        Args:
            held_open: the names of the streams.
            stacklevel: as for `warnings.warn`, counted from here. A coroutine is called by the
                frames that await it, so one value serves both variants.
        """
        for name in held_open:
            warnings.warn(
                f"{self!r}: {name} was taken as finished after a second of silence, but another "
                "process holds it open",
                RuntimeWarning,
                stacklevel=stacklevel,
            )


def normalize_timeout(timeout: Optional[float]) -> Optional[float]:
    """Return `timeout`, or `None` if it is NaN: comparing that never says that time is up.

    `subprocess.Popen.wait` takes it that way, too, before Python 3.15.
    """
    return timeout if timeout is None or timeout == timeout else None  # noqa: PLR0124
