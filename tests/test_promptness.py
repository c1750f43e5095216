"""Rule 5: `run`, timeouts and `join` are prompt; a stream ends at its end or with silence."""

import asyncio
import contextlib
import linecache
import os
import sys
import threading
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, List

import pytest

from process import PIPE, Process, ProcessTimeoutError, _platform
from process.core._inbound import Collection
from process.threads._monitor import Waiter
from process.threads._reader import ReaderThread
from tests.support import (
    CAT,
    ECHO,
    FLOOD_BOTH,
    KILLED,
    LARGE,
    MIB,
    PROMPT,
    TERMINATED,
    YES,
    Gate,
    Kit,
    needs_fork,
    needs_waitid,
    pattern,
    python,
    until,
)

if TYPE_CHECKING:
    from typing_extensions import Self

#: What a grandchild says later: little enough for a pipe, because nobody waits for it.
LATE = pattern(50_000)


class Clock:
    """Asserts that its block is prompt."""

    def __enter__(self) -> "Self":
        self._begin = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        assert time.monotonic() - self._begin < PROMPT


async def test_run_returns_though_nobody_reads_the_input(kit: Kit, tmp_path: Path) -> None:
    """`run` with megabytes of input for a child that does not read is prompt."""
    gate = Gate(tmp_path)
    data = pattern(64 * MIB)
    process = kit.Process(python(Gate.WAIT + "put(1, get_all())", gate), stdin=data)
    with Clock():
        await kit.get(process.run())
    assert process.running
    await kit.blocking(gate.open)
    assert await kit.get(process.output()) == data
    await kit.get(process.close())


@pytest.mark.parametrize("timeout", [0, 0.01, 0.2])
async def test_timeouts_are_kept_while_streams_are_stuck(kit: Kit, timeout: float) -> None:
    """`join(timeout)` is prompt against a child that floods, reads nothing and does not end."""
    process = await kit.start(YES, stdin=pattern(LARGE))
    with Clock(), pytest.raises(ProcessTimeoutError) as caught:
        await kit.get(process.join(timeout))
    assert str(caught.value) == f"Process did not complete within {timeout} seconds"
    process.kill()
    await kit.get(process.join())
    await kit.get(process.close())
    assert process.exit_code == KILLED


async def test_a_loop_of_joins_without_time_ends(kit: Kit) -> None:
    """It counts as waiting: the streams of a child that floods them move meanwhile."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        joined = False
        while not joined:
            with contextlib.suppress(ProcessTimeoutError):
                await kit.get(process.join(0))
                joined = True
        assert process.exit_code == 0
        assert await kit.get(process.output()) == pattern(LARGE, 1)
        assert await kit.get(process.error()) == pattern(LARGE, 2)


@needs_waitid
async def test_join_and_the_exit_code_agree(kit: Kit) -> None:
    """Once there is an exit code there is nothing to wait for, whether the loop knows or not."""
    async with kit.opened(["sh", "-c", "exit 3"]) as process:
        with contextlib.suppress(ChildProcessError):  # the watcher of asyncio before 3.12 has it
            os.waitid(os.P_PID, process.id, os.WEXITED | os.WNOWAIT)
        while process.exit_code is None:
            await kit.pause()
        await kit.get(process.join(0))
        assert process.exit_code == 3


async def test_close_of_a_child_that_reads_nothing(kit: Kit) -> None:
    """`close` with megabytes of unread input and full pipes is prompt."""
    process = await kit.start(YES, stdin=pattern(LARGE))
    assert await kit.read_line(process.stdout) == b"y\n"
    with Clock():
        await kit.get(process.close())
    assert process.exit_code == TERMINATED


async def test_the_end_of_a_process_is_noticed_by_everybody(kit: Kit) -> None:
    """`join` with a long timeout returns at the end of the process, not at that of the timeout."""
    with Clock():
        async with kit.opened(CAT, stdin=b"x") as process:
            await kit.get(process.join(1000))
            await kit.get(process.join(0))
            await kit.get(process.join())


async def test_a_timeout_longer_than_the_system_can_count(kit: Kit) -> None:
    """`join` with one returns at the end of the process all the same."""
    for timeout in (1e9, 1e12):
        async with kit.opened(CAT, stdin=b"x") as process:
            await kit.get(process.join(timeout))
            assert process.exit_code == 0


class Grandchild:
    """A child that ends at once and leaves a grandchild that holds its pipes."""

    #: The grandchild says on stdout what it is given at the gate.
    SCRIPT = 'echo "from the child"; cat "$0" & exit 3'

    #: The same without a shell; its arguments are the command of the grandchild.
    WITHOUT_SHELL = """
