"""The import itself, in a new interpreter each time."""

import os
import statistics
import subprocess
import sys
from typing import List

from stress.bench.case import Case, Times

_SCRIPT = """
import sys, time
sys.path[:] = {path!r}
begin, processor = time.perf_counter(), time.process_time()
import {module}
print(time.perf_counter() - begin, time.process_time() - processor)
"""


def _times_to_import(module: str) -> Times:
    script = _SCRIPT.format(path=sys.path, module=module)
    # The byte code of the standard library is cached already, so ours has to be, too.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True
    )
    return Times(*map(float, done.stdout.split()))


def ours(count: int) -> List[Times]:
    return [_times_to_import("process") for _ in range(count)]


def theirs(count: int) -> List[Times]:
    return [_times_to_import("subprocess") for _ in range(count)]


def _intact(count: int, times: List[Times]) -> bool:
    return len(times) == count


def _medians(times: List[Times]) -> Times:
    return Times(*map(statistics.median, zip(*times)))


CASES = (
    Case(
        name="import",
        module=__name__,
        job="import process, by itself",
        amounts=(25,),
        unit="interpreters",
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="import subprocess",
        intact=_intact,
        times=_medians,
        allowed=2.0,
    ),
)
