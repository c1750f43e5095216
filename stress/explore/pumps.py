"""What the pumps do between two points where another thread may come in."""

import math
from typing import Optional

from stress.explore.machine import Machine
from stress.explore.state import Pump, State, replaced, there
from stress.explore.world import NAMES, Shell, broken


class PumpSteps(Machine):
    """The steps of the pumps."""

    def _reader_step(self, state: State, stream: int) -> Optional[State]:
        pump, pipe = there(state.pumps[stream]), there(state.pipes[stream])
        if pump.at == "decide":
            if pump.stopping:
                return self._pump(state, stream, at="end")
            at, size = self._ask(state, "reader_decides", stream)
            if at == "end":
                return self._pump(state, stream, at=at)
            self.label += f", {at} {size or ''}"
            return self._pump(
                state,
                stream,
                at=at,
                size=size,
                cap=self._cap(state, stream) if at == "read" else 0,
                waits=at != "refill",
                waits_for_room=at == "wait",
                ready=False,
                busy=at != "wait" and Shell.BUSY in self.world.shell,
            )
        if pump.at == "read":
            if pipe.data:
                data = pipe.data[: int(pump.size)]
                held = self._beyond(state, stream) + len(data)
                if held > pump.cap:
                    broken("bound", f"{held} bytes of {NAMES[stream]} held, not {pump.cap}")
                pipes = replaced(state.pipes, stream, pipe._replace(data=pipe.data[len(data) :]))
                state = state._replace(pipes=pipes)
                return self._pump(state, stream, at="record", data=data, size=0, cap=0)
            if not pipe.writer:
                return self._pump(state, stream, at="record", data=b"", size=0, cap=0)
            return self._pump(state, stream, at="wait", ready=True, busy=False, size=0, cap=0)
        if pump.at == "record":
            state, spills = self._do(state, "record", stream, pump.data)
            if spills:
                if Shell.SPILL_BUSY not in self.world.shell:
                    state = self._tell(state, stream)
                return self._pump(state, stream, at="spill")
            return self._pump(self._tell(state, stream), stream, at="decide", data=b"")
        if pump.at == "spill":
            state, _ = self._do(state, "spill", stream, pump.data)
            return self._pump(self._tell(state, stream), stream, at="decide", data=b"")
        if pump.at == "refill":
            state, _ = self._do(state, "refill", stream, pump.size)
            return self._pump(self._tell(state, stream), stream, at="decide", size=0)
        if pump.at == "wait":
            return self._woken(state, stream, bool(pipe.data) or not pipe.writer)
        if pump.at == "end":
            state, _ = self._do(state, "reader_ends", stream)
            closed = replaced(state.pipes, stream, pipe._replace(reader=False, data=b""))
            return self._done(state._replace(pipes=closed), stream)
        return None

    def _tell(self, state: State, stream: int) -> State:
        return self._notify(
            self._pump(state, stream, busy=False, waits=False, waits_for_room=False)
        )

    def _woken(self, state: State, stream: int, ready: bool) -> Optional[State]:
        pump = there(state.pumps[stream])
        ended = not state.child.alive and not pump.told
        if not (pump.stopping or pump.rung or ended or (pump.ready and ready)):
            return None
        state = self._pump(state, stream, at="decide", rung=False, ready=False)
        if ended and not pump.stopping:
            self.label += " sees that the process has ended"
            state, _ = self._do(state, "process_ended")
            state = self._notify(self._pump(state, stream, told=True))
        return state

    def _done(self, state: State, stream: int) -> State:
        told = there(state.pumps[stream]).told
        stopping = there(state.pumps[stream]).stopping
        done = Pump(at="done", told=told, stopping=stopping)
        return self._notify(state._replace(pumps=replaced(state.pumps, stream, done)))

    def _writer_step(self, state: State, stream: int) -> Optional[State]:
        pump, pipe = there(state.pumps[stream]), there(state.pipes[stream])
        if pump.at == "decide":
            if pump.stopping:
                return self._pump(state, stream, at="end")
            at, data = self._ask(state, "writer_decides")
            if at == "end":
                return self._pump(state, stream, at=at)
            self.label += f", {at}"
            rests = at == "wait"
            return self._pump(
                state, stream, at=at, data=data, waits=rests, waits_for_room=rests, ready=False
            )
        if pump.at == "write":
            count = len(pump.data[: self.world.capacity - len(pipe.data)])
            if not pipe.reader:
                count = -1
            else:
                pipe = pipe._replace(data=pipe.data + pump.data[:count])
            state = state._replace(pipes=replaced(state.pipes, stream, pipe))
            return self._pump(state, stream, at="record", data=b"", size=count)
        if pump.at == "record":
            state, _ = self._do(state, "sent", pump.size)
            at = "decide" if pump.size else "wait"
            return self._notify(self._pump(state, stream, at=at, size=0, ready=not pump.size))
        if pump.at == "wait":
            room = len(pipe.data) < self.world.capacity or not pipe.reader
            return self._woken(state, stream, room)
        if pump.at == "end":
            state, _ = self._do(state, "writer_ends")
            closed = replaced(state.pipes, stream, pipe._replace(writer=False))
            return self._done(state._replace(pipes=closed), stream)
        return None

    def _cap(self, state: State, stream: int) -> float:
        """How many bytes `stream` may hold, judged by what the callers are doing."""
        cap: float = max(self.world.bound, state.allowed[stream])
        for caller in state.callers:
            if caller.call is None:
                continue
            part = caller.program[0]
            mine = part[0] == "take" and part[1] == stream and caller.own
            if mine and part[2] != "read line":
                cap = max(cap, part[3])
            else:
                return math.inf
        return cap
