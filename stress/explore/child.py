"""The actions of the child, and of connected processes."""

from typing import Iterator, Optional

from stress.explore.machine import Machine
from stress.explore.state import State, Step, replaced, there
from stress.explore.world import NAMES, PATTERNS, STDIN, broken


class ChildSteps(Machine):
    """The steps of the child."""

    def _child_steps(self, state: State) -> Iterator[Step]:
        child = state.child
        if not child.alive:
            yield from self._grandchild_steps(state)
            return
        if child.signalled:
            self.label = "child: is ended by the signal"
            yield self.label, False, self._exit(state)
        wanted = self.streams if child.blocked is None else [child.blocked]
        for stream in wanted:
            self.label = f"child: {'writes to' if stream else 'reads from'} {NAMES[stream]}"
            if stream == STDIN:
                after = self._child_reads(state)
            else:
                after = self._child_writes(state, stream)
            if after is not None:
                yield self.label, True, after
            elif child.blocked is None and self._may(state, stream):
                blocked = state._replace(child=child._replace(blocked=stream))
                yield f"{self.label} and blocks", True, blocked
        if child.blocked is None:
            for stream in self.streams if self.world.closes else ():
                pipe = there(state.pipes[stream])
                if pipe.writer if stream else pipe.reader:
                    self.label = f"child: closes {NAMES[stream]}"
                    yield self.label, True, self._child_closes(state, stream)
            self.label = "child: exits"
            yield self.label, True, self._exit(state)

    def _grandchild_steps(self, state: State) -> Iterator[Step]:
        for stream in self.outputs:
            if there(state.pipes[stream]).writer:
                self.label = f"grandchild: writes to {NAMES[stream]}"
                after = self._child_writes(state, stream)
                if after is not None:
                    yield self.label, False, after
                self.label = f"grandchild: closes {NAMES[stream]}"
                yield self.label, False, self._child_closes(state, stream)

    def _receiver_steps(self, state: State) -> Iterator[Step]:
        """The actions of a receiver."""
        for stream in self.outputs:
            pipe = there(state.pipes[stream])
            if pipe.handed_over and pipe.data:
                self.label = f"receiver: reads from {NAMES[stream]}"
                pipe = pipe._replace(data=pipe.data[1:])
                after = self._deliver(state, stream, there(state.pipes[stream]).data[:1], False)
                yield self.label, True, after._replace(pipes=replaced(state.pipes, stream, pipe))

    def _may(self, state: State, stream: int) -> bool:
        """Whether the child may want to move bytes on `stream`."""
        pipe = there(state.pipes[stream])
        if stream == STDIN:
            return pipe.reader and not state.child.eof
        return pipe.writer and state.child.moved[stream] < self.budgets[stream]

    def _child_reads(self, state: State) -> Optional[State]:
        child, pipe = state.child, there(state.pipes[STDIN])
        if not self._may(state, STDIN):
            return None
        if pipe.data:
            count = child.moved[STDIN]
            if pipe.data[0] != PATTERNS[STDIN][count]:
                broken("order", f"the child reads {pipe.data!r} after {count} bytes of stdin")
            child = child._replace(moved=replaced(child.moved, STDIN, count + 1), blocked=None)
            pipe = pipe._replace(data=pipe.data[1:])
        elif not pipe.writer:
            stopped = there(state.threads[STDIN]).stopping
            if child.moved[STDIN] != state.passed[STDIN] and not stopped:
                broken("end", f"the child reads the end of stdin after {child.moved[STDIN]} bytes")
            child = child._replace(eof=True, blocked=None)
        else:
            return None
        return state._replace(child=child, pipes=replaced(state.pipes, STDIN, pipe))

    def _child_writes(self, state: State, stream: int) -> Optional[State]:
        child, pipe = state.child, there(state.pipes[stream])
        if not self._may(state, stream):
            return None
        if not pipe.reader:
            return self._exit(state) if child.alive else self._child_closes(state, stream)
        if len(pipe.data) >= self.world.capacity:
            return None
        count = child.moved[stream]
        data = pipe.data + PATTERNS[stream][count : count + 1]
        child = child._replace(moved=replaced(child.moved, stream, count + 1), blocked=None)
        pipes = replaced(state.pipes, stream, pipe._replace(data=data))
        return state._replace(child=child, pipes=pipes)

    def _child_closes(self, state: State, stream: int) -> State:
        pipe = there(state.pipes[stream])
        pipe = pipe._replace(writer=False) if stream else pipe._replace(reader=False, data=b"")
        return state._replace(pipes=replaced(state.pipes, stream, pipe))

    def _exit(self, state: State) -> State:
        state = state._replace(child=state.child._replace(alive=False, blocked=None))
        for stream in self.streams:
            if stream == STDIN or not self.world.grandchild:
                state = self._child_closes(state, stream)
        return state
