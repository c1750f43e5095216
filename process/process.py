"""The synchronous process."""


import warnings
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, Type, Union, overload

from process._child import Child, Redirections, end, start
from process.constants import DEFAULT_BUFFER_SIZE
from process.core.constants import PIPE
from process.core.errors import (
    ProcessAlreadyRunError,
    ProcessError,
    ProcessNotRunError,
    ProcessTimeoutError,
)
from process.core.process import AbstractProcess, pick
from process.core.types import File, StrOrPath
from process.types import StreamReader, StreamWriter

if TYPE_CHECKING:
    import signal as signals
    import subprocess
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Process"]


class Process(AbstractProcess[StreamWriter, StreamReader]):
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
        super().__init__(arguments, stdin, stdout, stderr, size)  # type: ignore[arg-type]
        self._child: Optional[Child] = None
        #: Empty while somebody runs the process, and once it has been run.
        self._right_to_run: List[bool] = [True]

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self._started.popen

    @property
    def id(self) -> int:
        return self._started.popen.pid

    @property
    def exit_code(self) -> Optional[int]:
        return self._started.poll()

    @property
    def stdin(self) -> StreamWriter:
        stream: StreamWriter = pick(self._started.stdin, "stdin")
        return stream

    @property
    def stdout(self) -> StreamReader:
        stream: StreamReader = pick(self._started.stdout, "stdout")
        return stream

    @property
    def stderr(self) -> StreamReader:
        stream: StreamReader = pick(self._started.stderr, "stderr")
        return stream

    def run(self) -> "Self":
        try:
            self._right_to_run.pop()
        except IndexError:
            raise ProcessAlreadyRunError from None
        try:
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

    def signal(self, signal: "signals.Signals") -> None:
        self._started.send_signal(signal)

    def terminate(self) -> None:
        self._started.popen.terminate()

    def kill(self) -> None:
        self._started.popen.kill()

    def close(self) -> None:
        child = self._started
        if child.popen.poll() is None:
            child.popen.terminate()
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

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None:
            end([child])

    @property
    def _started(self) -> Child:
        if self._child is None:
            raise ProcessNotRunError
        return self._child

    def _everything(self, name: str, join: bool) -> bytes:
        child = self._started
        stream = pick(getattr(child, name), name)
        self._warn(child.keep([stream], join))
        kept: bytes = stream.source.kept
        return kept

    def _warn(self, open_ones: List[str]) -> None:
        for name in open_ones:
            warnings.warn(
                f"{self!r}: another process holds {name.partition('-')[2]} open; it was taken as "
                "finished after a second of silence",
                RuntimeWarning,
                stacklevel=3,
            )

    def _state(self) -> "List[Tuple[str, Any]]":
        child = self._child
        if child is None:
            return []
        code = child.popen.poll()
        streams = [(name, getattr(child, name)) for name in ("stdin", "stdout", "stderr")]
        return [
            ("id", child.popen.pid),
            ("running", code is None),
            ("exit_code", code),
            *((name, stream) for name, stream in streams if stream is not None),
        ]
