"""The synchronous process."""

from typing import TYPE_CHECKING, List, Optional, Sequence, Type, Union, overload

from process._child import Child, Redirections, start
from process.constants import DEFAULT_BUFFER_SIZE
from process.core._base import BaseProcess
from process.core.constants import PIPE
from process.core.errors import (
    ProcessAlreadyRunError,
    ProcessError,
    ProcessTimeoutError,
)
from process.core.process import AbstractProcess, check_arguments
from process.core.types import File, StrOrPath
from process.types import StreamReader, StreamWriter

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Process"]


class Process(BaseProcess[StreamWriter, StreamReader, Child]):
    __doc__ = AbstractProcess.__doc__

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
        size = DEFAULT_BUFFER_SIZE if buffer_size is None else buffer_size
        super().__init__(arguments, stdin, stdout, stderr, size)
        #: Empty while somebody runs the process, and once it has been run.
        self._right_to_run: List[bool] = [True]

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self._started.popen

    def run(self) -> "Self":
        try:
            self._right_to_run.pop()
        except IndexError:
            raise ProcessAlreadyRunError from None
        try:
            check_arguments(self._arguments)
            redirections = Redirections(self._stdin, self._stdout, self._stderr)
            self._child = start(self._arguments, redirections, self._buffer_size)
        except Exception as error:
            raise ProcessError(f"Failed to run process: {error!r}") from error
        finally:
            if self._child is None:
                self._right_to_run.append(True)
        self._stdin = None  # the pump has it now, and lets go of it once it is fed
        return self

    def output(self, join: bool = True) -> bytes:
        return self._everything("stdout", join)

    def error(self, join: bool = True) -> bytes:
        return self._everything("stderr", join)

    def join(self, timeout: Optional[float] = None) -> None:
        if not self._started.wait(timeout):
            raise ProcessTimeoutError(f"Process did not complete within {timeout} seconds")

    def close(self) -> None:
        child = self._started
        child.terminate()
        self._warn(child.finish())

    def __enter__(self) -> "Self":
        return self.run()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: "Optional[TracebackType]",
    ) -> None:
        child = self._started
        if kind is None:
            self._warn(child.finish())
        else:
            child.close_streams()

    def _everything(self, name: str, join: bool) -> bytes:
        child = self._started
        stream = self._stream(name)
        self._warn(child.keep([stream], join))
        kept: bytes = stream.source.kept
        return kept
