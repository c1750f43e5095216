"""The synchronous process."""

from _weakref import ref
from itertools import count
from typing import TYPE_CHECKING, Dict, Optional, Type

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


class _Run:
    """A call of `run`, for as long as it is referred to."""

    __slots__ = ("__weakref__",)


class Process(BaseProcess[StreamWriter, StreamReader, "Child"]):
    __doc__ = AbstractProcess.__doc__

    _default_buffer_size = DEFAULT_BUFFER_SIZE
    #: The calls of `run` under way, and the one that has run the process. Weak references: a call
    #: that was interrupted again and again, and so never concluded, is over when its frame is gone.
    _runs: "Dict[int, ref[_Run]]"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self._started.popen

    @property
    def _process(self) -> "Optional[subprocess.Popen[bytes]]":
        return None if self._child is None else self._child.popen

    def run(self) -> "Self":
        this_run = _Run()
        reference = ref(this_run)
        child: Optional[Child] = None
        try:
            try:
                self._begin(reference)
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
                self._conclude(reference, child)
        finally:
            self._conclude(reference, child)  # an exception may have struck in the middle of that
        self._stdin = None  # the thread has it now, and releases it once it is written
        return self

    def _begin(self, reference: "ref[_Run]") -> None:
        """Take the right to run the process.

        Each `setdefault` is one call into C, so that of two threads only one can have it.

        Raises:
            ProcessAlreadyRunError: another call has it.
        """
        runs: Dict[int, ref[_Run]] = vars(self).setdefault("_runs", {})
        for number in count():
            found = runs.setdefault(number, reference)
            if found is reference:
                return
            if self._child is not None or found() is not None:
                raise ProcessAlreadyRunError

    def _conclude(self, reference: "ref[_Run]", child: "Optional[Child]") -> None:
        """Complete what a `run` has done, or undo it. Done twice is as good as done."""
        if child is not None:
            if self._child is child:
                child.accept_offers()
            elif self._child is None:
                child.roll_back()
        if self._child is None:
            runs: Dict[int, ref[_Run]] = vars(self).get("_runs", {})
            for number, found in list(runs.items()):
                if found is reference:
                    runs.pop(number, None)

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
