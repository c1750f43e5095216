"""Rule 4: an exception in the middle of any call loses nothing; the next call goes on."""

import asyncio
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest

from process import PIPE, Process
from tests.support import CAT, ECHO, LARGE, PROMPT, Gate, Kit, collect, lines, pattern, python


class InterruptedByTestError(Exception):
    """What the signal handler raises, as the one for SIGINT raises KeyboardInterrupt."""


@pytest.fixture
def raising_handler() -> Iterator[None]:
    """SIGUSR1 raises in the main thread."""
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("a child cannot interrupt its parent (no SIGUSR1)")

    def handle(*_: object) -> None:
        raise InterruptedByTestError

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


#: Writes the flood, and the end when told to.
_PAUSE = f"""
get(3)
put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))
%s
get(3)
put(1, b"end\\n")
"""

#: The same, and interrupts its parent in between.
_INTERRUPT = _PAUSE % "import signal; os.kill(os.getppid(), signal.SIGUSR1)"

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


@pytest.mark.usefixtures("raising_handler", "looks_again")
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
def test_a_signal_handler_raises_an_ordinary_exception_in_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not a failure of the run, and arrives as it was raised; the next run works."""
    process = Process([*ECHO, "x"])
    with monkeypatch.context() as patch:
        patch.setattr(
            "process.process.check_arguments", lambda _: signal.raise_signal(signal.SIGUSR1)
        )
        with pytest.raises(InterruptedByTestError):
            process.run()
    assert process.run().output() == b"x\n"
    process.close()


def test_a_run_is_torn_out_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not given back the right to run: that ends with its frame, and the next run works."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    process = Process([*ECHO, "x"])
    with monkeypatch.context() as patch:
        patch.setattr("process.process.check_arguments", interrupt)
        patch.setattr(Process, "_conclude", interrupt)
        with pytest.raises(KeyboardInterrupt):
            process.run()
    collect()
    assert process.run().output() == b"x\n"
    process.close()


@pytest.mark.usefixtures("raising_handler", "looks_again")
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


@pytest.mark.usefixtures("raising_handler", "looks_again")
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


@pytest.mark.usefixtures("raising_handler", "looks_again")
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
async def test_a_task_is_cancelled_in(
    loops: Kit, call: Callable[[Any], Any], tmp_path: Path
) -> None:
    """The cancelled call has taken nothing away from the next one."""
    gate = Gate(tmp_path)
    process = await loops.start(python(_PAUSE % Gate.WAIT, gate), stdin=PIPE)
    process.stdin.write(b"go\n")
    task = asyncio.ensure_future(call(process))
    await loops.blocking(gate.open)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not process.stdin.is_closing():
        process.stdin.write(b"on\n")
    assert await process.output() == pattern(LARGE, 1) + b"end\n"
    assert await process.error() == pattern(LARGE, 2)
    await process.close()
    assert process.exit_code == 0


async def test_a_task_is_cancelled_in_drain(loops: Kit) -> None:
    """A cancelled `drain` has sent everything once."""
    data = pattern(LARGE)
    async with loops.opened(CAT, stdin=PIPE) as process:
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
    async with loops.opened(CAT, stdin=data) as process:
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
    async with loops.opened(CAT, stdin=PIPE) as process:
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
        process = loops.Process(CAT, stdin=PIPE)
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
