"""A stream read in pieces of one size."""

import operator
import subprocess
from typing import Callable

from process import Process
from stress.bench.case import GIB, Case
from stress.bench.payload import zeros

_PIECE = 65536


def _drain(read: Callable[[int], bytes]) -> int:
    size = 0
    while True:
        piece = read(_PIECE)
        if not piece:
            return size
        size += len(piece)


def ours(size: int) -> int:
    with Process(zeros(size), stderr=None) as child:
        return _drain(child.stdout.read)


def theirs(size: int) -> int:
    with subprocess.Popen(zeros(size), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        return _drain(child.stdout.read)


CASES = (
    Case(
        name="read",
        module=__name__,
        job=f"stdout.read({_PIECE}) to the end",
        amounts=(2 * GIB,),
        prepare=int,
        ours=ours,
        theirs=theirs,
        against=f"Popen.stdout.read({_PIECE})",
        intact=operator.eq,
        allowed=1.10,
        rounds=3,
    ),
)
