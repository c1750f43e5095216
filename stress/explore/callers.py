"""What callers may call, and what a call does between two waits."""

import math
from typing import Any, Iterator, Optional, Tuple

from stress.explore.machine import Machine
from stress.explore.state import Caller, State, Step, replaced, there
from stress.explore.world import PATTERNS, STDIN, Call, Shell, name_of


class CallerSteps(Machine):
    """The steps of the callers."""

    def _caller_steps(self, state: State, index: int) -> Iterator[Step]:
        caller = state.callers[index]
        name = f"caller {index}"
        if caller.call is None:
            if caller.left:
                for call in self.world.calls:
                    self.label = f"{name}: calls {name_of(call)}"
                    program = self._program(call)
                    after = self._caller(state, index, call=call, program=program)
                    yield self.label, False, self._part(after, index)
            return
        part = caller.program[0]
        if self._may_go_on(state, caller):
            self.label = f"{name}: goes on with {name_of(caller.call)}: {name_of(part)}"
            yield self.label, True, self._part(self._caller(state, index, wait=""), index)
        if caller.wait or part[0] in ("exit", "pump"):
            self.label = f"{name}: stops waiting"
            yield self.label, False, self._give_up(state, index)

    def _may_go_on(self, state: State, caller: Caller) -> bool:
        part = caller.program[0]
        if part[0] == "exit":
            return not state.child.alive
        if part[0] == "pump":
            return bool(there(state.pumps[part[1]]).at == "done")
        if caller.wait == "timed":
            return bool(self._ask(state, "remaining", part[1]) == 0)
        return caller.wait != "enrolled"

    def _tick(self, state: State) -> Optional[State]:
        for caller in state.callers:
            if caller.wait not in ("timed", "released"):
                continue
            part = caller.program[0]
            if part[0] == "complete" and self._ask(state, "remaining", part[1]):
                return self._do(state, "tick")[0]
        return None

    def _program(self, call: Call) -> Tuple[Call, ...]:
        """The parts of a call, one for each section under the lock and each wait."""
        name = call[0]
        if name in ("read", "read available", "read line"):  # stream, number of bytes
            return (("take", call[1], name, call[2]),)
        if name == "gather":  # stream, number of bytes: `read` of many, or of all
            stream, goal = call[1:]
            return ("collect", stream, goal), ("gather", stream)
        if name == "write":  # number of bytes
            return ("put", call[1]), ("drain", 2), ("left",)
        if name == "flush":
            return ("drain", 3), ("left",)
        if name == "close stdin":
            return ("close soon",), ("drain", -1), ("left",)
        if name == "join":
            return ("enter",), ("exit",), ("left",)
        if name == "output":  # stream, join
            return (("collect", call[1], math.inf), *self._keep((call[1],), call[2]))
        if name in ("leave", "close"):
            collect = tuple(("collect", stream, math.inf) for stream in self.outputs)
            program = (*collect, *self._keep(tuple(self.outputs), True))
            if self.start.pipes[STDIN] is not None:
                program = (("close soon",), *program, ("stop",), ("pump", STDIN))
            for stream in self.outputs:
                program = (*program, ("shut", stream), ("pump", stream))
            return (("signal",), *program) if name == "close" else program
        if name == "close stream":
            return ("shut", call[1]), ("pump", call[1])
        return (call,)  # poll, poll loop, signal

    def _keep(self, streams: Tuple[int, ...], join: bool) -> Tuple[Call, ...]:
        return (
            *((("enter",), ("exit",), ("left",)) if join else ()),
            *(("complete", stream) for stream in streams),
            *(("abandon", stream) for stream in streams),
        )

    def _give_up(self, state: State, index: int) -> State:
        cleanup = tuple(("abandon", stream) for stream in state.callers[index].collects)
        return self._caller(state, index, program=(*cleanup, ("left",)), wait="")

    def _next(self, state: State, index: int) -> State:
        program = state.callers[index].program[1:]
        if program:
            return self._caller(state, index, program=program)
        left = state.callers[index].left - 1
        state, _ = self._do(state, "forget", str(index))
        return state._replace(callers=replaced(state.callers, index, Caller(left)))

    def _wait(self, state: State, index: int, *own: Any, wait: str = "enrolled") -> State:
        """Register, enrol, and ring the pumps."""
        state, _ = self._do(state, "enter", str(index), *own)
        return self._kick(self._caller(state, index, wait=wait, own=bool(own)))

    def _part(self, state: State, index: int) -> State:
        """Do the next part of a call, as far as the lock is held."""
        name, *arguments = state.callers[index].program[0]
        part = getattr(self, f"_part_{name.replace(' ', '_')}")
        after: State = part(state, index, *arguments)
        return after

    def _part_take(self, state: State, index: int, stream: int, kind: str, size: int) -> State:
        if self._ask(state, "closed", stream):
            return self._give_up(state, index)
        state = self._kick(state)
        if self._ask(state, "busy", stream):
            return self._wait(state, index)
        last = PATTERNS[stream][self.budgets[stream] - 1 :][:1]
        state, data = self._do(state, "take", str(index), stream, kind, size, last)
        if data is None:
            need = {"read": size, "read available": 1}.get(kind)
            need = self._ask(state, "held", stream) + self.world.bound if need is None else need
            return self._wait(state, index, stream, need)
        whole = data[-1:] == last if kind == "read line" else len(data) == size
        ends = not data or not (whole or kind == "read available")
        state = self._deliver(state, stream, data, ends)
        return self._next(state._replace(allowed=replaced(state.allowed, stream, 0)), index)

    def _part_left(self, state: State, index: int) -> State:
        for token in (str(index), f"{index} exit"):
            state, _ = self._do(state, "leave", token)
        state, _ = self._do(state, "forget", f"{index} exit")
        return self._next(state, index)

    def _part_enter(self, state: State, index: int) -> State:
        state, _ = self._do(state, "enter", f"{index} exit")
        return self._next(self._kick(state), index)

    def _part_exit(self, state: State, index: int) -> State:
        return self._next(state, index)

    def _part_pump(self, state: State, index: int, _: int) -> State:
        return self._next(state, index)

    def _part_collect(self, state: State, index: int, stream: int, goal: float) -> State:
        caller = state.callers[index]
        if self._ask(state, "closed", stream):
            rest = tuple(
                part
                for part in caller.program
                if part[0] not in ("collect", "complete", "gather", "abandon") or part[1] != stream
            )
            return self._next(self._caller(state, index, program=(("",), *rest)), index)
        if self._ask(state, "busy", stream):
            return self._wait(state, index)
        state, _ = self._do(state, "collect", str(index), stream, goal)
        collects = (*caller.collects, stream)
        return self._next(self._caller(state, index, collects=collects), index)

    def _part_gather(self, state: State, index: int, stream: int) -> State:
        if self._ask(state, "closed", stream):
            return self._give_up(state, index)
        goal = there(state.callers[index].call)[2]
        state, data = self._do(state, "finish", str(index), stream)
        if data is None:
            return self._wait(state, index)
        state = self._notify(self._caller(state, index, collects=()))
        return self._next(self._deliver(state, stream, data, len(data) < goal), index)

    def _part_complete(self, state: State, index: int, stream: int) -> State:
        pump, pipe = there(state.pumps[stream]), there(state.pipes[stream])
        pending = bool(pipe.data) or not pipe.writer
        closed = self._ask(state, "closed", stream)
        state, data = self._do(
            state, "keep", str(index), stream, pump.at == "done", pump.busy, pending
        )
        if data is not None:
            state = self._notify(self._deliver(state, stream, data, not closed))
            return self._next(state, index)
        wait = "enrolled" if self._ask(state, "remaining", stream) is None else "timed"
        if Shell.COMPLETE_ENTERS in self.world.shell:
            return self._wait(state, index, wait=wait)
        return self._kick(self._caller(state, index, wait=wait))

    def _part_abandon(self, state: State, index: int, stream: int) -> State:
        state, _ = self._do(state, "abandon", str(index), stream)
        collects = tuple(other for other in state.callers[index].collects if other != stream)
        return self._next(self._notify(self._caller(state, index, collects=collects)), index)

    def _part_shut(self, state: State, index: int, stream: int) -> State:
        state, _ = self._do(state, "close", stream)
        return self._next(self._notify(self._kick(state)), index)

    def _part_put(self, state: State, index: int, size: int) -> State:
        closing, broken, _, _ = self._ask(state, "outbound_is")
        if closing or broken:
            return self._give_up(state, index)
        put = state.passed[STDIN]
        state, _ = self._do(state, "put", PATTERNS[STDIN][put : put + size])
        state = state._replace(passed=replaced(state.passed, STDIN, put + size))
        if Shell.PUT_KICKS in self.world.shell:
            state = self._kick(state)
        return self._next(state, index)

    def _part_drain(self, state: State, index: int, until: int) -> State:
        answers = self._ask(state, "outbound_is")
        if answers[1] or (until > 0 and answers[until]) or there(state.pumps[STDIN]).at == "done":
            return self._next(state, index)
        return self._wait(state, index)

    def _part_close_soon(self, state: State, index: int) -> State:
        state, _ = self._do(state, "close_soon")
        if self._movable(state, STDIN):
            state = self._pump(state, STDIN, rung=True)
        return self._next(state, index)

    def _part_stop(self, state: State, index: int) -> State:
        if there(state.pumps[STDIN]).at != "done":
            state = self._pump(state, STDIN, stopping=True, rung=True)
        return self._next(state, index)

    def _part_signal(self, state: State, index: int) -> State:
        child = state.child._replace(signalled=state.child.alive)
        return self._next(state._replace(child=child), index)

    def _part_poll(self, state: State, index: int) -> State:
        return self._next(self._poll(state), index)

    def _part_poll_loop(self, state: State, index: int) -> State:
        if not state.child.alive:
            return self._next(state, index)
        return self._caller(self._poll(state), index, wait="polling")

    def _poll(self, state: State) -> State:
        if not state.child.alive:
            return state
        allowed = state.allowed
        for stream in self.outputs:
            most = max(self.world.bound, self._beyond(state, stream)) + self.world.bound
            allowed = replaced(allowed, stream, most)
        state, _ = self._do(state._replace(allowed=allowed), "poll")
        return self._kick(state)
