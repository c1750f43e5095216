"""The possible steps in a world, and the violations."""

from typing import Iterator, Optional

from stress.explore.callers import CallerSteps
from stress.explore.child import ChildSteps
from stress.explore.state import State, Step, there
from stress.explore.world import NAMES, STDIN, Call, broken


class Steps(ChildSteps, CallerSteps):
    """The steps of one world."""

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next."""
        yield from self._child_steps(state)
        yield from self._receiver_steps(state)
        for stream in self.streams:
            self.label = f"{NAMES[stream]} thread: {there(state.threads[stream]).at}"
            after = self._thread_step(state, stream)
            if after is not None:
                yield self.label, True, after
        for index in range(len(state.callers)):
            yield from self._caller_steps(state, index)
        after = self._tick(state)
        if after is not None:
            yield "a second passes", True, after

    def check(self, state: State) -> None:
        """Check a state for violations."""
        for stream in self.outputs:
            thread = there(state.threads[stream])
            if thread.state == "ENDED" or self._ask(state, "closed", stream):
                continue
            held = self._ask(state, "held_for_callers", stream) + len(thread.data)
            if held != self._beyond(state, stream):
                broken("lost", f"{held} bytes of {NAMES[stream]} held")
        if all(caller.call is None for caller in state.callers):
            for stream in self.streams:
                if self._rests(state, stream):
                    broken("asleep", f"the thread of {NAMES[stream]} rests though it may move")

    def _rests(self, state: State, stream: int) -> bool:
        """Whether a thread will sleep until a caller wakes it, though it could move."""
        if there(state.threads[stream]).at != "sleep" or self._thread_step(state, stream):
            return False
        put_aside = stream == STDIN and self._ask(state, "may_wait")
        return self._movable(state, stream) and not put_aside

    def waits(self, state: State) -> Optional[Call]:
        """The call of a caller whose wait has to end, if there is one."""
        child = state.child
        for caller in state.callers:
            if caller.call is None:
                continue
            given = child.blocked == STDIN and child.moved[STDIN] == state.passed[STDIN]
            if given and not self._ask(state, "outbound_is")[0]:
                continue  # It has to write more, or close stdin.
            part = caller.program[0]
            read = part[1] if part[0] in ("take", "gather") else None
            left_behind = not child.alive and self.world.grandchild
            if left_behind and read is not None and there(state.pipes[read]).writer:
                continue  # Only the grandchild can end this.
            return caller.call
        return None
