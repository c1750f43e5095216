"""The import itself, in a new interpreter each time."""

import os
import statistics
import subprocess
import sys
from typing import List

from stress.bench.case import Case

_SCRIPT = """
import sys, time
sys.path[:] = {path!r}
begin = time.perf_counter()
import {module}
print(time.perf_counter() - begin)
"""


def _seconds_to_import(module: str) -> float:
    script = _SCRIPT.format(path=sys.path, module=module)
    # The byte code of the standard library is cached already: ours has to be allowed to be.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


def ours(count: int) -> List[float]:
    return [_seconds_to_import("process") for _ in range(count)]


def theirs(count: int) -> List[float]:
    return [_seconds_to_import("subprocess") for _ in range(count)]


def _intact(count: int, seconds: List[float]) -> bool:
    return len(seconds) == count


CASE = Case(
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
    seconds=statistics.median,
    allowed=2.0,
)
