"""Rule 4: an exception in the middle of any call loses nothing; the next call goes on."""

import asyncio
import os
import signal
import sys
from functools import partial
from typing import Any, Callable, Iterator, List, Optional

import pytest

import process as library
from process import PIPE, Process
from tests.support import LARGE, MIB, PROMPT, Kit, lines, pattern, python


class InterruptedByTestError(Exception):
    """What the signal handler raises, as the one for SIGINT raises KeyboardInterrupt."""


@pytest.fixture
def raising_handler() -> Iterator[None]:
    """SIGUSR1 raises in the main thread."""

    def handle(*_: object) -> None:
        raise InterruptedByTestError

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


#: Writes half of the flood, interrupts its parent, and writes the other half when told to.
_INTERRUPT = f"""
import signal
get(3)
put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))
os.kill(os.getppid(), signal.SIGUSR1)
get(3)
put(1, b"end\\n")
"""

_CALLS: List[Any] = [
    pytest.param(lambda process: process.stdout.read(), id="read"),
    pytest.param(lambda process: process.stdout.read(LARGE + 4), id="read-size"),
    pytest.param(lambda process: process.stdout.readlines(), id="readlines"),
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.output(join=False), id="output-unjoined"),
    pytest.param(lambda process: process.join(), id="join"),
    pytest.param(lambda process: process.error(), id="error"),
    pytest.param(lambda process: process.stderr.read(), id="stderr"),
    pytest.param(lambda process: process.stderr.read(LARGE + 1), id="stderr-size"),
    pytest.param(lambda process: process.__exit__(None, None, None), id="leave"),
]


@pytest.mark.usefixtures("raising_handler")
@pytest.mark.parametrize("call", _CALLS)
def test_a_signal_handler_raises_in(call: Callable[[Any], Any]) -> None:
    """The interrupted call has taken nothing away from the next one."""
    process = Process(python(_INTERRUPT), stdin=PIPE).run()

    def tell_and_call() -> None:
        process.stdin.write(b"go\n")
        process.stdin.flush()
        call(process)

    with pytest.raises(InterruptedByTestError):
        tell_and_call()
    if not process.stdin.closed:
        process.stdin.write(b"on\n")
        process.stdin.flush()
    assert process.output() == pattern(LARGE, 1) + b"end\n"
    assert process.error() == pattern(LARGE, 2)
    process.close()
    assert process.exit_code == 0


@pytest.mark.usefixtures("raising_handler")
def test_a_signal_handler_raises_in_close() -> None:
    """An interrupted `close` has kept nothing back from the next one."""
    ready = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); put(1, b'ready\\n')"
    process = Process(python(ready + _INTERRUPT), stdin=PIPE).run()
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"go\n")
    with pytest.raises(InterruptedByTestError):
        process.close()
    process.close()
    assert process.output() == pattern(LARGE, 1) + b"end\n"
    assert process.error() == pattern(LARGE, 2)


@pytest.mark.usefixtures("raising_handler")
def test_a_signal_handler_raises_in_a_write() -> None:
    """An interrupted `write` has handed over all its bytes, once."""
    script = """
import signal
put(1, get(100_000))
os.kill(os.getppid(), signal.SIGUSR1)
put(1, get_all())
"""
    data = pattern(LARGE)
    with Process(python(script), stdin=PIPE) as process:

        def write() -> None:
            process.stdin.write(data)
            process.join()

        with pytest.raises(InterruptedByTestError):
            write()
        process.stdin.write(b"more")
    assert process.output() == data + b"more"


@pytest.mark.usefixtures("raising_handler")
def test_a_signal_handler_raises_in_a_flush() -> None:
    """An interrupted `flush`, and the next flush sends the rest."""
    script = """
import signal
get(1)
os.kill(os.getppid(), signal.SIGUSR1)
signal.sigwait([signal.SIGUSR2])
put(1, get_all())
"""
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])"
    data = pattern(250_000)  # below the bound: `write` hands it over, `flush` waits
    with Process(python(block + script), stdin=PIPE) as process:

        def write() -> None:
            process.stdin.write(data)
            process.stdin.flush()

        with pytest.raises(InterruptedByTestError):
            write()
        process.signal(signal.SIGUSR2)
        process.stdin.flush()
        process.stdin.write(b"more")
    assert process.output() == data[1:] + b"more"


