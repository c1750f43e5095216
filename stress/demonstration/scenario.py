"""Scenarios and their outcomes."""

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, ClassVar, List, NamedTuple, Tuple

from stress.pattern import difference

#: What a scenario gets: the bytes of the child, or its exit code. (`Any`, because what the standard
#: library returns is left untyped; see `scenarios.plain`.)
Result = Any


class Library(Enum):
    """What runs the child; the value is the method of `Scenario` that is played."""

    POPEN = "popen"
    PROCESS = "process"
    ASYNCIO = "asyncio"
    ASYNC_PROCESS = "async_process"

    @property
    def ours(self) -> bool:
        """Whether it is this library."""
        return self in (Library.PROCESS, Library.ASYNC_PROCESS)

    @property
    def title(self) -> str:
        """Its name, as users write it."""
        return {
            Library.POPEN: "subprocess.Popen",
            Library.PROCESS: "Process",
            Library.ASYNCIO: "asyncio.subprocess",
            Library.ASYNC_PROCESS: "AsyncProcess",
        }[self]


class Outcome(Enum):
    """The outcome of a scenario."""

    PASSED = "passed"
    HUNG = "hung"
    LOST = "bytes lost"
    ERROR = "error"
    LEAKED = "leaked"


class Play(NamedTuple):
    """One scenario, played with one library."""

    outcome: Outcome
    #: How long it took; if it hung, how long it was waited for.
    seconds: float
    #: Details of the outcome, if any.
    detail: str = ""


class Scenario(ABC):
    """One use of a child, written four times in the same way."""

    name: ClassVar[str]
    #: The rule of the contract that it is about.
    rule: ClassVar[int]
    #: What makes it a trap.
    trap: ClassVar[str]
    expected: ClassVar[Result]
    #: Whether it is about something that Windows does not have.
    posix: ClassVar[bool] = False

    @abstractmethod
    def popen(self) -> Result:
        """With `subprocess.Popen`."""

    @abstractmethod
    def process(self) -> Result:
        """With `Process`."""

    @abstractmethod
    async def asyncio(self) -> Result:
        """With `asyncio.subprocess`."""

    @abstractmethod
    async def async_process(self) -> Result:
        """With `AsyncProcess`."""


def judge(expected: Result, got: Result, leaks: List[str]) -> Tuple[Outcome, str]:
    """The outcome of a scenario that has ended, with details."""
    if isinstance(expected, bytes) and isinstance(got, bytes):
        differs = difference(expected, got)
        if differs is not None:
            return Outcome.LOST, differs
    elif got != expected:
        return Outcome.ERROR, f"exit code {got}"
    if leaks:
        return Outcome.LEAKED, ", ".join(leaks)
    return Outcome.PASSED, ""
