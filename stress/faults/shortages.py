"""Faults that take away what the library needs: descriptors, threads, files."""

import contextlib
import resource
import tempfile
import threading
from pathlib import Path
from typing import Any, Iterator

from stress.faults.fault import Fault, Striking
from stress.faults.round import Round

_MIB = 1024 * 1024


class Descriptors(Striking):
    """There are hardly any descriptors left, for a short time.

    With asyncio only while a process is started, in the same thread: between the library's look and
    the loop's use another thread must not take them (see `docs/gotchas.md`).
    """

    name = "descriptors"
    _longest = 0.005
    _attempts = 3

    def __init__(self, play: Round) -> None:
        super().__init__(play)
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._failures = 0

    def begin(self) -> None:
        if self.play.is_async:
            self.play.starting = self._starting
        else:
            super().begin()

    def end(self) -> None:
        if not self.play.is_async:
            super().end()

    def strike(self) -> None:
        with self._few():
            self.wait(self._longest)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        if self._failures == self._attempts:
            yield
            return
        self._failures += 1
        with self._few():
            yield

    @contextlib.contextmanager
    def _few(self) -> Iterator[None]:
        top = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
        limit = top + self.random.randrange(12)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self._limits[1]))
        self.struck()
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


class Threads(Fault):
    """Threads of the library sometimes cannot be started."""

    name = "threads"

    def begin(self) -> None:
        self._start: Any = threading.Thread.start
        fault, start = self, self._start

        def start_or_not(thread: threading.Thread) -> None:
            if thread.name.startswith("process-") and fault.random.random() < 0.3:
                fault.struck()
                raise RuntimeError("can't start new thread")
            start(thread)

        threading.Thread.start = start_or_not  # type: ignore[assignment,method-assign]

    def end(self) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign]


class Files(Striking):
    """Temporary files sometimes cannot be created or written."""

    name = "files"

    def __init__(self, play: Round) -> None:
        super().__init__(play)
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._directory = tempfile.gettempdir()

    def strike(self) -> None:
        self.struck()
        try:
            if self.random.random() < 0.5:
                tempfile.tempdir = str(Path(self._directory, "no such directory"))
            else:
                limit = self.random.randrange(_MIB)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, self._limits[1]))
            self.wait(0.05)
        finally:
            tempfile.tempdir = self._directory
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


FAULTS = (Descriptors, Threads, Files)
