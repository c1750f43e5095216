"""Random sequences of calls, by Hypothesis, against a child that does as it is told.

The child obeys commands from a named pipe, one after the other, in one thread: so whatever it is to
write to stdout may have to wait until it has got rid of something on stderr, and the other way
round. The model knows which bytes it has been told to write. A call is made only where the contract
says that it returns; a call that does not is stopped by the timeout of the test.

`STATEFUL_EXAMPLES=1000 pytest tests/test_stateful.py` searches longer, and elsewhere each time.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from process import PIPE, ProcessTimeoutError
from tests.support import KIB, Kit, close_loop, make_loop, pattern, python

_PUPPET = """
os.closerange(3, 256)  # see `shut`
import queue, threading
orders = queue.SimpleQueue()
def obey():
    while True:
        what, number, size, seed = orders.get()
        try:
            if what == "put":
                put(number, pattern(size, seed))
            elif what == "echo":
                put(1, get(size))
            elif what == "close":
                os.close(number)
            else:
                os._exit(number)
        except OSError:
            pass  # nobody reads
threading.Thread(target=obey, daemon=True).start()
for line in open(sys.argv[1]):
    what, *rest = line.split()
    orders.put((what, *map(int, rest)))
import signal
signal.pause()
"""

#: What a pipe of any kind takes without a reader at the other end.
_FITS = 4 * KIB

#: Held by a stream while nobody waits, with a margin.
_HELD = 200 * KIB

_SIZES = st.sampled_from([0, 1, 100, 5_000, 70_000, 300_000, 1_000_000])
_OUTPUTS = st.sampled_from(["stdout", "stderr"])
#: For what leaves little to do afterwards.
_SELDOM = st.sampled_from([False, False, False, True])
_LONG = int(os.environ.get("STATEFUL_EXAMPLES", "0"))


class _Expected:
    """What has to come out of one stream."""

    def __init__(self) -> None:
        #: All that the child has been told to write.
        self.data = b""
        #: How much of it the caller has got.
        self.taken = 0
        #: What `output()` or `error()` have returned.
        self.kept = b""
        #: The child has been told to close it.
        self.ends = False
        #: The caller has closed it.
        self.closed = False

    @property
    def rest(self) -> bytes:
        return self.data[self.taken :]

    def got(self, data: bytes) -> None:
        assert data == self.data[self.taken : self.taken + len(data)]
        self.taken += len(data)


class _Machine(RuleBasedStateMachine):
    """Calls in random order, and the model."""

    #: How to call: the synchronous variant, or one of the loops.
    name = "sync"

    def __init__(self) -> None:
        super().__init__()
        self.kit = Kit(self.name)
        self.loop: Optional[asyncio.AbstractEventLoop] = None
        if self.kit.is_async:
            self.loop = make_loop(self.name)
            asyncio.set_event_loop(self.loop)
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name, "commands")
        os.mkfifo(path)
        # For both, so that neither side waits for the other.
        self.commands = os.open(path, os.O_RDWR)
        self.process: Any = self.kit.Process(python(_PUPPET, path), stdin=PIPE)
        self.wait(self.process.run())
        self.expected = {"stdout": _Expected(), "stderr": _Expected()}
        self.seed = 0
        self.written = b""
        self.echoed = 0
        self.flushed = True
        self.stdin_open = True
        self.deaf = False
        self.exit_code: Optional[int] = None
        self.closed = False

    def wait(self, value: Any) -> Any:
        """The value, awaited if that is how the variant gives it."""
        return value if self.loop is None else self.loop.run_until_complete(value)

    def tell(self, what: str, number: int = 0, size: int = 0, seed: int = 0) -> None:
        os.write(self.commands, b"%s %d %d %d\n" % (what.encode(), number, size, seed))

    @property
    def unread_input(self) -> int:
        """How many bytes the child has not been told to read."""
        return len(self.written) - self.echoed

    @property
    def quiet(self) -> bool:
        """Whether the child gets through its commands even if nobody waits."""
        return self.flushed and all(
            len(expected.rest) < _HELD or expected.closed for expected in self.expected.values()
        )

    # Commands for the child.

    @precondition(lambda self: self.exit_code is None and not self.closed)
    @rule(name=_OUTPUTS, size=_SIZES)
    def the_child_writes(self, name: str, size: int) -> None:
        expected = self.expected[name]
        if expected.ends:
            return
        self.seed += 1
        self.tell("put", 1 if name == "stdout" else 2, size, self.seed)
        expected.data += pattern(size, self.seed)

    @precondition(
        lambda self: (
            self.exit_code is None
            and not self.closed
            and not self.deaf
            and not self.expected["stdout"].ends
        )
    )
    @rule(part=st.sampled_from([1, 2]))
    def the_child_echoes(self, part: int) -> None:
        size = self.unread_input // part
        self.tell("echo", 0, size)
        self.expected["stdout"].data += self.written[self.echoed : self.echoed + size]
        self.echoed += size

    @precondition(lambda self: self.exit_code is None and not self.closed)
    @rule(name=st.sampled_from(["stdin", "stdout", "stderr"]), sure=_SELDOM)
    def the_child_closes(self, name: str, sure: bool) -> None:
        if not sure:
            return
        if name == "stdin":
            if not self.deaf:
                self.deaf = True
                self.tell("close", 0)
        elif not self.expected[name].ends:
            self.expected[name].ends = True
            self.tell("close", 1 if name == "stdout" else 2)

    @precondition(lambda self: self.exit_code is None and not self.closed)
    @rule(code=st.integers(0, 100), sure=_SELDOM)
    def the_child_exits(self, code: int, sure: bool) -> None:
        if not sure:
            return
        self.exit_code = code
        self.tell("exit", code)
        self.deaf = True
        for expected in self.expected.values():
            expected.ends = True

    # Calls.

    @precondition(lambda self: not self.closed)
    @rule(name=_OUTPUTS, size=_SIZES)
    def read(self, name: str, size: int) -> None:
        expected = self.expected[name]
        if expected.closed:
            return
        size = min(size, len(expected.rest))
        stream = getattr(self.process, name)
        data = self.wait(stream.readexactly(size) if self.loop else stream.read(size))
        assert len(data) == size
        expected.got(data)

    @precondition(lambda self: not self.closed)
    @rule(name=_OUTPUTS)
    def read_to_the_end(self, name: str) -> None:
        expected = self.expected[name]
        if expected.ends and not expected.closed:
            assert self.wait(getattr(self.process, name).read()) == expected.rest
            expected.taken = len(expected.data)

    @precondition(lambda self: not self.closed)
    @rule(name=_OUTPUTS, size=st.sampled_from([1, 100, 100_000]))
    def read_what_there_is(self, name: str, size: int) -> None:
        expected = self.expected[name]
        if expected.closed or not (expected.rest or expected.ends):
            return
        stream = getattr(self.process, name)
        data = self.wait(stream.read(size)) if self.loop else stream.read1(size)
        assert bool(data) is bool(expected.rest)
        expected.got(data)

    @precondition(lambda self: not self.closed)
    @rule(name=_OUTPUTS)
    def read_line(self, name: str) -> None:
        expected = self.expected[name]
        if expected.closed or not (b"\n" in expected.rest or expected.ends):
            return
        line = self.wait(getattr(self.process, name).readline())
        assert line == expected.rest.partition(b"\n")[0] + b"\n" * (b"\n" in expected.rest)
        expected.got(line)

    @precondition(lambda self: not self.closed and self.loop is None)
    @rule(name=_OUTPUTS, size=st.sampled_from([1, 5_000, 100_000]))
    def read_from_the_descriptor(self, name: str, size: int) -> None:
        expected = self.expected[name]
        # Not a precondition: those have to be the same each time, and this depends on what the
        # reads have found.
        if not self.quiet or expected.closed or not (expected.rest or expected.ends):
            return
        data = os.read(getattr(self.process, name).fileno(), size)
        assert bool(data) is bool(expected.rest)
        expected.got(data)

    @precondition(lambda self: not self.closed and self.stdin_open and not self.deaf)
    @rule(size=_SIZES)
    def write(self, size: int) -> None:
        if self.unread_input + size > _HELD:
            return
        self.seed += 1
        data = pattern(size, self.seed)
        self.process.stdin.write(data)
        self.written += data
        self.flushed = False

    @precondition(
        lambda self: (
            not self.closed and self.stdin_open and not self.deaf and self.unread_input <= _FITS
        )
    )
    @rule()
    def flush(self) -> None:
        stdin = self.process.stdin
        self.wait(stdin.drain() if self.loop else stdin.flush())
        self.flushed = True

    @precondition(lambda self: not self.closed and (self.unread_input <= _FITS or self.deaf))
    @rule()
    def close_stdin(self) -> None:
        self.process.stdin.close()
        if self.loop:
            self.wait(self.process.stdin.wait_closed())
        self.stdin_open = False
        self.flushed = True

    @precondition(lambda self: not self.closed and self.loop is None)
    @rule(name=_OUTPUTS, sure=_SELDOM)
    def close_a_stream(self, name: str, sure: bool) -> None:
        if sure:
            getattr(self.process, name).close()
            self.expected[name].closed = True

    @precondition(lambda self: not self.closed)
    @rule()
    def join_for_no_time(self) -> None:
        try:
            self.wait(self.process.join(timeout=0))
        except ProcessTimeoutError:
            return
        assert self.exit_code is not None
        assert self.process.exit_code == self.exit_code

    @precondition(lambda self: self.exit_code is not None and not self.closed)
    @rule()
    def join(self) -> None:
        self.wait(self.process.join())
        assert self.process.exit_code == self.exit_code

    @precondition(lambda self: not self.closed)
    @rule()
    def poll(self) -> None:
        code = self.process.exit_code
        assert code in (None, self.exit_code)
        assert self.process.running or self.exit_code is not None

    @precondition(lambda self: not self.closed)
    @rule(name=_OUTPUTS, join=st.booleans())
    def everything(self, name: str, join: bool) -> None:
        expected = self.expected[name]
        if self.exit_code is None and (join or not (expected.ends or expected.closed)):
            return
        call = self.process.output if name == "stdout" else self.process.error
        if not expected.closed:
            expected.kept += expected.rest
            expected.taken = len(expected.data)
        assert self.wait(call(join=join)) == expected.kept

    @rule(sure=_SELDOM)
    def close(self, sure: bool) -> None:
        if not sure or self.closed:
            return
        self.wait(self.process.close())
        self.closed = True
        assert self.process.exit_code in (-15, self.exit_code)
        for name, call in (("stdout", self.process.output), ("stderr", self.process.error)):
            expected = self.expected[name]
            data = self.wait(call())
            assert data == self.wait(call())
            assert data[: len(expected.kept)] == expected.kept
            # It may have been ended before it has written everything.
            late = data[len(expected.kept) :]
            assert expected.rest[: len(late)] == late
            assert not (late and expected.closed)

    def teardown(self) -> None:
        try:
            if not self.closed:
                self.leave()
        finally:
            os.close(self.commands)
            self.directory.cleanup()
            process, self.process = self.process, None
            if self.loop is not None:
                if process.running:  # the test has failed
                    self.wait(process.close())
                self.wait(Kit(self.name).settle())
                asyncio.set_event_loop(None)
                close_loop(self.loop)

    def leave(self) -> None:
        """Leave the block in the end: nothing is lost."""
        if self.exit_code is None:
            self.the_child_exits(7, True)
        leave = self.process.__aexit__ if self.loop else self.process.__exit__
        self.wait(leave(None, None, None))
        assert self.process.exit_code == self.exit_code
        for name, call in (("stdout", self.process.output), ("stderr", self.process.error)):
            expected = self.expected[name]
            rest = b"" if expected.closed else expected.rest
            assert self.wait(call()) == expected.kept + rest


class _Sync(_Machine):
    name = "sync"


class _Asyncio(_Machine):
    name = "asyncio"


class _Uvloop(_Machine):
    name = "uvloop"


@pytest.mark.timeout(_LONG + 60)
def test_calls_in_random_order(kit: Kit) -> None:
    """Each byte comes out exactly once and in order, whatever is called, and every call returns."""
    machines = {"sync": _Sync, "threads": _Sync, "asyncio": _Asyncio, "uvloop": _Uvloop}
    run: Any = run_state_machine_as_test  # has no types in the pinned release
    run(
        machines[kit.name],
        settings=settings(
            max_examples=_LONG or 50,
            stateful_step_count=30,
            derandomize=not _LONG,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink] if _LONG else [Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
