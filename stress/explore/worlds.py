"""Worlds that take minutes. The smaller ones are in `tests/core/test_explore.py`."""

import math
from typing import Dict, Tuple

from stress.explore.world import STDOUT, Call, World

#: Every way to read, and to wait.
READS: Tuple[Call, ...] = (
    ("read", STDOUT, 1),
    ("read available", STDOUT, 2),
    ("gather", STDOUT, math.inf),
    ("output", STDOUT, True),
    ("output", STDOUT, False),
    ("poll",),
    ("poll loop",),
    ("join",),
    ("leave",),
)
_WRITES: Tuple[Call, ...] = (
    ("write", 1),
    ("write", 3),
    ("flush",),
    ("close stdin",),
    ("read", STDOUT, 1),
    ("output", STDOUT, True),
    ("join",),
    ("close",),
)
WORLDS: Dict[str, World] = {
    "reads": World(calls=READS, length=4, stdout=4),
    "lines": World(calls=(("read line", STDOUT, -1), *READS), length=3, stdout=4),
    "both outputs": World(calls=READS, length=2, stdout=2, stderr=2),
    "echo": World(calls=_WRITES, length=3, stdout=2, stdin=True),
    "write while stdout floods": World(calls=(("write", 3),), length=1, stdout=3, stdin=True),
    "given": World(calls=READS, length=2, stdout=2, given=3),
    "grandchild": World(calls=READS, length=3, stdout=3, grandchild=True),
    "two callers": World(calls=READS, length=2, callers=2, stdout=2),
    "small writes": World(calls=_WRITES, length=3, stdout=1, stdin=True, buffer=3),
    "handed over": World(
        calls=(("hand over", STDOUT), *READS), length=2, callers=2, stdout=2, closes=True
    ),
    "a connected process": World(
        calls=(("join receiver",), *READS), stdout=2, stderr=3, receiver=True
    ),
    "marks": World(calls=READS, length=4, stdout=9, capacity=2, bound=8, memory=16),
}
