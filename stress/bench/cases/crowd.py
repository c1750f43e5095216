"""Many processes at once, each in its own thread of the caller."""

import operator
import threading
from typing import Callable, List

from stress.bench.case import MIB, Case
from stress.bench.cases import echo
from stress.bench.payload import pattern


def _inputs(count: int) -> List[bytes]:
    return [pattern(MIB, seed) for seed in range(count)]


def _all_at_once(work: Callable[[bytes], bytes], inputs: List[bytes]) -> List[bytes]:
    results = [b""] * len(inputs)

    def one(index: int) -> None:
        results[index] = work(inputs[index])

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def ours(inputs: List[bytes]) -> List[bytes]:
    return _all_at_once(echo.ours, inputs)


def theirs(inputs: List[bytes]) -> List[bytes]:
    return _all_at_once(echo.theirs, inputs)


CASES = (
    Case(
        name="crowd",
        module=__name__,
        job="1 MiB through each of many cats, a thread for each",
        amounts=(200,),
        unit="threads",
        prepare=_inputs,
        ours=ours,
        theirs=theirs,
        against="subprocess.run(input=...)",
        intact=operator.eq,
        allowed=1.00,
    ),
)
