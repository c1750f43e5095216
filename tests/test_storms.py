"""Rule 10: threads that want something at once, signals without end, a caller that is stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest

from process import PIPE, Process
from stress import storms
from tests.support import (
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    alarms,
    await_stop,
    is_alive,
    pattern,
    python,
    start_library,
)


class Crowd:
    """Threads that make calls, all begun at the same moment."""

    def __init__(self, calls: List[Callable[[], Any]]) -> None:
        self.results: List[Any] = [None] * len(calls)
        barrier = threading.Barrier(len(calls))

        def run(number: int, call: Callable[[], Any]) -> None:
            barrier.wait()
            try:
                self.results[number] = call()
            except BaseException as error:
                self.results[number] = error

        self._threads = [
            threading.Thread(target=run, args=(number, call)) for number, call in enumerate(calls)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> List[Any]:
        """What the calls have returned or raised."""
        for thread in self._threads:
            thread.join()
        return self.results


def _pieces(process: Any, size: int) -> bytes:
    return b"".join(iter(lambda: process.stdout.read(size) or b"", b""))


@pytest.mark.parametrize("exposed", [False, True])
def test_output_and_reads_share_the_bytes(exposed: bool) -> None:
    """`output`, `read`, `readline` and `join` from many threads: every byte goes to one of them."""
    data = b"".join(b"%07d\n" % number for number in range(LARGE // 8))
    with Process(["cat"], stdin=data) as process:
        if exposed:
            process.stdout.fileno()
        calls: List[Callable[[], Any]] = [
            lambda: b"".join(process.stdout.readline() for _ in range(10 if exposed else 1000)),
            lambda: process.stdout.read(80_000),
            lambda: process.stdout.read(800_000),
            lambda: process.stdout.read(8),
            process.join,
        ]
        results = [result for result in Crowd(calls * 2).join() if result is not None]
        assert all(isinstance(result, bytes) for result in results), results
        rest = process.output()
    seen = sorted(_records(b"".join(results)) + _records(rest))
    assert seen == _records(data)


def _records(data: bytes) -> List[bytes]:
    return [data[begin : begin + 8] for begin in range(0, len(data), 8)]


@pytest.mark.parametrize("_again", range(5))
def test_close_from_many_threads_at_once(_again: int) -> None:
    """`close`, `output`, polls and reads: all return, the child is ended, once."""
    process = Process(["yes"], stdin=pattern(LARGE)).run()
    pid = process.id
    calls: List[Callable[[], Any]] = [
        process.close,
        process.output,
        process.error,
        process.join,
        lambda: _pieces(process, 1000),
        lambda: process.running,
        lambda: repr(process),
        process.kill,
    ]
    results = Crowd(calls * 2).join()
    for result in results:
        # A stream that another thread has closed says so.
        assert not isinstance(result, BaseException) or type(result) is ValueError, results
    assert not is_alive(pid)
    assert process.output() == process.output()


def test_writers_in_many_threads() -> None:
    """Each write goes in whole."""
    records = [b"%03d" % number * 40_000 for number in range(40)]
    with Process(["cat"], stdin=PIPE) as process:
        crowd = Crowd([lambda record=record: process.stdin.write(record) for record in records])  # type: ignore[misc]
        assert crowd.join() == [len(record) for record in records]
    output = process.output()
    size = len(records[0])
    assert sorted(output[i : i + size] for i in range(0, len(output), size)) == records


def test_run_by_many_threads_at_once() -> None:
    """One of them runs the process; the others are told."""
    process = Process(["cat"], stdin=b"x")
    results = Crowd([process.run] * 8).join()
    assert results.count(process) == 1
    assert {str(result) for result in results if result is not process} == {
        "Process has already been run"
    }
    assert process.output() == b"x"
    process.close()


def test_fileno_from_many_threads_at_once() -> None:
    """There is one descriptor, made once."""
    data = pattern(MIB)
    with Process(["cat"], stdin=data) as process:
        results = Crowd([process.stdout.fileno] * 8).join()
        assert len(set(results)) == 1
        assert process.output() == data


async def test_a_storm_of_signals_over_megabytes(kit: Kit) -> None:
    """EINTR at every turn, in the calls of either variant, in both directions."""
    storms = 0

    def count(*_: object) -> None:
        nonlocal storms
        storms += 1

    data = pattern(2 * LARGE)
    with alarms(count, 0.0005):
        async with kit.opened(["cat"], stdin=PIPE) as process:
            await kit.write(process.stdin, data)
            await kit.close(process.stdin)
            await kit.get(process.join())
            first = await kit.read(process.stdout, LARGE)
            assert first + await kit.get(process.output()) == data
        while not storms:
            signal.pause()


@pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="where a handler raises as a `return` leaves a `with` block, PyPy may call what is "
    "returned in place of `__exit__`",
)
@pytest.mark.filterwarnings("ignore:.*taken as finished:RuntimeWarning")
@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize("name", list(storms.WORKS))
def test_a_storm_of_handlers_that_raise(name: str) -> None:
    """Every exception arrives, every byte comes once, and the exit code is right afterwards."""
    if name in storms.RETURNS_BYTES and sys.version_info < (3, 11):
        pytest.skip("a handler may strike between a return and the caller's next instruction")
    seconds = 0.3
    storm = storms.blow(name, seconds)
    while not storm.strikes:  # on a busy machine the time may be up before the first call
        assert storm.problems == []
        seconds *= 2
        storm = storms.blow(name, seconds)
    assert storm.problems == []


_STOPPED_TASK = """
async def main():
    process = await AsyncProcess({command}).run()
    await process.join()
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGSTOP)
    print(await process.output(), flush=True)
    await process.close()
