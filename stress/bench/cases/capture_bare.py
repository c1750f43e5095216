"""All that a child writes, against the least work that reads it."""

import subprocess

from process import Process
from stress.bench.case import GIB, Case
from stress.bench.payload import all_zero, zeros


def ours(size: int) -> bytes:
    with Process(zeros(size), stderr=None) as child:
        return child.output()


def theirs(size: int) -> bytes:
    with subprocess.Popen(zeros(size), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        return child.stdout.read()


CASES = (
    Case(
        name="capture-bare",
        module=__name__,
        job="all of stdout by output(), stderr not piped",
        amounts=(GIB,),
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="Popen(...).stdout.read()",
        intact=all_zero,
        allowed=1.15,
        memory=2,
        rounds=3,
    ),
)
