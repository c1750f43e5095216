"""A capture in one thread while another computes in pure Python."""

import subprocess
import threading
from typing import Callable, List

from stress.bench.case import MIB, Case
from stress.bench.cases import capture
from stress.bench.payload import all_zero, zeros


def _beside_a_computation(work: Callable[[int], bytes], size: int) -> bytes:
    results: List[bytes] = []
    thread = threading.Thread(target=lambda: results.append(work(size)))
    thread.start()
    number = 0
    while thread.is_alive():
        for _ in range(1000):
            number = (number * 31 + 7) % 1_000_003
    return results[0]


def _communicate(size: int) -> bytes:
    pipe = subprocess.PIPE
    with subprocess.Popen(zeros(size), stdout=pipe, stderr=pipe) as child:
        return child.communicate()[0]


def ours(size: int) -> bytes:
    return _beside_a_computation(capture.ours, size)


def theirs(size: int) -> bytes:
    return _beside_a_computation(_communicate, size)


CASES = (
    Case(
        name="busy",
        module=__name__,
        job="all of stdout in a thread, while another computes",
        amounts=(64 * MIB,),
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="Popen.communicate() in a thread",
        intact=all_zero,
        allowed=0.15,
    ),
)