class Injector:
    """Raises at the n-th point at which a signal handler could run inside the library.

    The interpreter runs signal handlers where a Python function is entered and where a function
    written in C has returned. A profiler is called at the same places, so it can stand in for a
    signal that comes at any one of them.
    """

    def __init__(self) -> None:
        self.point = 0
        self._count = 0
        self._root = os.path.dirname(library.__file__)  # noqa: PTH120

    def call(self, function: Callable[[], Any]) -> bool:
        """Call `function`; whether it was interrupted."""
        self._count = self.point
        try:
            sys.setprofile(self._profile)
            function()
        except InterruptedByTestError:
            self.point += 1
            return True
        finally:
            sys.setprofile(None)
        return False

    def _profile(self, frame: Any, event: str, _: Any) -> None:
        if event not in ("call", "c_return"):
            return
        if not frame.f_code.co_filename.startswith(self._root) or _in_a_finalizer(frame):
            return
        if _in_finalizer(frame):
            return  # what is raised there Python reports and drops, here as anywhere
        self._count -= 1
        if self._count == 0:
            sys.setprofile(None)
            raise InterruptedByTestError


def _in_finalizer(frame: Any) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _in_a_finalizer(frame: Any) -> bool:
    """Whether an exception would not get through to the caller, whoever raised it."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _each_point(function: Callable[[], Any], check: Callable[[], None]) -> int:
    """Interrupt `function` at its first point, at its second, and so on; how many there were."""
    injector = Injector()
    injector.point = 1
    while injector.call(function):
        check()
        assert injector.point < 2000
    return injector.point - 1


def _extend(found: List[bytes], way: Callable[[Any], bytes], stream: Any) -> None:
    """Read and keep, with no point in between at which an exception could strike here."""
    found.extend(map(way, (stream,)))


_WAYS: List[Any] = [
    pytest.param(lambda stdout: stdout.readline(), id="readline"),
    pytest.param(lambda stdout: stdout.read(10), id="read-10"),
    pytest.param(lambda stdout: stdout.read1(10), id="read1"),
    pytest.param(lambda stdout: stdout.read(300_000), id="read-300000"),
    pytest.param(next, id="next"),
]


@pytest.mark.parametrize("way", _WAYS)
def test_interrupted_at_every_point_of_a_read(way: Callable[[Any], bytes]) -> None:
    """Wherever a signal strikes a read, the bytes come out whole with the reads that follow."""
    data = b"".join(lines(100_000))
    found: List[bytes] = []
    with Process(["cat"], stdin=data) as process:
        points = _each_point(
            partial(_extend, found, way, process.stdout), lambda: _nobody_waits(process)
        )
        assert points > 5
        rest = process.output()
    assert b"".join(found) + rest == data


def test_interrupted_at_every_point_of_output() -> None:
    """Wherever a signal strikes `output`, the next call returns everything."""
    data = pattern(MIB)
    with Process(["cat"], stdin=data) as process:
        points = _each_point(process.output, lambda: _nobody_waits(process))
        assert points > 5
        assert process.output() == data


def test_interrupted_at_every_point_of_join() -> None:
    """Wherever a signal strikes `join`, nobody is left waiting, and the next call works."""
    with Process(["cat"], stdin=PIPE) as process:

        def join() -> None:
            with pytest.raises(library.ProcessTimeoutError):
                process.join(0)

        assert _each_point(join, lambda: _nobody_waits(process)) > 5
        process.stdin.write(b"on")
    assert process.output() == b"on"


def test_interrupted_at_every_point_of_a_write() -> None:
    """Wherever a signal strikes a write, its bytes are on their way whole, or not at all."""
    sent: List[bytes] = []
    number = 0

    with Process(["cat"], stdin=PIPE) as process:

        def write() -> None:
            nonlocal number
            number += 1
            sent.append(b"%d:%s\n" % (number, b"x" * 10_000))
            process.stdin.write(sent[-1])
            process.stdin.flush()

        assert _each_point(write, lambda: _nobody_waits(process)) > 5
    received = process.output().splitlines(keepends=True)
    assert received == [line for line in sent if line in set(received)]
    assert received[-1] == sent[-1]
    assert len(received) > len(sent) / 2


def test_interrupted_at_every_point_of_close() -> None:
    """Wherever a signal strikes `close`, the next call completes it and keeps everything."""
    data = pattern(MIB)
    point = 1
    injector = Injector()
    interrupted = True
    while interrupted:
        process = Process(["cat"], stdin=data).run()
        process.join()
        injector.point = point
        interrupted = injector.call(process.close)
        process.close()
        assert process.output() == data
        _nobody_waits(process)
        del process
        point += 7  # a process each: not every point, but all parts
    assert point > 30


def _nobody_waits(process: Any) -> None:
    """Nobody is registered as waiting, which would let a stream hold without bound."""
    any_other_stream: Any = object()
    assert process._child.plumbing.flow.limit(any_other_stream) == 0


# asyncio


_COROUTINES: List[Any] = [
    pytest.param(lambda process: process.stdout.read(), id="read"),
    pytest.param(lambda process: process.stdout.readexactly(LARGE + 4), id="readexactly"),
    pytest.param(lambda process: process.stdout.readuntil(b"end\n"), id="readuntil"),
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.output(join=False), id="output-unjoined"),
    pytest.param(lambda process: process.join(), id="join"),
    pytest.param(lambda process: process.error(), id="error"),
    pytest.param(lambda process: process.stderr.read(), id="stderr"),
    pytest.param(lambda process: process.stderr.readexactly(LARGE + 1), id="stderr-readexactly"),
    pytest.param(lambda process: process.__aexit__(None, None, None), id="leave"),
]


@pytest.mark.parametrize("call", _COROUTINES)
async def test_a_task_is_cancelled_in(loops: Kit, call: Callable[[Any], Any]) -> None:
    """The cancelled call has taken nothing away from the next one."""
    process = await loops.start(python(_INTERRUPT), stdin=PIPE)
    struck = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, struck.set)
    try:
        process.stdin.write(b"go\n")
        task = asyncio.ensure_future(call(process))
        await struck.wait()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
    if not process.stdin.is_closing():
        process.stdin.write(b"on\n")
    assert await process.output() == pattern(LARGE, 1) + b"end\n"
    assert await process.error() == pattern(LARGE, 2)
    await process.close()
    assert process.exit_code == 0


async def test_a_task_is_cancelled_in_drain(loops: Kit) -> None:
    """A cancelled `drain` has sent everything once."""
    data = pattern(LARGE)
    async with loops.opened(["cat"], stdin=PIPE) as process:
        process.stdin.write(data)
        task = asyncio.ensure_future(process.stdin.drain())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await loops.send(process.stdin, b"more")
    assert await process.output() == data + b"more"


async def test_cancelled_again_and_again(loops: Kit) -> None:
    """Reads given up after each turn of the loop: the bytes come out whole."""
    data = b"".join(lines(20_000))
    found = b""
    async with loops.opened(["cat"], stdin=data) as process:
        turns = 0
        while len(found) < len(data):
            task = asyncio.ensure_future(
                process.stdout.readexactly(min(10_000, len(data) - len(found)))
            )
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            turns += 1
            task.cancel()
            try:
                found += await task
            except asyncio.CancelledError:
                pass
    assert found == data


async def test_wait_for_around_output(loops: Kit) -> None:
    """`asyncio.wait_for(process.output(), ...)` is an ordinary thing to do."""
    async with loops.opened(["cat"], stdin=PIPE) as process:
        await loops.send(process.stdin, b"some")
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(process.output(), 0.01)
        await loops.send(process.stdin, b"thing")
        process.stdin.close()
        assert await asyncio.wait_for(process.output(), PROMPT) == b"something"


async def test_run_is_cancelled(loops: Kit) -> None:
    """A cancelled `run` leaves no child behind, whenever it was cancelled."""
    for turns in range(8):
        process = loops.Process(["cat"], stdin=PIPE)
        task = asyncio.ensure_future(process.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        started: Optional[Any] = None
        try:
            started = await task
        except asyncio.CancelledError:
            pass
        if started is not None:
            await process.close()
