"""All of stdin through `cat` and back, as one `bytes` object each way."""

import operator
import subprocess

from process import Process
from stress.bench.case import GIB, Case
from stress.bench.payload import pattern


def ours(data: bytes) -> bytes:
    with Process(["cat"], stdin=data) as child:
        return child.output()


def theirs(data: bytes) -> bytes:
    return subprocess.run(["cat"], input=data, capture_output=True, check=True).stdout


CASES = (
    Case(
        name="echo",
        module=__name__,
        job="stdin bytes through cat and back by output()",
        amounts=(GIB,),
        prepare=pattern,
        ours=ours,
        theirs=theirs,
        against="subprocess.run(input=...)",
        intact=operator.eq,
        allowed=0.60,
        peak=2.1,
        memory=3,
        rounds=3,
    ),
)
