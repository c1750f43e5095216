"""The synchronous process."""

from _weakref import ref
from functools import partial
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Type

from process._interpreter import import_uninterrupted, raised_by_signal_handler
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
    #: What the finalizer calls. Whenever that is possible it is a call into C, in which no signal
    #: handler can run: what a handler raises in a finalizer is lost.
    _finalize: Callable[[], object] = bool

    __del__: Any = property(attrgetter("_finalize"))

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
        unfinished: List[Callable[[], object]] = []
        try:
            try:
                self._begin(reference)
                # Imported here: `import process` is cheap, and a failure has a name.
                _child = import_uninterrupted("process.threads._child")
                check_arguments(self._arguments)
                redirections = (self._stdin, self._stdout, self._stderr)
                made: Child = _child.Child()
                child = made
                # A handler that raises again and again may keep this call from concluding.
                unfinished.append(partial(self._conclude, reference, made))
                _child.finish_after(this_run, unfinished)
                _child.start(made, self._arguments, redirections, self._buffer_size)
                self._finalize = made.drop
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
            self._conclude(reference, child)  # an exception may have been raised in the middle
            unfinished.clear()
        self._stdin = None  # the thread has it now, and releases it once it is written
        return self

    def _begin(self, reference: "ref[_Run]") -> None:
        """Take the right to run the process.

        Each `setdefault` is one call into C, so that of two threads only one can have it.

        Raises:
            ProcessAlreadyRunError: another call has it.
        """
        runs: Dict[int, ref[_Run]] = vars(self).setdefault("_runs", {})
        for number in count():  # pragma: no branch - it has no end
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
            else:
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
        child = self._started
        if not child.wait(normalize_timeout(timeout)):
            raise ProcessTimeoutError(f"Process did not complete within {timeout} seconds")
        self._settle(child)

    def close(self) -> None:
        child = self._started
        open_ones = child.close()
        self._settle(child)
        self._warn(open_ones, stacklevel=3)

    def __enter__(self) -> "Self":
        return self.run()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: "Optional[TracebackType]",
    ) -> None:
        child = self._started
        open_ones: List[str] = []
        try:
            if kind is None:
                open_ones = child.finish()
            else:
                child.close_streams()
        finally:
            try:
                self._settle_interrupted(child)
            finally:
                # An exception may have been raised in the middle of that.
                self._settle_interrupted(child)
        self._warn(open_ones, stacklevel=3)

    def _settle(self, child: "Child") -> None:
        """Leave nothing to the finalizer if there is nothing to end."""
        if child.over:
            self._finalize()  # it may be a thread that waits
            self._finalize = bool  # afterwards: an exception in between does no harm

    def _settle_interrupted(self, child: "Child") -> None:
        """`_settle`, or leave the end of the child to another thread. May be done twice."""
        if not child.over:
            self._finalize = child.drop_elsewhere()
        self._settle(child)

    def _everything(self, name: str, join: bool) -> bytes:
        child = self._started
        self._stream(name)
        source = child.source(name)
        self._warn(child.keep([source], join), stacklevel=4)
        source.reader.check()
        return source.inbound.kept
