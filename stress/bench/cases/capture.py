"""All that a child writes, as one `bytes` object."""

import subprocess

from process import Process
from stress.bench.case import GIB, Case
from stress.bench.payload import all_zero, zeros


def ours(size: int) -> bytes:
    with Process(zeros(size)) as child:
        return child.output()


def theirs(size: int) -> bytes:
    return subprocess.run(zeros(size), capture_output=True, check=True).stdout


CASES = (
    Case(
        name="capture",
        module=__name__,
        job="all of stdout by output()",
        amounts=(GIB,),
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="subprocess.run(capture_output=True)",
        intact=all_zero,
        allowed=0.40,
        peak=1.1,
        memory=2,
        rounds=3,
    ),
)
