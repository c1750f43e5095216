"""Lines, as they arrive."""

import subprocess
from typing import Iterable, List, Tuple

from process import Process
from stress.bench.case import MIB, Case

_TEXT = "a line of a log, as long as such lines are ".ljust(99, ".")
_LINE = _TEXT.encode() + b"\n"

#: How many lines there were, and the last of them.
_Seen = Tuple[int, bytes]


def _writer(count: int) -> List[str]:
    """A child that writes `count` lines."""
    return ["sh", "-c", f"yes '{_TEXT}' | head -c {count * len(_LINE)}"]


def _count(stream: Iterable[bytes]) -> _Seen:
    count, line = 0, b""
    for line in stream:  # noqa: B007 - the last one is wanted
        count += 1
    return count, line


def ours(count: int) -> _Seen:
    with Process(_writer(count), stderr=None) as child:
        return _count(child.stdout)


def theirs(count: int) -> _Seen:
    with subprocess.Popen(_writer(count), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        return _count(child.stdout)


def _intact(count: int, seen: _Seen) -> bool:
    # To look at each line would take a good part of the time that is measured.
    return seen == (count, _LINE)


CASES = (
    Case(
        name="lines",
        module=__name__,
        job=f"lines of {len(_LINE)} bytes from stdout",
        amounts=(256 * MIB,),
        prepare=lambda size: max(1, size // len(_LINE)),
        ours=ours,
        theirs=theirs,
        against="iterating Popen.stdout",
        intact=_intact,
        allowed=1.10,
    ),
)
