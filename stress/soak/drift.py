"""Whether anything grows: samples over time, and the verdict on them.

A collector's memory varies with its work, so a single sample says little. A leak raises the floor:
the least memory in each of a number of windows of time. Its slope is
estimated as the median of the slopes between all pairs of windows (Theil and Sen), which one odd
window cannot move.
"""

import math
import statistics
from itertools import combinations
from typing import List, NamedTuple, Sequence, Tuple

MIB = 1024 * 1024

#: Bytes an hour that the floor of the memory may rise.
ALLOWED = 1 * MIB
#: Seconds below which a slope says nothing about an hour, and the bytes by which the floor may have
#: risen until then: allocators need a while to find their size.
_SHORT = 600.0
_NOISE = 16 * MIB
#: Part of the time, and seconds at most, in which sizes may still grow.
_WARM_UP, _LONGEST_WARM_UP = 0.2, 180.0
_WINDOWS = 40


class Sample(NamedTuple):
    """What a process had at one point in time."""

    seconds: float
    #: Bytes in memory.
    memory: int
    #: Bytes in temporary files.
    overflow: int
    descriptors: int
    threads: int
    #: Verified so far.
    lines: int
    bytes: int


class Verdict(NamedTuple):
    """The verdict on a collector."""

    #: Bytes an hour by which the floor of the memory rises; not a number if the time was too short.
    slope: float
    #: Bytes by which it has risen in all.
    growth: float
    #: How many more there always were in the last third than there ever were in the first.
    descriptors: int
    threads: int
    #: What is wrong, in words.
    problems: Tuple[str, ...]


def floor(samples: Sequence[Sample]) -> List[Tuple[float, int]]:
    """The least memory in each of a number of windows of time, and its time."""
    count = min(_WINDOWS, len(samples))
    edges = [len(samples) * index // count for index in range(count + 1)]
    lowest = [
        min(samples[begin:end], key=lambda sample: sample.memory)
        for begin, end in zip(edges, edges[1:])
    ]
    return [(sample.seconds, sample.memory) for sample in lowest]


def slope(points: Sequence[Tuple[float, float]]) -> float:
    """The slope of a line through points, by the median of all pairs; not a number below two."""
    slopes = [
        (second[1] - first[1]) / (second[0] - first[0])
        for first, second in combinations(points, 2)
        if second[0] > first[0]
    ]
    return statistics.median(slopes) if slopes else math.nan


def warm(samples: Sequence[Sample]) -> List[Sample]:
    """The samples after the warm-up."""
    if not samples:
        return []
    warm_up = min(_WARM_UP * samples[-1].seconds, _LONGEST_WARM_UP)
    return [sample for sample in samples if sample.seconds >= warm_up]


def _more(samples: Sequence[Sample], field: str) -> int:
    """What there is more of in the end than at the beginning. It varies with the work."""
    numbers = [int(getattr(sample, field)) for sample in samples]
    third = -(-len(numbers) // 3)
    return max(0, min(numbers[-third:]) - max(numbers[:third]))


def judge(samples: Sequence[Sample], problems: Sequence[str] = ()) -> Verdict:
    """The verdict on a collector.

    Args:
        samples: in order.
        problems: that are known already.
    """
    found = list(problems)
    looked_at = warm(samples)
    if len(looked_at) < 2:
        return Verdict(math.nan, 0, 0, 0, (*found, "it has not run for long enough"))
    points = floor(looked_at)
    seconds = points[-1][0] - points[0][0]
    growth = slope(points) * seconds
    hourly = slope(points) * 3600 if seconds >= _SHORT else math.nan
    if hourly > ALLOWED:
        found.append(f"memory rises by {hourly / MIB:.1f} MiB an hour")
    if math.isnan(hourly) and growth > _NOISE:
        found.append(f"memory has risen by {growth / MIB:.1f} MiB")
    more = []
    for field in ("descriptors", "threads"):
        more.append(_more(looked_at, field))
        if more[-1]:
            found.append(f"{more[-1]} {field} more than at first")
    if looked_at[-1].bytes == looked_at[len(looked_at) // 2].bytes:
        found.append("it has stood still")
    return Verdict(hourly, growth, more[0], more[1], tuple(found))
