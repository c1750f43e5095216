"""The base of all faults: a thread that injects them at random times."""

import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from types import TracebackType
from typing import ClassVar, Optional, Type

from stress.faults.round import Round


class Fault(AbstractContextManager[None], ABC):
    """A fault that occurs for as long as the `with` block lasts."""

    #: Its name in plans.
    name: ClassVar[str]

    def __init__(self, play: Round) -> None:
        self.play = play
        self.random = play.plan.random(self.name)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.end()

    @abstractmethod
    def begin(self) -> None:
        """Begin to inject the fault."""

    def end(self) -> None:
        """Stop injecting the fault."""

    def struck(self) -> None:
        """Count a strike."""
        self.play.strikes[self.name] += 1


class Striking(Fault):
    """A fault that a separate thread injects repeatedly."""

    #: The pause between two strikes on the average, in seconds.
    pause: ClassVar[float] = 0.005
    #: How often it strikes at most.
    most: ClassVar[int] = 50

    def __init__(self, play: Round) -> None:
        super().__init__(play)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fault-{self.name}")

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        for _ in range(self.most):
            if self._over.wait(self.random.expovariate(1 / self.pause)):
                return
            self.strike()

    def wait(self, longest: float) -> None:
        """Sleep for a random time in the middle of a strike."""
        self._over.wait(self.random.uniform(0, longest))

    @abstractmethod
    def strike(self) -> None:
        """Do it once."""
