"""Larger and larger outputs of a child: the time for each GiB stays the same."""

from stress.bench.case import GIB, MIB, Case
from stress.bench.cases import capture
from stress.bench.payload import all_zero

CASES = (
    Case(
        name="linear",
        module=__name__,
        job="all of stdout by output(), at several sizes",
        amounts=(16 * MIB, 256 * MIB, 4 * GIB),
        prepare=int,
        ours=capture.ours,
        intact=all_zero,
        memory=2,
        rounds=3,
    ),
)
