"""What the steps of child, pumps and callers have in common."""

from typing import Any, Tuple

from stress.explore.cores import Cores
from stress.explore.state import Caller, Child, Pipe, Pump, State, replaced, there
from stress.explore.world import NAMES, PATTERNS, STDERR, STDIN, STDOUT, Shell, World, broken


class Machine:
    """A world, and how one state of it becomes another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cores = Cores(world)
        self.budgets = (0, world.stdout or 0, world.stderr or 0)
        piped = (
            world.stdin or world.given is not None,
            world.stdout is not None,
            world.stderr is not None,
        )
        self.start = State(
            0,
            tuple(Pipe() if is_piped else None for is_piped in piped),
            Child(),
            tuple(Pump() if is_piped else None for is_piped in piped),
            (Caller(world.length),) * world.callers,
            (world.given or 0, 0, 0),
        )
        self.streams = [stream for stream in (STDIN, STDOUT, STDERR) if piped[stream]]
        self.outputs = [stream for stream in self.streams if stream != STDIN]
        #: What is happening, for a violation on the way.
        self.label = ""

    def _ask(self, state: State, question: str, *arguments: Any) -> Any:
        return self.cores.do(state.core, question, *arguments)[1]

    def _do(self, state: State, section: str, *arguments: Any) -> Tuple[State, Any]:
        core, value = self.cores.do(state.core, section, *arguments)
        return state._replace(core=core), value

    def _pump(self, state: State, stream: int, **changes: Any) -> State:
        pump = there(state.pumps[stream])._replace(**changes)
        return state._replace(pumps=replaced(state.pumps, stream, pump))

    def _notify(self, state: State) -> State:
        callers = tuple(
            caller._replace(wait="released") if caller.wait in ("enrolled", "timed") else caller
            for caller in state.callers
        )
        return state._replace(callers=callers)

    def _movable(self, state: State, stream: int) -> bool:
        pump = there(state.pumps[stream])
        if not pump.waits:
            return False
        if stream == STDIN:
            movable: bool = self._ask(state, "writer_movable", pump.waits_for_room)
        else:
            movable = self._ask(state, "reader_movable", stream, pump.waits_for_room)
        return movable

    def _kick(self, state: State) -> State:
        for stream in self.streams:
            if self._movable(state, stream):
                state = self._pump(state, stream, rung=True)
        return state

    def _beyond(self, state: State, stream: int) -> int:
        """The bytes that have left the pipe and have not come to a caller."""
        pipe = there(state.pipes[stream])
        return state.child.moved[stream] - len(pipe.data) - state.passed[stream]

    def _deliver(self, state: State, stream: int, data: bytes, ends: bool) -> State:
        """A caller has got `data`; with `ends`, he has been told that it is the end."""
        count = state.passed[stream]
        if data != PATTERNS[stream][count : count + len(data)]:
            broken("order", f"{data!r} after {count} bytes of {NAMES[stream]}")
        if Shell.TAKE_KICKS in self.world.shell:
            state = self._kick(state)
        count += len(data)
        if ends and count != state.child.moved[stream]:
            broken("end", f"end of {NAMES[stream]} after {count} bytes, and more was written")
        return state._replace(passed=replaced(state.passed, stream, count))

    def _caller(self, state: State, index: int, **changes: Any) -> State:
        caller = state.callers[index]._replace(**changes)
        return state._replace(callers=replaced(state.callers, index, caller))
