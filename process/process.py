"""The synchronous process."""

from typing import TYPE_CHECKING, Optional, Type

from process._interpreter import raised_by_signal_handler
from process.constants import DEFAULT_BUFFER_SIZE
from process.core._base import BaseProcess, normalize_timeout
from process.core.errors import (
    ProcessAlreadyRunError,
    ProcessError,
    ProcessTimeoutError,
)
from process.core.process import AbstractProcess, check_arguments
from process.types import StreamReader, StreamWriter

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

    from typing_extensions import Self

    from process.threads._child import Child

__all__ = ["Process"]


class Process(BaseProcess[StreamWriter, StreamReader, "Child"]):
    __doc__ = AbstractProcess.__doc__

    _default_buffer_size = DEFAULT_BUFFER_SIZE
    #: Set while a call runs the process, and once it has been run.
    _runner: object

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self._started.popen

    @property
    def _process(self) -> "Optional[subprocess.Popen[bytes]]":
        return None if self._child is None else self._child.popen

    def run(self) -> "Self":
        runner = object()
        child: Optional[Child] = None
        try:
            try:
                # One call into C, so that of two threads only one can have it.
                if vars(self).setdefault("_runner", runner) is not runner:
                    raise ProcessAlreadyRunError
                # Imported here: `import process` is cheap, and a failure has a name.
                from process._lifecycle import Redirections
                from process.threads import _child

                check_arguments(self._arguments)
                redirections = Redirections(self._stdin, self._stdout, self._stderr)
                child = _child.Child()
                _child.start(child, self._arguments, redirections, self._buffer_size)
                self._child = child
            except ProcessAlreadyRunError:
                raise
            except Exception as error:
                if raised_by_signal_handler(error):
                    raise
                raise ProcessError(f"Failed to run process: {error!r}") from error
            finally:
                self._conclude(runner, child)
        finally:
            self._conclude(runner, child)  # an exception may have struck in the middle of that
        self._stdin = None  # the thread has it now, and releases it once it is written
        return self

    def _conclude(self, runner: object, child: "Optional[Child]") -> None:
        """Complete what a `run` has done, or undo it. Done twice is as good as done."""
        if child is not None:
            if self._child is child:
                child.accept_offers()
            elif self._child is None:
                child.roll_back()
        if self._child is None and vars(self).get("_runner") is runner:
            del self._runner

    def output(self, join: bool = True) -> bytes:
        return self._everything("stdout", join)

    def error(self, join: bool = True) -> bytes:
        return self._everything("stderr", join)

    def join(self, timeout: Optional[float] = None) -> None:
        if not self._started.wait(normalize_timeout(timeout)):
            raise ProcessTimeoutError(f"Process did not complete within {timeout} seconds")

    def close(self) -> None:
        self._warn(self._started.close(), stacklevel=3)

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
            self._warn(child.finish(), stacklevel=3)
        else:
            child.close_streams()

    def _everything(self, name: str, join: bool) -> bytes:
        child = self._started
        self._stream(name)
        source = child.source(name)
        self._warn(child.keep([source], join), stacklevel=4)
        source.reader.check()
        return source.kept
