"""What has to come out of a pipeline, and how its processes may end."""

import signal
from typing import List, Optional, Set

from stress.pattern import difference, flipped, pattern
from stress.pipelines.plan import BYTES, ENDLESS, WRITTEN, Plan

#: More than any stage takes of a source without end.
_PLENTY = 1024 * 1024


def _flip(data: bytes, key: int) -> bytes:
    return data.translate(bytes(byte ^ key for byte in range(256)))


class Model:
    """One pipeline; what is done to it is noted while it is done."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._data = pattern(_PLENTY if plan.source == ENDLESS else plan.size)
        #: What the caller gives to the first stage.
        self.input = self._data if plan.source in (BYTES, WRITTEN) else b""
        #: How many bytes the caller has for itself, at each link.
        self._own = [link.own for link in plan.links]
        self._evaluate()
        count = len(plan.stages)
        #: The stages that were ended while they may have run.
        self.terminated: Set[int] = set()
        #: The stages whose streams were closed while they may have run.
        self.closed: Set[int] = set()
        #: The stages whose exit code or stderr cannot be known.
        self.dropped: Set[int] = set()
        self.leaves = {index for index in range(count) if plan.stages[index].limit is not None}
        if plan.leaves_after is not None:
            self.closed.add(count - 1)

    def _evaluate(self) -> None:
        plan, data = self._plan, self._data
        #: What each stage writes.
        self.outputs: List[bytes] = []
        #: What the caller reads of that, or writes before it.
        self.owns: List[bytes] = []
        for index, stage in enumerate(plan.stages):
            if index:
                own = self._own[index - 1]
                if plan.links[index - 1].backward:
                    self.owns.append(flipped(pattern(own)))
                    data = self.owns[-1] + data
                else:
                    self.owns.append(data[:own])
                    data = data[own:]
            data = _flip(data[: stage.limit], stage.key)
            self.outputs.append(data)

    def read_nothing(self, index: int) -> None:
        """The caller reads nothing of a stage before it is handed over, whatever the plan says."""
        self._own[index] = 0
        self._evaluate()

    @property
    def leaves_early(self) -> bool:
        """Whether some stage may not read everything."""
        return bool(self.leaves | self.terminated | self.closed | self.dropped)

    def stderr(self, index: int) -> bytes:
        """What a stage writes to stderr."""
        return flipped(pattern(self._plan.stages[index].stderr))

    def cut(self, index: int) -> bool:
        """Whether the output of that stage may have ended before its time."""
        return bool({*range(index + 1)} & (self.terminated | self.closed | self.dropped))

    def problems_of_output(self, index: int, got: bytes) -> List[str]:
        """What is wrong with what has come from a stage, in words."""
        expected = self.outputs[index]
        leaves = index == len(self.outputs) - 1 and self._plan.leaves_after is not None
        prefix = self.cut(index) or leaves
        differs = difference(expected[: len(got)] if prefix else expected, got)
        return [] if differs is None else [f"stdout of {index}: {differs}"]

    def problems_of_end(self, index: int, code: Optional[int], stderr: bytes) -> List[str]:
        """What is wrong with the exit code or the stderr of a stage, in words."""
        plan, stage = self._plan, self._plan.stages[index]
        downstream = {*range(index + 1, len(plan.stages))}
        endless = index == 0 and plan.source == ENDLESS
        allowed = set() if endless else {stage.code}
        if downstream & (self.leaves | self.terminated | self.closed | self.dropped):
            allowed.add(-signal.SIGPIPE)
        if index in self.closed:
            allowed.add(-signal.SIGPIPE)
        if index in self.terminated:
            allowed.add(-signal.SIGTERM)
        found = []
        if code not in allowed:
            found.append(f"exit code of {index}: {code}, not one of {sorted(allowed)}")
        expected = self.stderr(index)
        prefix = code != stage.code or index in self.closed
        differs = difference(expected[: len(stderr)] if prefix else expected, stderr)
        return found if differs is None else [*found, f"stderr of {index}: {differs}"]
