"""What the measurements say: medians, ratios, limits. Pure.

A ratio above what is allowed, or memory above its limit, is information: machines differ. Only a
case that could not be measured, or whose result was wrong, is a failure.
"""

import statistics
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Optional, Sequence

from stress.bench.case import Case, Measurement


@dataclass(frozen=True)
class Outcome:
    """What has become of one case at one of its amounts.

    Attributes:
        case: the case.
        amount: how much of it was measured.
        ours: our measurements.
        theirs: the other side's; none where there is nothing to compare with.
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
    def our_seconds(self) -> Optional[float]:
        """Our median."""
        return _median(self.ours)

    @property
    def their_seconds(self) -> Optional[float]:
        """Their median."""
        return _median(self.theirs)

    @property
    def ratio(self) -> Optional[float]:
        """Our median over theirs."""
        if self.our_seconds is None or self.their_seconds is None:
            return None
        return self.our_seconds / self.their_seconds

    @property
    def too_slow(self) -> bool:
        """Whether the ratio is above what is allowed."""
        ratio, allowed = self.ratio, self.case.allowed
        return ratio is not None and allowed is not None and ratio > allowed

    @property
    def seconds_per_byte(self) -> Optional[float]:
        """Our median for each byte, where bytes are what is counted."""
        if self.our_seconds is None or self.case.unit != "bytes":
            return None
        return self.our_seconds / self.amount

    @property
    def memory(self) -> Optional[int]:
        """The most bytes of memory of ours: in all, or by how many it grew if that is limited."""
        limits_growth = self.case.growth is not None
        return max((one.growth if limits_growth else one.peak for one in self.ours), default=None)

    @property
    def memory_limit(self) -> Optional[int]:
        """What is allowed of that."""
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
            "job": self.case.job,
            "amount": self.amount,
            "unit": self.case.unit,
            "against": self.case.against,
            "ours": _side(self.ours),
            "theirs": _side(self.theirs),
            "ratio": self.ratio,
            "allowed": self.case.allowed,
            "too_slow": self.too_slow,
            "memory": self.memory,
            "memory_limit": self.memory_limit,
            "memory_is_growth": self.case.growth is not None,
            "too_large": self.too_large,
            "error": self.error,
            "left_out": self.left_out,
        }


def _median(measurements: Sequence[Measurement]) -> Optional[float]:
    return statistics.median(one.seconds for one in measurements) if measurements else None


def _side(measurements: Sequence[Measurement]) -> Dict[str, Any]:
    return {
        "median": _median(measurements),
        "seconds": [one.seconds for one in measurements],
        "peak": [one.peak for one in measurements],
        "growth": [one.growth for one in measurements],
    }


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 if everything could be measured, whatever the ratios are."""
    return 1 if any(outcome.error for outcome in outcomes) else 0
