"""The calls of callers, and what each does between two waits."""

import math
from typing import Any, Iterator, Optional, Tuple

from stress.explore.state import Caller, State, Step, replaced, there
from stress.explore.threads import ThreadSteps
from stress.explore.world import PATTERNS, STDIN, Call, Shell, name_of

#: Parts of a call that wait without being known to the monitor.
_WAITS = ("exit", "thread", "accept")


class CallerSteps(ThreadSteps):
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
            after = self._caller(state, index, wait="")
            if caller.wait == "polls":
                after = self._see_end(self._thread(after, self._polled(caller), woken=False))
            after = self._part(after, index)
            yield self.label, True, after
        if caller.wait or part[0] in _WAITS:
            self.label = f"{name}: stops waiting"
            yield self.label, False, self._give_up(state, index)
            if caller.wait:
                self.label = f"{name}: is torn out of its wait"
                yield self.label, False, self._abandon_all(state, index)

    def _may_go_on(self, state: State, caller: Caller) -> bool:
        part = caller.program[0]
        if part[0] == "exit":
            return not state.child.alive
        if part[0] == "thread":
            return bool(there(state.threads[part[1]]).at == "done")
        if caller.wait == "timed":
            return bool(self._ask(state, "remaining", part[1]) == 0)
        if caller.wait == "polls":
            return self._ready(state, self._polled(caller))
        return caller.wait != "asleep"

    def _polled(self, caller: Caller) -> int:
        """The stream whose pipe a caller polls."""
        part = caller.program[0]
        return part[1] if part[0] == "take" else STDIN

    def _tick(self, state: State) -> Optional[State]:
        for caller in state.callers:
            if caller.wait == "timed" and self._ask(state, "remaining", caller.program[0][1]):
                return self._do(state, "tick")[0]
        return None

    def _program(self, call: Call) -> Tuple[Call, ...]:
        """The parts of a call, one for each section under the lock and each wait."""
        name = call[0]
        if name in ("read", "read available", "read line"):  # stream, number of bytes
            return ("front", call[1], name, call[2]), ("take", call[1], name, call[2]), ("left",)
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
            return ("enter",), ("exit",), ("ended",), ("left",)
        if name == "join receiver":  # which has ended soon after this process has
            return ("enter receiver",), ("exit",), ("left",)
        if name == "output":  # stream, join
            return (("collect", call[1], math.inf), *self._keep((call[1],), call[2]))
        if name in ("leave", "close"):
            collect = tuple(("collect", stream, math.inf) for stream in self.outputs)
            program = (*collect, *self._keep(tuple(self.outputs), True))
            if self.start.pipes[STDIN] is not None:
                program = (("close soon",), *program, ("stop",), ("thread", STDIN))
            for stream in self.outputs:
                program = (*program, ("shut", stream), ("thread", stream))
            return (("signal",), *program) if name == "close" else program
        if name == "close stream":
            return ("shut", call[1]), ("thread", call[1])
        if name == "hand over":
            return ("offer", call[1]), ("accept", call[1]), ("thread", call[1])
        return (call,)  # poll, poll loop, signal

    def _keep(self, streams: Tuple[int, ...], join: bool) -> Tuple[Call, ...]:
        return (
            *((("enter",), ("exit",), ("ended",), ("left",)) if join else ()),
            *(("complete", stream) for stream in streams),
            *(("abandon", stream) for stream in streams),
        )

    def _give_up(self, state: State, index: int) -> State:
        cleanup = tuple(("abandon", stream) for stream in state.callers[index].collects)
        return self._caller(state, index, program=(*cleanup, ("left",)), wait="")

    def _abandon_all(self, state: State, index: int) -> State:
        """An exception has prevented the clean-up: only the frame and its waiter are gone."""
        for stream in self.streams:
            thread = there(state.threads[stream])
            mine = (
                index in (thread.owner, thread.request) or stream in state.callers[index].collects
            )
            if mine:
                owner = None if thread.owner == index else thread.owner
                request = None if thread.request == index else thread.request
                alarm = thread.alarm or self._does(Shell.ABANDON_WAKES)
                state = self._thread(state, stream, owner=owner, request=request, alarm=alarm)
        state, _ = self._do(state, "abandon_all", str(index))
        state = self._caller(state, index, program=(("",),), wait="")
        return self._next(self._wake_all(state), index)

    def _next(self, state: State, index: int) -> State:
        program = state.callers[index].program[1:]
        if program:
            after = self._caller(state, index, program=program)
            # What needs neither the lock nor a wait is not a separate step.
            return self._part(after, index) if program[0] in (("left",), ("ended",)) else after
        left = state.callers[index].left - 1
        state, _ = self._do(state, "forget", str(index))
        return state._replace(callers=replaced(state.callers, index, Caller(left)))

    def _wait(self, state: State, index: int, *own: Any, wait: str = "asleep") -> State:
        """Register with the monitor, and sleep, or poll the pipe."""
        state, _ = self._do(state, "enter", str(index), *own)
        state = self._caller(state, index, wait=wait, own=bool(own))
        return self._wake_if_needed(state) if self._does(Shell.ENTER_WAKES) else state

    def _part(self, state: State, index: int) -> State:
        """Do the next part of a call, as far as the lock is held."""
        name, *arguments = state.callers[index].program[0]
        part = getattr(self, f"_part_{name.replace(' ', '_')}")
        after: State = part(state, index, *arguments)
        return after

    # Reading.

    def _part_front(self, state: State, index: int, stream: int, kind: str, size: int) -> State:
        """One call into C, without the lock, if the front has what is asked for."""
        state, data = self._do(state, "take_front", stream, kind, size)
        program = state.callers[index].program[1:]
        if not data:
            return self._part(self._caller(state, index, program=program), index)
        state = self._deliver(state, stream, data, ends=False)
        return self._next(self._caller(state, index, program=(("",),)), index)

    def _part_take(self, state: State, index: int, stream: int, kind: str, size: int) -> State:
        if self._ask(state, "closed", stream):
            return self._give_up(state, index)
        if self._ask(state, "busy", stream):
            if self._does(Shell.TURN_RELEASES):
                state = self._release(state, stream, index)
            return self._wait(state, index)
        reads = True
        while True:
            state, data = self._do(
                state, "take", str(index), stream, kind, size, self._last(stream)
            )
            if data is not None or not reads:
                break
            state, reads = self._read_directly(state, index, stream)
        if data is None:
            return self._wait_for_bytes(state, index, stream, kind, size)
        whole = data[-1:] == self._last(stream) if kind == "read line" else len(data) == size
        ends = not data or not (whole or kind == "read available")
        state = self._deliver(state, stream, data, ends)
        if self._does(Shell.TAKE_TOUCHES):
            state = self._touch(state, stream)
        state = state._replace(allowed=replaced(state.allowed, stream, 0))
        return self._next(state, index)

    def _wait_for_bytes(self, state: State, index: int, stream: int, kind: str, size: int) -> State:
        readable = self._ask(state, "directly_readable", stream)
        polls = self._claimable(state, stream, index) and (
            readable or not self._does(Shell.CLAIM_TO_READ)
        )
        if polls:
            state = self._thread(state, stream, owner=index)
        else:
            state = self._release(state, stream, index)
        need = {"read": size, "read available": 1}.get(kind)
        need = self._ask(state, "held", stream) + self.world.bound if need is None else need
        return self._wait(state, index, stream, need, wait="polls" if polls else "asleep")

    def _read_directly(self, state: State, index: int, stream: int) -> Tuple[State, bool]:
        """Read the pipe without waiting; whether that has brought anything."""
        pipe = there(state.pipes[stream])
        if not self._claimable(state, stream, index) or not (pipe.data or not pipe.writer):
            return state, False
        room = self._ask(state, "reader_decides", stream)[1]
        if not room or not self._ask(state, "directly_readable", stream):
            return state, False
        state, data = self._read(state, stream, room, self.cap(state, stream))
        state, _ = self._do(state, "record", stream, data)
        return self._touch(self._notify(state)[0], stream), True

    def _part_left(self, state: State, index: int) -> State:
        for token in (str(index), f"{index} exit", f"{index} receiver"):
            state, _ = self._do(state, "leave", token)
        state, _ = self._do(state, "forget", f"{index} exit")
        state, _ = self._do(state, "forget", f"{index} receiver")
        for stream in self.streams:
            state = self._release(state, stream, index)
        return self._next(state, index)

    def _part_enter(self, state: State, index: int) -> State:
        state, _ = self._do(state, "enter", f"{index} exit")
        state = self._next(state, index)
        return self._wake_if_needed(state) if self._does(Shell.ENTER_WAKES) else state

    def _part_enter_receiver(self, state: State, index: int) -> State:
        state, _ = self._do(state, "enter", f"{index} receiver")
        if self._does(Shell.ENTER_NUDGES):
            for stream in self.streams:
                state = self._nudge(state, stream)
        return self._next(state, index)

    def _part_exit(self, state: State, index: int) -> State:
        return self._next(state, index)

    def _part_ended(self, state: State, index: int) -> State:
        return self._next(self._see_end(state), index)

    def _part_thread(self, state: State, index: int, _: int) -> State:
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
        state = self._caller(state, index, collects=collects)
        state, _ = self._do(state, "enter", str(index))
        return self._next(self._wake_if_needed(state), index)

    def _part_gather(self, state: State, index: int, stream: int) -> State:
        if self._ask(state, "closed", stream):
            return self._give_up(state, index)
        goal = there(state.callers[index].call)[2]
        state, data = self._do(state, "finish", str(index), stream)
        if data is None:
            return self._wait(state, index, stream, math.inf)
        state = self._notify(self._caller(state, index, collects=()))[0]
        state = self._touch(state, stream)
        return self._next(self._deliver(state, stream, data, len(data) < goal), index)

    def _part_complete(self, state: State, index: int, stream: int) -> State:
        thread, pipe = there(state.threads[stream]), there(state.pipes[stream])
        pending = bool(pipe.data) or not pipe.writer
        closed = self._ask(state, "closed", stream)
        state, data = self._do(
            state, "keep", str(index), stream, thread.at == "done", thread.busy, pending
        )
        if data is not None:
            state = self._notify(self._deliver(state, stream, data, not closed))[0]
            return self._next(self._touch(state, stream), index)
        wait = "asleep" if self._ask(state, "remaining", stream) is None else "timed"
        if self._does(Shell.COMPLETE_ENTERS):
            return self._wait(state, index, wait=wait)
        state, _ = self._do(state, "leave", str(index))
        return self._caller(state, index, wait=wait, own=False)

    def _part_abandon(self, state: State, index: int, stream: int) -> State:
        state, _ = self._do(state, "abandon", str(index), stream)
        collects = tuple(other for other in state.callers[index].collects if other != stream)
        state = self._notify(self._caller(state, index, collects=collects))[0]
        return self._next(self._release(state, stream, index), index)

    def _part_shut(self, state: State, index: int, stream: int) -> State:
        state, _ = self._do(state, "close", stream)
        return self._next(self._wake_all(self._look(state, stream)), index)

    # Handing over.

    def _part_offer(self, state: State, index: int, stream: int) -> State:
        thread = there(state.threads[stream])
        touched = self._ask(state, "touched", stream) or thread.state == "ENDED"
        if touched or self._ask(state, "closed", stream):
            return self._give_up(state, index)  # needs the relay, which is not modelled
        if self._claimable(state, stream, index):
            return self._next(self._thread(state, stream, owner=index), index)
        return self._wait(self._thread(state, stream, request=index, woken=True), index)

    def _part_accept(self, state: State, index: int, stream: int) -> State:
        pipe = there(state.pipes[stream])._replace(handed_over=True)
        state, _ = self._do(state, "record", stream, b"")
        state = state._replace(pipes=replaced(state.pipes, stream, pipe))
        for token in (str(index), f"{index} exit"):
            state, _ = self._do(state, "leave", token)
        state = self._look(self._release(state, stream, index), stream)
        return self._next(self._wake_all(state), index)

    # Writing.

    def _part_put(self, state: State, index: int, size: int) -> State:
        closing, broken, _, _ = self._ask(state, "outbound_is")
        if closing or broken:
            return self._give_up(state, index)
        put = state.passed[STDIN]
        state, _ = self._do(state, "put", PATTERNS[STDIN][put : put + size])
        state = state._replace(passed=replaced(state.passed, STDIN, put + size))
        if self._ask(state, "may_wait"):
            return self._next(self._caller(state, index, program=(("",),)), index)
        return self._part(self._next(state, index), index)

    def _part_drain(self, state: State, index: int, until: int) -> State:
        state = self._write_directly(state, index)
        if self._drained(state, until):
            state = self._release(state, STDIN, index)
            return self._next(self._pass_on(state), index)
        finished, empty = self._ask(state, "over", STDIN), self._ask(state, "outbound_is")[3]
        polls = not empty and self._claimable(state, STDIN, index)
        if polls:
            state = self._thread(state, STDIN, owner=index)
        else:
            state = self._release(state, STDIN, index)
            if finished:
                state = self._look(state, STDIN)
        return self._wait(state, index, wait="polls" if polls else "asleep")

    def _write_directly(self, state: State, index: int) -> State:
        """Write as much as fits, if the pipe may be used."""
        while self._claimable(state, STDIN, index):
            pipe = there(state.pipes[STDIN])
            state, data = self._do(state, "to_send")
            count = len(data[: self.world.capacity - len(pipe.data)])
            if data and not pipe.reader:
                state, _ = self._do(state, "sent", -1)
                return self._look(state, STDIN)
            if not count:
                return state
            pipe = pipe._replace(data=pipe.data + data[:count])
            state = state._replace(pipes=replaced(state.pipes, STDIN, pipe))
            state, _ = self._do(state, "sent", count)
            state = self._notify(state)[0]
        return state

    def _pass_on(self, state: State) -> State:
        left = not self._ask(state, "outbound_is")[3] or self._ask(state, "over", STDIN)
        return self._touch(state, STDIN) if left and self._does(Shell.PUT_TOUCHES) else state

    def _part_close_soon(self, state: State, index: int) -> State:
        state, _ = self._do(state, "close_soon")
        return self._next(self._look(self._write_directly(state, index), STDIN), index)

    def _part_stop(self, state: State, index: int) -> State:
        if there(state.threads[STDIN]).at != "done":
            state = self._nudge(self._thread(state, STDIN, stopping=True), STDIN)
        return self._next(state, index)

    # The process.

    def _part_signal(self, state: State, index: int) -> State:
        child = state.child._replace(signalled=state.child.alive)
        return self._next(state._replace(child=child), index)

    def _part_poll(self, state: State, index: int) -> State:
        return self._next(self._poll(state), index)

    def _part_poll_loop(self, state: State, index: int) -> State:
        if not state.child.alive:
            return self._next(state, index)
        return self._caller(self._poll(state), index, wait="loops")

    def _poll(self, state: State) -> State:
        if not state.child.alive:
            return state
        allowed = state.allowed
        for stream in self.outputs:
            most = max(self.world.bound, self._beyond(state, stream)) + self.world.bound
            allowed = replaced(allowed, stream, most)
        state, _ = self._do(state._replace(allowed=allowed), "poll")
        return self._wake_if_movable(state)