"""
_STOPPED = {
    "sync": """
process = Process({command}).run()
process.join()
threading.Timer(0, os.kill, (os.getpid(), signal.SIGSTOP)).start()
print(process.output(), flush=True)
process.close()
""",
    "asyncio": _STOPPED_TASK + "asyncio.run(main())",
    "uvloop": _STOPPED_TASK
    + """
import uvloop
loop = uvloop.new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
}
_STOPPED["threads"] = f"""
from process import _platform
_platform.make_hub = lambda *_: None
{_STOPPED["sync"]}"""


def test_a_caller_that_is_stopped_for_the_whole_silence(kit: Kit, tmp_path: Path) -> None:
    """What arrives while the caller cannot look is no silence: it is in `output()`."""
    gate = Gate(tmp_path)
    grandchild = f"put(1, b'early ')\nif os.fork(): os._exit(0)\n{Gate.WAIT}put(1, b'late')"
    script = "import asyncio, os, signal, threading, warnings\nfrom process import *\n"
    script += _STOPPED[kit.name].format(command=python(grandchild, gate))
    with subprocess.Popen(start_library(script), stdout=subprocess.PIPE) as caller:
        _, status = os.waitpid(caller.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        gate.open()
        time.sleep(1.2)  # the silence passes
        os.kill(caller.pid, signal.SIGCONT)
        output, _ = caller.communicate(timeout=10 * PROMPT)
    assert output == b"b'early late'\n"
    assert caller.returncode == 0


def test_a_caller_that_is_stopped_in_the_middle_of_floods() -> None:
    """SIGSTOP and SIGCONT of the caller, again and again, lose nothing."""
    script = f"""
import select
from process import *
data = bytes(range(251)) * {LARGE // 251}
over = False
while not over:  # as long as we are being stopped
    with Process(["cat"], stdin=data) as process:
        for number in range(100):
            assert process.stdout.read(10_000) == data[number * 10_000 : (number + 1) * 10_000]
            if number % 10 == 0:
                print(end=".", flush=True)
    assert process.output() == data[1_000_000:]
    over = bool(select.select([0], [], [], 0)[0])
"""
    with subprocess.Popen(start_library(script), stdin=PIPE, stdout=PIPE) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None
        for _ in range(20):
            assert os.read(caller.stdout.fileno(), 1000)  # it has got on since
            os.kill(caller.pid, signal.SIGSTOP)
            await_stop(caller.pid)
            os.kill(caller.pid, signal.SIGCONT)
        caller.communicate(timeout=10 * PROMPT)
        assert caller.returncode == 0
