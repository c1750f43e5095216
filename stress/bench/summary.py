"""The results of the measurements: times that count, ratios, limits. Pure.

If a case is pinned to one core, the least of its rounds counts, separately for wall and processor
time: other load can only add to it. On several cores, the placement by the scheduler can also make
a round faster, so the median counts.

A ratio above what is allowed, or memory above its limit, is information: machines differ. Only a
case that could not be measured, or whose result was wrong, is a failure.
"""

import statistics
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Optional, Sequence

from stress.bench.case import Case, Measurement, Times


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case at one of its amounts.

    Attributes:
        case: the case.
        amount: how much of it was measured.
        ours: our measurements.
        theirs: the other side's; empty if there is nothing to compare with.
        error: why it could not be measured.
        left_out: why that was not even tried.
    """

    case: Case[Any, Any]
    amount: int
    ours: Sequence[Measurement] = ()
    theirs: Sequence[Measurement] = ()
    error: str = ""
    left_out: str = ""

    @property
    def our_times(self) -> Optional[Times]:
        """The times that count of our rounds."""
        return self._times(self.ours)

    @property
    def their_times(self) -> Optional[Times]:
        """The times that count of theirs."""
        return self._times(self.theirs)

    def _times(self, rounds: Sequence[Measurement]) -> Optional[Times]:
        if not rounds:
            return None
        typical = min if self.case.pinned else statistics.median
        return Times(
            typical([one.seconds for one in rounds]), typical([one.processor for one in rounds])
        )

    @property
    def ratio(self) -> Optional[float]:
        """Our wall time over theirs."""
        if self.our_times is None or self.their_times is None:
            return None
        return self.our_times.seconds / self.their_times.seconds

    @property
    def processor_ratio(self) -> Optional[float]:
        """Our processor time over theirs."""
        if self.our_times is None or self.their_times is None or not self.their_times.processor:
            return None
        return self.our_times.processor / self.their_times.processor

    @property
    def too_slow(self) -> bool:
        """Whether the ratio is above what is allowed."""
        ratio, allowed = self.ratio, self.case.allowed
        return ratio is not None and allowed is not None and ratio > allowed

    @property
    def seconds_per_byte(self) -> Optional[float]:
        """Our wall time for each byte, where bytes are what is counted."""
        if self.our_times is None or self.case.unit != "bytes":
            return None
        return self.our_times.seconds / self.amount

    @property
    def memory(self) -> Optional[int]:
        """Our peak of memory in bytes; its growth if that is limited."""
        limits_growth = self.case.growth is not None
        return max((one.growth if limits_growth else one.peak for one in self.ours), default=None)

    @property
    def memory_limit(self) -> Optional[int]:
        """The limit of that."""
        if self.case.growth is not None:
            return self.case.growth
        return None if self.case.peak is None else int(self.case.peak * self.amount)

    @property
    def too_large(self) -> bool:
        """Whether it was more than allowed."""
        memory, limit = self.memory, self.memory_limit
        return memory is not None and limit is not None and memory > limit

    def to_json(self) -> Dict[str, Any]:
        """All of it, for machines: seconds and bytes."""
        return {
            "name": self.case.name,
            "group": self.case.group,
            "job": self.case.job,
            "amount": self.amount,
            "unit": self.case.unit,
            "against": self.case.against,
            "pinned": self.case.pinned,
            "ours": _side(self.our_times, self.ours),
            "theirs": _side(self.their_times, self.theirs),
            "ratio": self.ratio,
            "processor_ratio": self.processor_ratio,
            "allowed": self.case.allowed,
            "too_slow": self.too_slow,
            "memory": self.memory,
            "memory_limit": self.memory_limit,
            "memory_is_growth": self.case.growth is not None,
            "too_large": self.too_large,
            "error": self.error,
            "left_out": self.left_out,
        }


def _side(times: Optional[Times], rounds: Sequence[Measurement]) -> Dict[str, Any]:
    return {
        "seconds": None if times is None else times.seconds,
        "processor": None if times is None else times.processor,
        "rounds": [one._asdict() for one in rounds],
    }


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 if everything could be measured, whatever the ratios are."""
    return 1 if any(outcome.error for outcome in outcomes) else 0
