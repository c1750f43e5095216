"""Faults by other activity in the same program: forks, collections, onlookers."""

import contextlib
import gc
import os
import signal
import time
from typing import Any

from process import Process, ProcessError, ProcessTimeoutError
from stress.faults import child
from stress.faults.fault import Striking

#: Seconds after which a fork that does next to nothing has hung.
_STUCK = 20.0


class Forks(Striking):
    """Another thread forks, and the fork runs for a moment."""

    name = "forks"
    most = 10

    def strike(self) -> None:
        what = self.random.randrange(3)
        pid = os.fork()
        if pid == 0:
            # As little as possible, since locks of other threads may stay locked.
            if what == 1:
                gc.collect()
            elif what == 2:
                time.sleep(0.01)
            os._exit(0)
        self.struck()
        deadline = time.monotonic() + _STUCK
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                self.play.problems.append(f"a fork is stuck (it was to do thing {what})")
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(0.001)


class Collections(Striking):
    """The collector runs in any thread, and finds processes that were dropped."""

    name = "collections"
    most = 20

    def begin(self) -> None:
        self._threshold = gc.get_threshold()
        gc.set_threshold(50, 2, 2)
        super().begin()

    def end(self) -> None:
        super().end()
        gc.set_threshold(*self._threshold)

    def strike(self) -> None:
        self.struck()
        if self.random.random() < 0.3:
            with contextlib.suppress(ProcessError):  # there may be a shortage
                dropped: Any = Process(child.command(stdout=1_000_000)).run()
                dropped.myself = dropped
        gc.collect(self.random.randrange(3))


class Onlookers(Striking):
    """Another thread polls the process, and joins it briefly."""

    name = "onlookers"

    def strike(self) -> None:
        target = self.play.target
        if target is None:
            return
        self.struck()
        repr(target)
        _ = target.running
        with contextlib.suppress(ProcessTimeoutError):
            target.join(timeout=self.random.uniform(0, 0.01))


FAULTS = (Forks, Collections, Onlookers)
