"""All of stdin into a child that writes nothing."""

import os
import subprocess
from typing import Optional

from process import DEVNULL, Process
from stress.bench.case import GIB, MIB, Case
from stress.bench.payload import pattern


def ours(data: bytes) -> Optional[int]:
    with Process(["cat"], stdin=data, stdout=DEVNULL, stderr=None) as child:
        child.join()
    return child.exit_code


def theirs(data: bytes) -> Optional[int]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=DEVNULL) as child:
        assert child.stdin is not None
        view = memoryview(data)
        while view:
            view = view[os.write(child.stdin.fileno(), view) :]
    return child.returncode


def _intact(data: bytes, exit_code: Optional[int]) -> bool:
    return exit_code == 0


CASES = (
    Case(
        name="feed",
        module=__name__,
        job="stdin bytes into cat >/dev/null",
        amounts=(GIB,),
        prepare=pattern,
        ours=ours,
        theirs=theirs,
        against="os.write of a memoryview in a loop",
        intact=_intact,
        allowed=1.10,
        growth=16 * MIB,
        memory=1,
        rounds=3,
    ),
)
