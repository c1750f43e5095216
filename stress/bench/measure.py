"""One measurement: `python -m stress.bench.measure MODULE NAME ours|theirs AMOUNT`.

Prints a `Measurement` as JSON. This is a separate process, since imports and the peak of memory
cannot be undone.
"""

import importlib
import json
import os
import resource
import sys
import time
from typing import Any

from stress.bench.case import Case, Measurement, Times
from stress.bench.clock import processor_seconds

#: Descriptors that the largest crowd needs, and some more: the default limit is often lower.
_DESCRIPTORS = 8192


def measure(case: Case[Any, Any], side: str, amount: int) -> Measurement:
    """Do the job once.

    Args:
        case: the case.
        side: `ours` or `theirs`.
        amount: how much of it.

    Raises:
        ValueError: the result is not what it should be.
    """
    work = case.ours if side == "ours" else case.theirs
    assert work is not None, "there is nothing to compare with"
    work(case.prepare(1))  # creates and imports what is needed on first use
    given = case.prepare(amount)
    before = _peak()
    processor, begin = processor_seconds(), time.perf_counter()
    result = work(given)
    times = Times(time.perf_counter() - begin, processor_seconds() - processor)
    peak = _peak()
    if not case.intact(given, result):
        shown = f": {result}" if isinstance(result, (int, tuple)) else ""
        raise ValueError(f"{case.name}: the result of {side} is wrong{shown}")
    if case.times is not None:
        times = case.times(result)
    return Measurement(*times, peak, peak - before)


def _peak() -> int:
    """The most bytes of memory that this process has had.

    On Linux this includes what the parent had at the time: a floor of tens of MiB.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def pin() -> None:
    """Stay on one core from now on, with all children, where the system supports it.

    On several, waking a process or a thread costs 4 or 70 µs, depending on where the scheduler
    places it. Interrupts and other programs use the last core least.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main(module: str, name: str, side: str, amount: int) -> None:
    """Measure and print."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))
    cases = importlib.import_module(module).CASES
    case = next(case for case in cases if case.name == name)
    if case.pinned:
        pin()
    print(json.dumps(measure(case, side, amount)._asdict()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