import subprocess
put(1, b"from the child\\n")
subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=1, stderr=2)
os._exit(3)
"""

    def __init__(self, kit: Kit, directory: Path) -> None:
        self.kit = kit
        self.gate = Gate(directory)
        self.read, self._write = os.pipe()
        self.process: Any = None

    @classmethod
    def command(cls, gate: Gate) -> List[str]:
        """The command of the child."""
        if sys.platform != "win32":
            return ["sh", "-c", cls.SCRIPT, str(gate)]
        speak = Gate.WAIT + "try: put(1, data)\nexcept OSError: pass  # nobody reads"
        return python(cls.WITHOUT_SHELL, *python(speak, gate))

    async def __aenter__(self) -> "Self":
        self.process = await self.kit.start(self.command(self.gate), stderr=self._write)
        os.close(self._write)
        return self

    async def speak(self, data: bytes) -> None:
        """Let the grandchild say `data` and end; return when it has ended."""
        await self.kit.blocking(self.gate.open, data)
        assert await self.kit.blocking(os.read, self.read, 1) == b""

    async def __aexit__(self, *_: object) -> None:
        os.close(self.read)
        await self.kit.get(self.process.close())


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it matters that silence ends a stream, and not how long it lasts."""
    monkeypatch.setattr("process.core._ending.SILENCE", 0.1)


async def test_join_returns_though_a_grandchild_holds_the_pipes(kit: Kit, tmp_path: Path) -> None:
    """`join` waits for the process, not for its pipes; what comes later is there later."""
    async with Grandchild(kit, tmp_path) as family:
        with Clock():
            await kit.get(family.process.join())
        assert family.process.exit_code == 3
        await family.speak(LATE)
        assert await kit.get(family.process.output()) == b"from the child\n" + LATE


@pytest.mark.usefixtures("short_silence")
async def test_output_ends_with_silence_and_goes_on(kit: Kit, tmp_path: Path) -> None:
    """A silent grandchild: `output` returns, with a warning, and later what has come since."""
    async with Grandchild(kit, tmp_path) as family:
        process = family.process
        for _ in range(2):
            with pytest.warns(RuntimeWarning, match=f"{process.id}.*stdout") as caught, Clock():
                assert await kit.get(process.output()) == b"from the child\n"
            assert len(caught) == 1
        await family.speak(LATE)
        for _ in range(2):
            assert await kit.get(process.output()) == b"from the child\n" + LATE


@pytest.mark.usefixtures("short_silence")
async def test_a_read_of_the_callers_waits_for_end_of_file(kit: Kit, tmp_path: Path) -> None:
    """`stdout.read()` has file semantics: silence does not end it."""
    async with Grandchild(kit, tmp_path) as family:
        process = family.process
        with pytest.warns(RuntimeWarning, match="stdout"):
            assert await kit.get(process.output()) == b"from the child\n"
        await family.speak(b"late")
        assert await kit.read_all(process.stdout) == b"late"
        assert await kit.get(process.output()) == b"from the child\n"


@pytest.mark.usefixtures("short_silence")
@pytest.mark.parametrize("leave", ["close", "leave"])
async def test_leaving_ends_with_silence(kit: Kit, tmp_path: Path, leave: str) -> None:
    """`close` and leaving `with` do not wait for a grandchild, and say so, once."""
    gate = Gate(tmp_path)
    process = await kit.start(Grandchild.command(gate), stdin=PIPE, stderr=None)
    await kit.get(process.join())
    way = process.close
    if leave == "leave":
        way = partial(process.__aexit__ if kit.is_async else process.__exit__, None, None, None)
    with pytest.warns(RuntimeWarning, match="stdout") as caught, Clock():
        await kit.get(way())
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await kit.get(process.output()) == b"from the child\n"
    await kit.blocking(gate.open)


@pytest.mark.usefixtures("short_silence")
@pytest.mark.parametrize("way", ["output", "close", "leave"])
@pytest.mark.parametrize("size", [-1, MIB])
async def test_silence_while_another_task_reads_to_end_of_file(
    loops: Kit, tmp_path: Path, way: str, size: int
) -> None:
    """No other call waits for that; a close ends it, and it returns what it has gathered."""
    async with Grandchild(loops, tmp_path) as family:
        process = family.process
        stdout = process.stdout
        said = b"from the child\n"
        reader = asyncio.ensure_future(stdout.read() if size < 0 else stdout.readexactly(size))
        while not stdout.inbound.busy or stdout.inbound.held < len(said):
            await asyncio.sleep(0.001)
        await process.join()
        leave = partial(process.__aexit__, None, None, None)
        call = {"output": process.output, "close": process.close, "leave": leave}[way]
        with pytest.warns(RuntimeWarning, match="stdout") as caught:
            result = await asyncio.wait_for(call(), PROMPT)
        assert not result
        assert len(caught) == 1
        await family.speak(LATE)
        if way == "output":
            said += LATE
        if size < 0:
            assert await asyncio.wait_for(reader, PROMPT) == said
        else:
            with pytest.raises(asyncio.IncompleteReadError) as incomplete:
                await asyncio.wait_for(reader, PROMPT)
            assert incomplete.value.partial == said
        assert await process.output() == b""


