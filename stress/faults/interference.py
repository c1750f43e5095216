"""Faults that affect the child, or interrupt the caller's calls."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Optional

import process as library
from stress.faults.fault import Fault, Striking
from stress.faults.round import Interrupted, Round

_LIBRARY = str(Path(library.__file__).parent) + os.sep


class Kill(Striking):
    """The child is killed."""

    name = "kill"
    pause = 0.03

    def strike(self) -> None:
        if self.play.signal(signal.SIGKILL, cuts=True):
            self.struck()


class Stop(Striking):
    """The child is stopped, and continued."""

    name = "stop"

    def strike(self) -> None:
        if self.play.signal(signal.SIGSTOP):
            self.wait(0.03)
            self.play.signal(signal.SIGCONT)
            self.struck()

    def end(self) -> None:
        super().end()
        self.play.signal(signal.SIGCONT)


class Shut(Striking):
    """One of the streams is closed while it is used."""

    name = "shut"
    pause = 0.03

    def strike(self) -> None:
        target = self.play.target
        if target is None:
            return
        # A descriptor that is closed while its number is in use is the caller's own fault.
        own = self.play.plan.work == "descriptor"
        streams = [target.stderr] if own else [target.stdout, target.stderr]
        if self.play.plan.work == "talk":
            streams.append(target.stdin)
        self.play.ledger.cut_short = True
        self.struck()
        self.play.do(self.random.choice(streams).close)


class _Alarm(Fault):
    """Signals at a high rate, from a timer."""

    #: The time between two signals on the average, in seconds.
    pause: ClassVar[float]

    def begin(self) -> None:
        self._over = False
        self._before = signal.signal(signal.SIGALRM, self.handle)
        self.again()

    def end(self) -> None:
        self._over = True  # a handler that is about to run sets the timer no more
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def again(self) -> None:
        """Wait for the next signal."""
        if not self._over:
            pause = 1e-6 + self.random.expovariate(1 / self.pause)
            signal.setitimer(signal.ITIMER_REAL, pause)

    def handle(self, number: int, frame: Optional[FrameType]) -> Any:
        """A signal has come."""
        self.struck()
        self.again()


class Storm(_Alarm):
    """Signals whose handler does nothing."""

    name = "storm"
    pause = 0.0005


class Interrupts(_Alarm):
    """Signals whose handler raises at any point of the library.

    Not in a finalizer, where Python prints the exception and drops it. Not in the caller's own
    code, where a returned result would be dropped before it is stored. And only once in each call:
    a second exception does not interrupt the clean-up after the first.
    """

    name = "interrupts"
    pause = 0.001
    _most = 200

    def __init__(self, play: Round) -> None:
        super().__init__(play)
        self._left = self._most

    def handle(self, number: int, frame: Optional[FrameType]) -> Any:
        self.again()
        if not self._left or not self.play.may_be_interrupted or not _in_library(frame):
            return
        self._left -= 1
        self.struck()
        self.play.may_be_interrupted = False
        raise Interrupted


def _in_library(frame: Optional[FrameType]) -> bool:
    if frame is None or not frame.f_code.co_filename.startswith(_LIBRARY):
        return False
    caller: Optional[FrameType] = frame
    while caller is not None:
        if caller.f_code.co_name == "__del__":
            return False
        caller = caller.f_back
    return True


class Cancels(Fault):
    """Tasks are cancelled in the middle of their calls."""

    name = "cancels"
    _most = 60

    def begin(self) -> None:
        self.play.patience = self._draw
        self._left = self._most

    def _draw(self) -> Optional[float]:
        if not self._left:
            return None
        self._left -= 1
        self.struck()
        return self.random.choice((0, self.random.expovariate(1 / 0.005)))


FAULTS = (Kill, Stop, Shut, Storm, Interrupts, Cancels)
