"""What the threads of streams do between two points where another thread may run."""

import math
from typing import Optional

from stress.explore.machine import Machine
from stress.explore.state import State, Thread, replaced, there
from stress.explore.world import STDIN, Shell


class ThreadSteps(Machine):
    """The steps of the threads."""

    def _thread_step(self, state: State, stream: int) -> Optional[State]:
        """The next step of the thread of `stream`; `None` while it waits, or when it has ended."""
        thread = there(state.threads[stream])
        if thread.at == "choose":
            return self._choose(state, stream)
        if thread.at == "sleep":
            stands_by = thread.state == "STANDING_BY" and self._does(Shell.STAND_BY_ENDS)
            if thread.alarm or stands_by:
                return self._thread(state, stream, at="choose", alarm=False)
            return None
        if thread.at == "wait":
            if not self._ready(state, stream):
                return None
            state = self._thread(state, stream, at="choose", woken=False)
            return state if thread.stopping else self._see_end(state)
        if thread.at == "close":
            return self._close(state, stream)
        if thread.at == "done":
            return None
        return self._write(state) if stream == STDIN else self._read_step(state, stream)

    def _choose(self, state: State, stream: int) -> State:
        thread = there(state.threads[stream])
        moving = thread.state == "MOVING"
        claimed = self._does(Shell.ONE_CLAIM) and thread.owner is not None
        if thread.stopping or self._ask(state, "over", stream):
            after = self._thread(state, stream, state="ENDED", at="close")
        elif claimed or thread.request is not None:
            after = self._thread(state, stream, state="SLEEPING", at="sleep")
        elif self._movable(state, stream) and (not thread.active or self._needed(state, stream)):
            # The next section under the lock is done in one step with this one.
            after = self._decide(self._thread(state, stream, state="MOVING"), stream)
        elif not thread.active:
            after = self._thread(state, stream, state="SLEEPING", at="sleep")
        else:
            after = self._thread(state, stream, state="STANDING_BY", at="sleep", active=False)
        self.label += f", {there(after.threads[stream]).state}"
        return self._notify(after)[0] if moving and thread.request is not None else after

    def _close(self, state: State, stream: int) -> State:
        pipe = there(state.pipes[stream])
        state, _ = self._do(state, "thread_ends", stream)
        if stream == STDIN:
            pipe = pipe._replace(writer=False)
        elif not pipe.handed_over:
            pipe = pipe._replace(reader=False, data=b"")
        state = state._replace(pipes=replaced(state.pipes, stream, pipe))
        owner = there(state.threads[stream]).owner  # which polls the pipe, and is woken
        done = Thread("ENDED", "done", active=False, owner=owner, woken=owner is not None)
        return self._wake_all(state._replace(threads=replaced(state.threads, stream, done)))

    def _decide(self, state: State, stream: int) -> State:
        thread = there(state.threads[stream])
        if stream == STDIN:
            if thread.blocked:
                return self._thread(state, STDIN, at="wait", blocked=False)
            state, data = self._do(state, "to_send")
            return self._thread(state, STDIN, at="write" if data else "choose", data=data)
        refill, room = self._ask(state, "reader_decides", stream)
        if refill:
            return self._thread(state, stream, at="refill", size=refill, busy=True)
        if not room:
            return self._thread(state, stream, at="choose", busy=False)
        if thread.blocked:
            return self._thread(state, stream, at="wait", blocked=False, busy=False)
        busy = self._does(Shell.BUSY)
        cap = self.cap(state, stream)
        return self._thread(state, stream, at="read", size=room, cap=cap, busy=busy)

    def _read_step(self, state: State, stream: int) -> Optional[State]:
        thread, pipe = there(state.threads[stream]), there(state.pipes[stream])
        if thread.at == "read":
            if not pipe.data and pipe.writer:
                return self._thread(
                    state, stream, at="choose", blocked=True, busy=False, size=0, cap=0
                )
            state, data = self._read(state, stream, thread.size, thread.cap)
            blocked = len(data) < thread.size
            return self._thread(
                state, stream, at="record", data=data, blocked=blocked, size=0, cap=0
            )
        if thread.at == "record":
            state, spills = self._do(state, "record", stream, thread.data)
            if spills:
                if not self._does(Shell.SPILL_BUSY):
                    state = self._tell(state, stream)
                return self._thread(state, stream, at="spill")
        elif thread.at == "spill":
            state, _ = self._do(state, "spill", stream, thread.data)
        else:
            state, _ = self._do(state, "refill", stream, thread.size)
        state = self._tell(state, stream)
        return self._thread(state, stream, at="choose", data=b"", size=0)

    def _tell(self, state: State, stream: int) -> State:
        state = self._thread(state, stream, busy=False)
        if not self._does(Shell.RECORD_NOTIFIES):
            return state
        state, found = self._notify(state)
        return self._thread(state, stream, active=True) if found else state

    def _write(self, state: State) -> State:
        thread, pipe = there(state.threads[STDIN]), there(state.pipes[STDIN])
        if thread.at == "write":
            count = len(thread.data[: self.world.capacity - len(pipe.data)])
            blocked = pipe.reader and count < len(thread.data)
            if pipe.reader:
                pipe = pipe._replace(data=pipe.data + thread.data[:count])
            else:
                count = -1
            state = state._replace(pipes=replaced(state.pipes, STDIN, pipe))
            return self._thread(state, STDIN, at="record", data=b"", size=count, blocked=blocked)
        state, _ = self._do(state, "sent", thread.size)
        return self._tell(self._thread(state, STDIN, at="choose", size=0), STDIN)

    def cap(self, state: State, stream: int) -> float:
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