async def _finish(kit: Kit, process: Any, way: str) -> None:
    """Run a process and finish with it, in lines that say that they are the caller's."""
    if way == "with" and kit.is_async:
        async with process:  # the caller's line
            pass  # the caller's line: before 3.10 a block is left from its last line
    elif way == "with":
        with process:  # the caller's line
            pass  # the caller's line
    else:
        await kit.get(process.run())
        await kit.get(process.join())
        if kit.is_async:
            await getattr(process, way)()  # the caller's line
        else:
            getattr(process, way)()  # the caller's line


@pytest.mark.usefixtures("short_silence")
@pytest.mark.parametrize("way", ["output", "error", "close", "with"])
async def test_the_warning_points_at_the_callers_line(kit: Kit, tmp_path: Path, way: str) -> None:
    """It leads to the caller's own line that has made the call."""
    gate = Gate(tmp_path)
    process = kit.Process(Grandchild.command(gate))
    with pytest.warns(RuntimeWarning, match="a second of silence") as caught:
        await _finish(kit, process, way)
    for warning in caught:
        line = linecache.getline(warning.filename, warning.lineno)
        assert "# the caller's line" in line, (warning.filename, line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what has not been said yet
        await kit.get(process.close())
    await kit.blocking(gate.open)


@needs_fork
async def test_silence_is_counted_anew_from_every_chunk(kit: Kit) -> None:
    """A grandchild that goes on talking for longer than the silence is heard to its end."""
    script = """
import time
if os.fork():
    os._exit(0)
for number in range(19):
    put(1, b"%d\\n" % number)
    time.sleep(0.06)
"""
    async with kit.opened(python(script)) as process:
        expected = b"".join(b"%d\n" % number for number in range(19))
        assert await kit.get(process.output()) == expected


@pytest.mark.usefixtures("short_silence")
def test_a_starved_thread_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has bytes, and gets no time to record them until silence would have ended the stream."""
    looks: List[bool] = []
    real, real_silent = os.read, ReaderThread.silent

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if data and threading.current_thread() is not threading.main_thread():
            until(lambda: True in looks or len(looks) >= 3)
        return data

    def silent(self: ReaderThread) -> bool:
        looks.append(real_silent(self))
        return looks[-1]

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(ReaderThread, "silent", silent)
    process = Process(python("put(1, b'x')"), stderr=None).run()
    assert process.output() == b"x"
    process.close()


@pytest.mark.usefixtures("short_silence")
def test_nothing_spins_once_the_process_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is noticed once, though its descriptor stays ready."""
    waits: List[object] = []
    real = _platform.PipeEnd.wait

    def wait(*arguments: Any) -> Any:
        waits.append(arguments)
        return real(*arguments)

    gate = Gate(tmp_path)
    process = Process(Grandchild.command(gate), stderr=None).run()
    monkeypatch.setattr(_platform.PipeEnd, "wait", wait)
    process.join()
    with pytest.warns(RuntimeWarning, match="stdout"):
        assert process.output() == b"from the child\n"
    assert len(waits) < 20
    gate.open()
    assert process.stdout.read() == b""
    process.close()


@pytest.mark.usefixtures("short_silence")
@pytest.mark.parametrize("exposed", [False, True])
def test_another_caller_reads_to_an_end_that_does_not_come(tmp_path: Path, exposed: bool) -> None:
    """No caller waits longer for its turn than for the stream: it is closed under the other."""
    gate = Gate(tmp_path)
    process = Process(Grandchild.command(gate), stdin=PIPE, stderr=None).run()
    source: Any = process.stdout.source  # type: ignore[union-attr]
    if exposed:
        process.stdout.fileno()
    found: List[object] = []

    def read() -> None:
        try:
            found.append(process.stdout.read())
        except ValueError as error:
            found.append(error)

    other = threading.Thread(target=read)
    other.start()
    until(lambda: source.inbound.busy)
    process.join()
    with pytest.warns(RuntimeWarning, match="stdout"):
        assert process.output() == b""
    with pytest.warns(RuntimeWarning, match="stdout"):
        process.close()
    other.join()
    assert "closed file" in str(found)
    gate.open()


def test_another_caller_that_gets_to_the_end_is_waited_for() -> None:
    """However long it takes to keep what it has gathered."""
    with Process([*ECHO, "x"]) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        collection, waiter = Collection(thread=-1), Waiter()
        assert source.collect(collection, waiter)
        process.join()
        inbound = source.reader.inbound
        until(lambda: inbound.at_eof)
        inbound.ending._over = 0.0  # long ago
        inbound.ending._heard = 0.0
        found: List[bytes] = []
        other = threading.Thread(target=lambda: found.append(process.output()))
        other.start()
        until(lambda: len(source.monitor._waiters) == 2)
        source.complete(collection, waiter)
        source.abandon(collection, waiter)
        other.join()
    assert found == [b"x\n"]
