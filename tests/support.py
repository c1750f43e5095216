"""What the tests share: patterned bytes, children to run, and one face for both variants."""

import _thread
import asyncio
import contextlib
import dis
import functools
import gc
import importlib.util
import inspect
import os
import random
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from types import CodeType, FrameType
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Coroutine,
    FrozenSet,
    Iterator,
    List,
    Optional,
    Tuple,
    TypeVar,
)

import pytest

import process
import process.process
from process import Process, ProcessError
from process._interpreter import interrupted_after_returns
from process._platform import PipeEnd
from process.core._flow import Wait

T = TypeVar("T")

# What PyPy and Windows lack, and what is asked of it in tests.
needs_refcounts = pytest.mark.skipif(
    not hasattr(sys, "getrefcount"), reason="references are not counted (no sys.getrefcount)"
)
needs_tracemalloc = pytest.mark.skipif(
    importlib.util.find_spec("_tracemalloc") is None, reason="memory is not traced (no tracemalloc)"
)
needs_waitid = pytest.mark.skipif(
    not hasattr(os, "waitid"), reason="an end cannot be awaited without reaping (no os.waitid)"
)
needs_polls = pytest.mark.skipif(
    not PipeEnd.pollable, reason="a thread blocks in a read (pipes cannot be polled)"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks (no os.fork)")
needs_signals = pytest.mark.skipif(
    not hasattr(signal, "SIGUSR1"), reason="signals do no more than end a process (no SIGUSR1)"
)

#: For tests in which a handler raises all over calls that return bytes.
loses_no_results = pytest.mark.skipif(
    interrupted_after_returns(),
    reason="a handler may raise between a return and the caller's next instruction: the result of "
    "a read is lost there (docs/gotchas.md)",
)


def needs_program(name: str) -> pytest.MarkDecorator:
    """For tests that run a program of POSIX."""
    is_there = sys.platform != "win32" and shutil.which(name) is not None
    return pytest.mark.skipif(not is_there, reason=f"there is no program {name}")


#: Of the collector: what has survived so far is not looked at again. PyPy has no such thing.
freeze: Callable[[], None] = getattr(gc, "freeze", lambda: None)
unfreeze: Callable[[], None] = getattr(gc, "unfreeze", lambda: None)

KIB = 1024
MIB = 1024 * KIB

#: More than any pipe, bound or stream buffer holds.
LARGE = 4 * MIB

#: Where `process` is imported from, for children that import it.
ROOT = str(Path(process.__file__).parent.parent)

#: Where `stress`, the documents and the tests are: elsewhere, if it is the wheel that is tested.
REPOSITORY = str(Path(__file__).parent.parent)

#: The seconds within which what is to be prompt has to happen: generous, for busy machines.
PROMPT = 10.0

#: Seconds that no test may take: a wait that only this would end is a hang, and fails.
FOREVER = 1000.0

#: The seconds after which what has not happened does not happen, however busy the machine.
_NEVER = 3 * PROMPT

_PRELUDE = """\
import os, sys, _random
def pattern(size, seed=0):
    numbers = _random.Random()
    numbers.seed(seed)
    return numbers.getrandbits(8 * size).to_bytes(size, "little") if size else b""
def put(number, data):
    view = memoryview(data)
    while view:
        view = view[os.write(number, view):]
def get(size):
    data = b""
    while len(data) < size:
        more = os.read(0, min(size - len(data), 1 << 20))
        if not more:
            break
        data += more
    return data
def shut(number):  # uvloop leaves a copy of each end in the child, under a higher number
    os.closerange(3, 256)
    os.close(number)
def get_all():
    return b"".join(iter(lambda: os.read(0, 1 << 20), b""))
"""


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere, so that a loss, a copy or a swap of any size shows."""
    return random.Random(seed).randbytes(size) if size else b""


def lines(count: int, seed: int = 0) -> List[bytes]:
    """Numbered lines of various lengths."""
    lengths = random.Random(seed)
    return [b"%d:%s\n" % (number, b"x" * lengths.randrange(200)) for number in range(count)]


def python(script: str, *arguments: object) -> List[str]:
    """The command that runs `script`, which has `pattern`, `put`, `get`, `get_all`, `shut`."""
    start = [sys.executable, "-S", "-E", "-c", _PRELUDE + script]
    return start + [str(argument) for argument in arguments]


def start_library(script: str) -> List[str]:
    """The command that runs `script` with `process` to be imported, strictly."""
    prepare = f"import sys; sys.path.insert(0, {ROOT!r})\n"
    return [sys.executable, "-W", "error", "-c", prepare + script]


def start_talkative(script: str) -> List[str]:
    """The same, with everything on that makes an interpreter say what it does not like.

    Save that a callback took its time: on a busy machine every one does.
    """
    quiet = """
import logging
logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing "))
"""
    command = start_library(quiet + script)
    command[1:1] = ["-X", "dev"]
    return command


def _program(name: str, script: str) -> List[str]:
    """The command that runs a program of POSIX, or `script` where there is no such program."""
    is_there = sys.platform != "win32" and shutil.which(name) is not None
    return [name] if is_there else python(script)


#: The command that copies stdin to stdout as it comes.
CAT = _program("cat", "for data in iter(lambda: os.read(0, 1 << 16), b''): put(1, data)")

#: The command that writes a line again and again: that of its argument, or `y`.
YES = _program("yes", "while True: put(1, b'%b\\n' % (*sys.argv, 'y')[1].encode() * 1000)")

#: The command that writes its arguments, and a line feed.
ECHO = _program("echo", "put(1, ' '.join(sys.argv[1:]).encode() + b'\\n')")

#: The exit codes of a child that was terminated, and of one that was killed.
TERMINATED, KILLED = (1, 1) if sys.platform == "win32" else (-signal.SIGTERM, -signal.SIGKILL)

#: Closes its stdin, and says so.
DEAF = "shut(0); put(1, b'closed\\n')"

#: Writes `size` patterned bytes to stdout, with seed 1, and to stderr, with seed 2, by turns.
FLOOD_BOTH = """
size = int(sys.argv[1])
out, err = pattern(size, 1), pattern(size, 2)
for i in range(0, size, 50_000):
    put(1, out[i:i + 50_000]); put(2, err[i:i + 50_000])
"""


class Kit:
    """Drives either variant with one and the same test.

    A test is a coroutine function. For the synchronous variant it never suspends; for the asyncio
    variant it runs in a loop.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name != "sync"
        self.Process: Any = process.AsyncProcess if self.is_async else Process

    def __repr__(self) -> str:
        return self.name

    def run(self, scenario: Coroutine[Any, Any, T]) -> T:
        """Run a test to its end."""
        if self.is_async:
            return run_in_loop(self.name, scenario)
        try:
            scenario.send(None)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            scenario.close()
        raise AssertionError("the synchronous variant has nothing to await")

    async def get(self, value: Any) -> Any:
        """The value, awaited if that is how the variant gives it."""
        assert inspect.isawaitable(value) is self.is_async
        return await value if self.is_async else value

    async def start(self, *arguments: Any, **options: Any) -> Any:
        """A process that has been run."""
        return await self.get(self.Process(*arguments, **options).run())

    @contextlib.asynccontextmanager
    async def opened(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        """A process in its own `with` block."""
        child = self.Process(*arguments, **options)
        if self.is_async:
            async with child:
                yield child
        else:
            with child:
                yield child

    async def blocking(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what blocks, while the loop, if there is one, goes on."""
        if self.is_async:
            return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
        return function(*arguments)

    async def pause(self) -> None:
        """Let the loop, if there is one, have its turn."""
        if self.is_async:
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let the loop, if there is one, close what was released: this takes some iterations."""
        if self.is_async:
            await _turns(5)

    # Streams.

    async def read(self, stream: Any, size: int) -> bytes:
        """Exactly `size` bytes."""
        data: bytes
        if self.is_async:
            data = await stream.readexactly(size)
            return data
        data = b""
        while len(data) < size:
            more = stream.read(size - len(data))
            assert more, f"end of file after {len(data)} of {size} bytes"
            data += more
        return data

    async def read_all(self, stream: Any) -> bytes:
        """Everything to end of file."""
        data: bytes = await self.get(stream.read())
        return data

    async def read_line(self, stream: Any) -> bytes:
        """The next line."""
        data: bytes = await self.get(stream.readline())
        return data

    async def write(self, stream: Any, data: bytes) -> None:
        """Write and wait until there is room again."""
        stream.write(data)
        if self.is_async:
            await stream.drain()

    async def send(self, stream: Any, data: bytes) -> None:
        """Write and flush."""
        stream.write(data)
        await self.get(stream.drain() if self.is_async else stream.flush())

    async def close(self, stream: Any) -> None:
        """Close a stream and wait until that is done."""
        stream.close()
        if self.is_async:
            await stream.wait_closed()


def loop_parameters() -> List[Any]:
    """The names of the kinds of loops, for parameters of tests; those that are missing skip."""
    try:
        import uvloop  # noqa: F401
    except ImportError as error:
        skip = pytest.mark.skip(reason=f"uvloop cannot be imported: {error}")
        return ["asyncio", pytest.param("uvloop", marks=skip)]
    return ["asyncio", "uvloop"]


def make_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new loop of asyncio's or of uvloop's."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def run_in_loop(name: str, scenario: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, with the loop of one's choice; tasks left behind are a failure."""
    loop = make_loop(name)
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(scenario)
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks left behind: {left}"
        return result
    finally:
        try:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            # Transports that are closed say so to their protocols one turn later.
            loop.run_until_complete(_turns(3))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            close_loop(loop)


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop; transports left open are a failure.

    Where warnings are errors uvloop does not survive its own about them: `close` hangs.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
    assert not caught, [str(warning.message) for warning in caught]


def rudely_close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop under its transports."""
    with warnings.catch_warnings():
        # Of uvloop, about what it finds open; it would hang if that were an error.
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Gate:
    """A named pipe at which a child waits until it is opened.

    Windows has no such pipes in its file system. There a file says that the child waits, and is
    removed to let it go on.
    """

    #: For the child: wait until the gate is opened, which gives it `data`.
    WAIT = (
        'data = open(sys.argv[1], "rb").read()\n'
        if hasattr(os, "mkfifo")
        else """
import time
open(sys.argv[1], "xb").close()
while os.path.exists(sys.argv[1]): time.sleep(0.001)
data = open(sys.argv[1] + ".data", "rb").read()
"""
    )

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.path = directory / name
        if hasattr(os, "mkfifo"):
            os.mkfifo(self.path)

    def open(self, data: bytes = b"") -> None:
        """Let the child go on, as soon as it waits."""
        if hasattr(os, "mkfifo"):
            self.path.write_bytes(data)
            return
        Path(f"{self.path}.data").write_bytes(data)
        until(self._remove)

    def _remove(self) -> bool:
        try:
            self.path.unlink()
        except (FileNotFoundError, PermissionError):  # not made yet, or not closed yet
            return False
        return True

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Let the child go on once it waits, which it may only get to inside of the block."""
        thread = threading.Thread(target=self.open, daemon=True)
        thread.start()
        yield
        thread.join()

    def __str__(self) -> str:
        return str(self.path)


def until(holds: Callable[[], Any]) -> None:
    """Return as soon as another thread, or a child, has brought about that `holds()`."""
    deadline = time.monotonic() + _NEVER
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0)


async def reached(holds: Callable[[], Any]) -> None:
    """The same for what the loop brings about, which runs meanwhile."""
    deadline = time.monotonic() + _NEVER
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        await asyncio.sleep(0.001)


async def held_to_the_end(process: Any) -> None:
    """Wait until all that an asyncio process writes to its stdout is held.

    `join` may return while the last bytes are still in the pipe. Nobody waits then, so the loop
    reads them only if there is room.
    """
    stdout = process.stdout
    wait = Wait()
    stdout._monitor.flow.enter(wait)
    stdout._monitor.advance()
    await reached(lambda: stdout.inbound.ending.eof)
    stdout._monitor.flow.leave(wait)
    await process.join()


def refuse_threads(
    patch: pytest.MonkeyPatch,
    fault: BaseException,
    names: Tuple[str, ...] = ("process-",),
    number: Optional[int] = None,
) -> List[str]:
    """Let no thread with such a name start; a list that will hold the names of those that were to.

    The names of the library's own threads begin with `process-`. Given a `number`, only the thread
    of that number is refused: 1 for the first one.
    """
    real = threading.Thread.start
    refused: List[str] = []
    left = number

    def start(self: threading.Thread) -> None:
        nonlocal left
        if not self.name.startswith(names):
            return real(self)
        if left is not None:
            left -= 1
            if left:
                return real(self)
        refused.append(self.name)
        raise fault.with_traceback(None)  # which would grow each time

    patch.setattr(threading.Thread, "start", start)
    return refused


@contextlib.contextmanager
def alarms(handler: Callable[..., Any], interval: float) -> Iterator[None]:
    """SIGALRM comes again and again, `interval` seconds apart, and is handled by `handler`."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class InterruptedByTestError(BaseException):
    """What a signal handler raises; no `except Exception` may swallow it."""


def run_without_thread(monkeypatch: pytest.MonkeyPatch, number: int) -> str:
    """Check that a run fails if the thread of that number, which has this name, cannot start.

    Nothing is left of it, and the next run works.
    """
    before, threads = descriptors(), threading.active_count()
    data = pattern(LARGE)
    process = Process(["cat"], stdin=data)
    with monkeypatch.context() as patch:
        fault = RuntimeError("can't start new thread")
        refused = refuse_threads(patch, fault, number=number)
        with pytest.raises(ProcessError) as caught:
            process.run()
    assert caught.value.__cause__ is fault
    until(lambda: threading.active_count() == threads)  # they end by themselves, as the child does
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert process.run().output() == data
    process.close()
    (name,) = refused
    return name


def _interrupt() -> None:
    raise InterruptedByTestError


#: The signal that the injectors make pending; nothing else uses it in this process.
_SIGNAL = int(getattr(signal, "SIGUSR1", signal.SIGINT))

_IS_CPYTHON = sys.implementation.name == "cpython"


class _Pending:
    """`_SIGNAL in _PENDING` makes the signal pending, as its arrival does.

    The operator is one instruction, and no CPython looks for signals after it. A call would not do:
    the interpreter looks after each, so the handler would run in the function that makes the call.
    """

    __contains__: Any = (
        _thread.interrupt_main
        if sys.version_info >= (3, 10) and _IS_CPYTHON
        else signal.raise_signal
    )


_PENDING = _Pending()


@functools.cache
def _points(code: CodeType, between_instructions: bool) -> FrozenSet[int]:
    """The offsets of instructions that end with a look for signals, or that enter a function.

    CPython looks where a function is entered, after a call, and on a jump backward; 3.9 and PyPy do
    so between most instructions. There those that change nothing are left out: a signal that
    strikes after them might as well have struck before. From 3.15 on the call of `__enter__` by a
    `with` statement is followed by no look (gh-148874); but a traced one is, so it is left out.
    """
    between_instructions &= sys.version_info < (3, 10) or not _IS_CPYTHON
    found = []
    before = ""
    for instruction in dis.get_instructions(code):
        name, target = instruction.opname, instruction.argval
        if between_instructions:
            is_point = not name.startswith(("LOAD_", "POP_TOP", "ROT_", "DUP_", "NOP"))
        elif name.startswith("RETURN_"):  # to C, whose call is followed by a look
            is_point = sys.version_info < (3, 11)
        elif name.startswith("CALL"):
            is_point = sys.version_info < (3, 15) or before != "LOAD_SPECIAL"
        else:
            is_jump = "JUMP" in name and "NO_INTERRUPT" not in name
            is_point = is_jump and isinstance(target, int) and target <= instruction.offset
        if is_point:
            found.append(instruction.offset)
        if name not in ("CACHE", "EXTENDED_ARG"):
            before = name
    return frozenset(found)


class Injector:
    """Has a signal handled at the n-th point at which that can happen inside the library.

    The signal is made pending just before an instruction that ends with a look for signals, and the
    interpreter does the rest: so the handler runs where one can run in this version, and nowhere
    else. PyPy cannot be told to wait; there the tracer does what the handler would.
    """

    def __init__(
        self,
        point: int,
        strike: Callable[[], object] = _interrupt,
        root: str = str(Path(process.__file__).parent),
        between_instructions: bool = False,
    ) -> None:
        """Strike at that point.

        Args:
            point: which one, counted from 1.
            strike: what the handler does.
            root: what the paths of the files begin with in which there are points.
            between_instructions: whether there are points between all instructions where handlers
                run there. The core is proof against that, and the rest is not.
        """
        self.point = point
        #: Whether the last call had as many points as that.
        self.struck = False
        #: How many points it has had until then.
        self.passed = 0
        self._strike = strike
        self.root = root
        self.between_instructions = between_instructions
        self._live = False

    def call(self, function: Callable[[], Any]) -> None:
        """Call `function`, and strike if it has as many points as that."""
        try:
            with self.armed():
                function()
        except InterruptedByTestError:
            pass

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Strike inside of the block, in this thread."""
        self.passed = 0
        self.struck = False
        before = signal.signal(_SIGNAL, self._handle)
        outer = sys.gettrace()
        # An exception is lost in what others let the collector call, which is Hypothesis.
        callbacks: List[Any] = getattr(gc, "callbacks", [])
        foreign, callbacks[:] = list(callbacks), []
        self._live = True
        # Before `settrace`: else 3.12 reports no instructions until the second time.
        sys._getframe().f_trace_opcodes = True
        try:
            sys.settrace(self._trace)
            yield
        finally:
            self._live = False
            sys.settrace(outer)
            callbacks[:] = foreign
            signal.signal(_SIGNAL, before)

    def applies(self, frame: FrameType) -> bool:
        """Whether a handler that interrupts `frame` is meant."""
        return not in_a_finalizer(frame)

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self.root):
            return None
        frame.f_trace_opcodes = True
        if (
            event == "opcode"
            and frame.f_lasti in _points(code, self.between_instructions)
            and self.applies(frame)
        ):
            self.passed += 1
            if self.passed == self.point:
                sys.settrace(None)
                self.struck = True
                if not _IS_CPYTHON:
                    self._strike()
                    return None
                # A function that returns does not look for signals.
                return _SIGNAL in _PENDING or None
        return self._trace

    def _handle(self, _: int, frame: Optional[FrameType]) -> None:
        # A jump that was not taken looks for no signals: the call may have returned meanwhile, and
        # what becomes of its result is not the library's business.
        if self._live and frame is not None and self._is_inside(frame) and self.applies(frame):
            self._strike()

    def _is_inside(self, frame: FrameType) -> bool:
        inner: Optional[FrameType] = frame
        while inner is not None and not inner.f_code.co_filename.startswith(self.root):
            inner = inner.f_back
        return inner is not None


def injectors(least: int, step: int = 1, begin: int = 1) -> Iterator[Injector]:
    """One for the point `begin`, one `step` points later, and so on, while there is such a point.

    The one after the last has to be beyond `least`: else nothing has been tried.
    """
    for point in range(begin, 2000, step):
        injector = Injector(point)
        yield injector
        if not injector.struck:
            assert point + step > least
            return
    pytest.fail("there is no end of points")


def in_a_finalizer(frame: Any) -> bool:
    """Whether an exception raised in `frame` would not get through to the caller.

    That is so, too, in the callback of a weak reference to the wait of a call, which is made if its
    clean-up was interrupted as well (docs/gotchas.md).
    """
    while frame is not None:
        if frame.f_code.co_name in {"__del__", "on_abandoned"}:
            return True
        frame = frame.f_back
    return False


def await_stop(pid: int) -> None:
    """Return when a child that has been sent SIGSTOP has stopped; it can still be reaped."""
    if hasattr(os, "waitid"):  # not on macOS before Python 3.13
        result = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert result is not None
        assert result.si_code == os.CLD_STOPPED


def has_gil() -> bool:
    """Whether one thread runs at a time."""
    ask: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return ask()


def collect() -> None:
    """Free what nothing refers to any more."""
    gc.collect()
    if not hasattr(sys, "getrefcount"):
        gc.collect()  # what finalizers have let go of


def free() -> None:
    """The same where references are not counted, so that it has not been freed yet."""
    if not hasattr(sys, "getrefcount"):
        collect()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, once what was dropped has been ended."""
    free()
    if sys.platform == "win32":  # where signal 0 is CTRL_C_EVENT, and is sent
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def descriptors(after_collection: bool = False) -> Optional[List[str]]:
    """What the descriptors of this process refer to, where that can be told.

    Args:
        after_collection: what was dropped has been freed already.
    """
    directory = Path("/proc/self/fd")
    if not directory.is_dir():
        return None
    if not after_collection:
        free()
    found = []
    for entry in os.listdir(directory):  # noqa: PTH208
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found.append(f"{entry} -> {os.readlink(directory / entry)}")  # noqa: PTH115
    return sorted(found)
