"""A conversation: each line is answered before the next is sent."""

import operator
import subprocess
from typing import IO, Union

from process import PIPE, Process
from process.types import StreamReader, StreamWriter
from stress.bench.case import Case


def _converse(
    count: int, stdin: Union[StreamWriter, IO[bytes]], stdout: Union[StreamReader, IO[bytes]]
) -> int:
    """Send a line `count` times; how many answers were right."""
    right = 0
    for number in range(count):
        message = b"message %d\n" % number
        stdin.write(message)
        stdin.flush()
        right += stdout.readline() == message
    return right


def ours(count: int) -> int:
    with Process(["cat"], stdin=PIPE, stderr=None) as child:
        return _converse(count, child.stdin, child.stdout)


def theirs(count: int) -> int:
    with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        return _converse(count, child.stdin, child.stdout)


CASES = (
    Case(
        name="round-trips",
        module=__name__,
        job="write, flush and readline with cat",
        amounts=(5000,),
        unit="round trips",
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="the same with Popen",
        intact=operator.eq,
        allowed=1.20,
        # Where the scheduler puts the child makes a difference of ten times: more rounds help.
        rounds=9,
    ),
)
