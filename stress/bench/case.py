"""Cases and their measurements."""

from dataclasses import dataclass
from typing import Callable, Generic, NamedTuple, Optional, Tuple, TypeVar

MIB = 1024**2
GIB = 1024**3

#: The input and the result of a job.
G = TypeVar("G")
R = TypeVar("R")


class Times(NamedTuple):
    """How long something took."""

    #: Wall time.
    seconds: float
    #: Processor time, including that of the children.
    processor: float


@dataclass(frozen=True)
class Case(Generic[G, R]):
    """One job, done by this library and in the standard library's way.

    Attributes:
        name: what the command line calls it.
        module: where it is, for the process that measures it.
        job: what is done, in a few words.
        amounts: how much of it; several where the case is measured at several sizes.
        unit: what the amount counts.
        prepare: makes what the job is given out of the amount; `int` where that is the amount.
        ours: does the job with this library.
        theirs: does the same as it is done without; `None` if there is nothing to compare with.
        against: what `theirs` uses, in a few words.
        intact: whether the result, for what was given, is what it should be.
        times: the times that count, if the job takes them itself; else they are those of the job.
        allowed: the largest ratio of our wall time to theirs.
        peak: the most memory of ours, in multiples of the amount.
        growth: the most bytes by which the job may make our memory grow.
        memory: what the side that needs more needs, in multiples of the amount.
        rounds: how often both are measured.
        group: what the command line calls the cases of this kind.
        pinned: whether the job and its children share one core, where the system supports it.
            Then the least of the rounds counts, else the median.
        limit: seconds until a measurement has failed.
        needs: a module that has to be installed.
    """

    name: str
    module: str
    job: str
    amounts: Tuple[int, ...]
    prepare: Callable[[int], G]
    ours: Callable[[G], R]
    intact: Callable[[G, R], bool]
    theirs: Optional[Callable[[G], R]] = None
    against: str = ""
    unit: str = "bytes"
    times: Optional[Callable[[R], Times]] = None
    allowed: Optional[float] = None
    peak: Optional[float] = None
    growth: Optional[int] = None
    memory: float = 0.0
    rounds: int = 5
    group: str = "jobs"
    pinned: bool = False
    limit: float = 120.0
    needs: str = ""


class Measurement(NamedTuple):
    """What one process has measured."""

    #: What the job took.
    seconds: float
    #: Its processor time, including its children.
    processor: float
    #: The most memory that the process has had, in bytes.
    peak: int
    #: By how much the job has raised that.
    growth: int
