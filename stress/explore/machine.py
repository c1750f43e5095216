"""What the steps of child, threads and callers share.

The methods that have a namesake in `process.threads._thread` or `_monitor` do the same.
"""

from typing import Any, Tuple

from stress.explore.cores import Cores
from stress.explore.state import Caller, Child, Pipe, State, Thread, replaced, there
from stress.explore.world import NAMES, PATTERNS, STDERR, STDIN, STDOUT, Shell, World, broken


class Machine:
    """A world, and the transitions between its states."""

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
            tuple(Thread() if is_piped else None for is_piped in piped),
            (Caller(world.length),) * world.callers,
            (world.given or 0, 0, 0),
        )
        self.streams = [stream for stream in (STDIN, STDOUT, STDERR) if piped[stream]]
        self.outputs = [stream for stream in self.streams if stream != STDIN]
        #: What is happening, for a violation on the way.
        self.label = ""

    def _does(self, duty: Shell) -> bool:
        return duty in self.world.shell

    def _ask(self, state: State, question: str, *arguments: Any) -> Any:
        return self.cores.do(state.core, question, *arguments)[1]

    def _do(self, state: State, section: str, *arguments: Any) -> Tuple[State, Any]:
        core, value = self.cores.do(state.core, section, *arguments)
        return state._replace(core=core), value

    def _caller(self, state: State, index: int, **changes: Any) -> State:
        caller = state.callers[index]._replace(**changes)
        return state._replace(callers=replaced(state.callers, index, caller))

    def _thread(self, state: State, stream: int, /, **changes: Any) -> State:
        thread = there(state.threads[stream])._replace(**changes)
        return state._replace(threads=replaced(state.threads, stream, thread))

    # Threads that sleep.

    def _movable(self, state: State, stream: int) -> bool:
        return bool(self._ask(state, "movable", stream))

    def _needed(self, state: State, stream: int) -> bool:
        return bool(self._ask(state, "needed", stream))

    def _touch(self, state: State, stream: int) -> State:
        thread = there(state.threads[stream])
        if thread.at == "done":
            return state
        alarm = thread.alarm or (thread.state == "SLEEPING" and thread.owner is None)
        return self._thread(state, stream, active=True, alarm=alarm)

    def _look(self, state: State, stream: int) -> State:
        if there(state.threads[stream]).at == "done":
            return state
        if there(state.threads[stream]).state == "MOVING":
            return self._thread(state, stream, woken=True)
        return self._thread(state, stream, alarm=True)

    def _nudge(self, state: State, stream: int) -> State:
        if there(state.threads[stream]).at == "done":
            return state
        return self._thread(state, stream, alarm=True, woken=True)

    def _wake_if_needed(self, state: State) -> State:
        for stream in self.streams:
            thread = there(state.threads[stream])
            asleep = thread.state in ("SLEEPING", "STANDING_BY") and thread.owner is None
            if asleep and self._movable(state, stream) and self._needed(state, stream):
                state = self._thread(state, stream, alarm=True)
        return state

    def _wake_if_movable(self, state: State) -> State:
        for stream in self.streams:
            thread = there(state.threads[stream])
            asleep = thread.state == "SLEEPING" and thread.owner is None
            if asleep and self._movable(state, stream):
                state = self._thread(state, stream, alarm=True)
        return state

    # The claim.

    def _claimable(self, state: State, stream: int, index: int) -> bool:
        thread = there(state.threads[stream])
        if thread.state == "ENDED":
            return False
        if not self._does(Shell.ONE_CLAIM):
            return True
        return thread.state != "MOVING" and thread.owner in (None, index)

    def _release(self, state: State, stream: int, index: int) -> State:
        thread = there(state.threads[stream])
        if thread.request == index:
            state = self._touch(self._thread(state, stream, request=None), stream)
        if thread.owner == index:
            state = self._thread(state, stream, owner=None)
            if self._does(Shell.RELEASE_TOUCHES):
                state = self._touch(state, stream)
            if thread.request is not None and self._does(Shell.RELEASE_NOTIFIES):
                state = self._notify(state)[0]
        return state

    # Callers that wait.

    def _holds(self, state: State, index: int) -> Tuple[State, bool]:
        """Whether what a caller waits for has happened."""
        caller = state.callers[index]
        name, *arguments = caller.program[0]
        if name == "exit":
            return state, True
        if name in ("take", "collect"):
            stream = arguments[0]
            if name == "collect" or not caller.own:
                return state, not self._ask(state, "busy", stream)
            if there(state.threads[stream]).at == "done":
                return state, True
            return self._do(state, "satisfied", str(index), *arguments, self._last(stream))
        if name in ("gather", "complete"):
            return state, self._ask(state, "settled", str(index), arguments[0])
        if name == "offer":
            claimable = self._claimable(state, arguments[0], index)
            return state, claimable or self._ask(state, "touched", arguments[0])
        assert name == "drain"
        return state, self._drained(state, arguments[0])

    def _last(self, stream: int) -> bytes:
        """The byte that ends the line."""
        return PATTERNS[stream][self.budgets[stream] - 1 :][:1]

    def _drained(self, state: State, until: int) -> bool:
        answers = self._ask(state, "outbound_is")
        done = there(state.threads[STDIN]).at == "done"
        return bool(answers[1] or (until > 0 and answers[until]) or done)

    def _notify(self, state: State) -> Tuple[State, bool]:
        found = False
        for index, caller in enumerate(state.callers):
            if caller.wait in ("asleep", "timed", "polls") or caller.program[:1] == (("exit",),):
                state, holds = self._holds(state, index)
                found = found or holds
                if holds and caller.wait in ("asleep", "timed"):
                    state = self._caller(state, index, wait="woken")
        return state, found

    def _wake_all(self, state: State) -> State:
        for index, caller in enumerate(state.callers):
            if caller.wait in ("asleep", "timed"):
                state = self._caller(state, index, wait="woken")
        return state

    def _see_end(self, state: State) -> State:
        """A party that waits for a pipe sees the end of the process as well."""
        if state.child.alive or state.ended:
            return state
        self.label += " sees that the process has ended"
        state, _ = self._do(state._replace(ended=True), "process_ended")
        return self._wake_all(state)

    def _ready(self, state: State, stream: int) -> bool:
        """Whether a wait for the pipe of `stream` is over."""
        pipe = there(state.pipes[stream])
        if there(state.threads[stream]).woken or not (state.child.alive or state.ended):
            return True
        if stream == STDIN:
            return len(pipe.data) < self.world.capacity or not pipe.reader
        return bool(pipe.data) or not pipe.writer

    # Bytes.

    def _beyond(self, state: State, stream: int) -> int:
        """The bytes that have left the pipe and have not reached a caller."""
        pipe = there(state.pipes[stream])
        return state.child.moved[stream] - len(pipe.data) - state.passed[stream]

    def _read(self, state: State, stream: int, size: float, cap: float) -> Tuple[State, bytes]:
        """Read at most `size` bytes from a pipe which has some, or is at its end."""
        pipe = there(state.pipes[stream])
        data = pipe.data[: int(size)]
        held = self._beyond(state, stream) + len(data)
        if data and held > cap:
            broken("bound", f"{held} bytes of {NAMES[stream]} held, not {cap}")
        pipes = replaced(state.pipes, stream, pipe._replace(data=pipe.data[len(data) :]))
        return state._replace(pipes=pipes), data

    def _deliver(self, state: State, stream: int, data: bytes, ends: bool) -> State:
        """A caller has got `data`; with `ends`, it has seen end of file."""
        count = state.passed[stream]
        if data != PATTERNS[stream][count : count + len(data)]:
            broken("order", f"{data!r} after {count} bytes of {NAMES[stream]}")
        count += len(data)
        handed_over = there(state.pipes[stream]).handed_over
        if ends and count != state.child.moved[stream] and not handed_over:
            broken("end", f"end of {NAMES[stream]} after {count} bytes, and more was written")
        return state._replace(passed=replaced(state.passed, stream, count))
