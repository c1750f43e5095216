"""One measurement: `python -m stress.bench.measure MODULE ours|theirs AMOUNT`.

Prints a `Measurement` as JSON. A process of its own, since neither what has been imported nor what
memory has once been used can be undone.
"""

import importlib
import json
import resource
import sys
import time
from typing import Any

from stress.bench.case import Case, Measurement

#: Descriptors that the largest crowd needs, and some more: often fewer are allowed by default.
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
    work(case.prepare(1))  # what is made or imported on first use is there from now on
    given = case.prepare(amount)
    before = _peak()
    begin = time.perf_counter()
    result = work(given)
    seconds = time.perf_counter() - begin
    peak = _peak()
    if not case.intact(given, result):
        raise ValueError(f"{case.name}: the result of {side} is wrong")
    if case.seconds is not None:
        seconds = case.seconds(result)
    return Measurement(seconds, peak, peak - before)


def _peak() -> int:
    """The most bytes of memory that this process has had.

    Linux counts what the process that started this one had at the time: a floor of tens of MiB.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(module: str, side: str, amount: int) -> None:
    """Measure and print."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))
    case = importlib.import_module(module).CASE
    print(json.dumps(measure(case, side, amount)._asdict()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
