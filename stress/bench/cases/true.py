"""Small processes, one after the other."""

import subprocess
from typing import List, Optional, Tuple

from process import Process
from stress.bench.case import Case

#: Exit code, stdout and stderr of each.
Ends = List[Tuple[Optional[int], bytes, bytes]]


def ours(count: int) -> Ends:
    ends: Ends = []
    for _ in range(count):
        with Process(["/bin/true"]) as child:
            output, error = child.output(), child.error()
        ends.append((child.exit_code, output, error))
    return ends


def theirs(count: int) -> Ends:
    ends: Ends = []
    for _ in range(count):
        done = subprocess.run(["/bin/true"], capture_output=True, check=False)
        ends.append((done.returncode, done.stdout, done.stderr))
    return ends


def intact(count: int, ends: Ends) -> bool:
    return ends == [(0, b"", b"")] * count


CASES = (
    Case(
        name="true",
        module=__name__,
        job="/bin/true, both outputs captured",
        amounts=(300,),
        unit="processes",
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="subprocess.run(capture_output=True)",
        intact=intact,
        allowed=1.10,
    ),
)
