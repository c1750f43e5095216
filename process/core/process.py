"""The abstract class of both variants."""

import os
from abc import ABC, abstractmethod
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    List,
    Optional,
    Sequence,
    TypeVar,
    Union,
    overload,
)

from process.core.constants import PIPE
from process.core.protocol import ProcessProtocol
from process.core.types import File, Returns, StrOrPath

if TYPE_CHECKING:
    import signal as signals

    from typing_extensions import Self

W = TypeVar("W")
R = TypeVar("R")

__all__ = ["AbstractProcess"]


class AbstractProcess(ABC, ProcessProtocol[W, R], Generic[W, R]):
    """A child process, started by `run` or by entering a `with` block, at most once.

    Leaving the block closes stdin, waits for the process, keeps what is left on stdout and stderr
    for `output()` and `error()`, and closes both. Leaving it by an exception closes the streams and
    waits for nothing. A process that is dropped while it runs is ended.

    Args:
        arguments: the program and its arguments. A string is split as a POSIX shell would, though
            no shell is involved; a path is one argument; in a sequence each item is one argument.
        stdin: bytes to write to the process, which are not copied; or a file descriptor or a file
            that has one; or `None` to inherit, `PIPE`, `DEVNULL`.
        stdout: the same without bytes.
        stderr: the same as `stdout`, or `STDOUT` to send it there.
        buffer_size: the size in bytes of the stream buffers, 0 for none. `None` or a negative size
            is the variant's `DEFAULT_BUFFER_SIZE`; the abstract class has no default, and raises
            `ValueError` for `None`.

    Raises:
        ValueError: `arguments` is a string with an unclosed quotation.
        TypeError: `arguments` is, or contains, something that is neither a string nor a path.
            Errors in the other parameters are raised by `run`.
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

    def __init__(
        self,
        arguments: Union[StrOrPath, Sequence[StrOrPath]],
        stdin: Union[bytes, File, None] = None,
        stdout: Optional[File] = PIPE,
        stderr: Optional[File] = PIPE,
        buffer_size: Optional[int] = None,
    ) -> None:
        if buffer_size is None:
            raise ValueError("buffer_size must be given")
        self._arguments = _split(arguments)
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._requested_size = buffer_size

    @property
    def arguments(self) -> List[str]:
        return list(self._arguments)

    @property
    @abstractmethod
    def process(self) -> Any: ...

    @property
    @abstractmethod
    def id(self) -> int: ...

    @property
    @abstractmethod
    def running(self) -> bool: ...

    @property
    @abstractmethod
    def exit_code(self) -> Optional[int]: ...

    @property
    @abstractmethod
    def stdin(self) -> W: ...

    @property
    @abstractmethod
    def stdout(self) -> R: ...

    @property
    @abstractmethod
    def stderr(self) -> R: ...

    @abstractmethod
    def run(self) -> "Returns[Self]": ...

    @abstractmethod
    def output(self, join: bool = True) -> Returns[bytes]: ...

    @abstractmethod
    def error(self, join: bool = True) -> Returns[bytes]: ...

    @abstractmethod
    def join(self, timeout: Optional[float] = None) -> Returns[None]: ...

    @abstractmethod
    def signal(self, signal: "signals.Signals") -> None: ...

    @abstractmethod
    def terminate(self) -> None: ...

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def close(self) -> Returns[None]: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}(arguments={self._arguments!r})"


def _split(arguments: Union[StrOrPath, Sequence[StrOrPath]]) -> List[str]:
    if isinstance(arguments, str):
        import shlex  # most callers give a list, and need not pay for importing this

        return shlex.split(arguments)
    if isinstance(arguments, os.PathLike):
        return [os.fspath(arguments)]
    return [os.fspath(argument) for argument in arguments]


def check_arguments(arguments: List[str]) -> None:
    """Check arguments that `Popen` and the loops treat differently.

    Raises:
        ValueError: there is no program, or an argument has a null byte, which would end it.
    """
    if not arguments:
        raise ValueError("there is no program to run")
    for argument in arguments:
        if "\0" in os.fsdecode(argument):
            raise ValueError(f"embedded null byte in {argument!r}")
