"""Rule 6, on loops: a program that does not ignore SIGPIPE never gets it from a pipe of its child.

The transports of the loops write where the signal strikes.
"""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from process import PIPE, _platform
from process.asyncio import _pipe
from tests.support import (
    CAT,
    DEAF,
    LARGE,
    PROMPT,
    Gate,
    Kit,
    pattern,
    python,
    start_library,
)

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGPIPE"), reason="a pipe without a reader raises no signal"
)

_PRELUDE = """
import asyncio, signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from process import PIPE, AsyncProcess
async def main():
"""

_SCENARIOS = {
    "input is not read": """
    async with AsyncProcess(["true"], stdin=bytes(4_000_000)) as process:
        pass
    assert process.exit_code == 0
""",
    "input is written and not read": """
    async with AsyncProcess(["true"], stdin=PIPE) as process:
        try:
            while True:
                process.stdin.write(bytes(100_000))
                await process.stdin.drain()
        except BrokenPipeError:
            pass
    assert process.exit_code == 0
""",
    "little is written, again and again": """
    async with AsyncProcess(["true"], stdin=PIPE) as process:
        try:
            while True:
                process.stdin.write(b"x")
                await process.stdin.drain()
        except BrokenPipeError:
            pass
    assert process.exit_code == 0
""",
    "stdin is closed while a write waits for room": """
    script = "read line; exec 0<&-; echo closed"
    async with AsyncProcess(["sh", "-c", script], stdin=PIPE) as process:
        process.stdin.write(b"line\\n" + bytes(4_000_000))
        assert await process.stdout.readline() == b"closed\\n"
    assert process.exit_code == 0
""",
    "stdin is closed unnoticed": """
    script = "exec 0<&-; echo closed; exec sleep 60"
    async with AsyncProcess(["sh", "-c", script], stdin=PIPE) as process:
        await process.stdout.readline()
        for _ in range(10):
            process.stdin.write(bytes(100_000))
        process.kill()
    assert process.exit_code == -signal.SIGKILL
""",
}


def _run(name: str, scenario: str) -> int:
    make = "uvloop.new_event_loop()" if name == "uvloop" else "asyncio.new_event_loop()"
    script = ("import uvloop" if name == "uvloop" else "") + _PRELUDE + scenario
    script += f"""
loop = {make}
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""
    return subprocess.run(start_library(script), timeout=10 * PROMPT, check=False).returncode


@pytest.mark.parametrize("what", list(_SCENARIOS))
def test_a_program_with_the_default_action_is_not_ended(loops: Kit, what: str) -> None:
    """As command-line tools set it."""
    assert _run(loops.name, _SCENARIOS[what]) == 0


@pytest.fixture
def handled() -> Iterator[List[int]]:
    """SIGPIPE has a handler in Python, which records its calls."""
    calls: List[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: calls.append(number))
    yield calls
    signal.signal(signal.SIGPIPE, before)


async def test_the_handler_of_the_program_is_not_called(loops: Kit, handled: List[int]) -> None:
    """A write reports the error, and that is all; the signal is not left blocked, nor pending."""
    async with loops.opened(python(DEAF), stdin=PIPE) as process:
        assert await process.stdout.readline() == b"closed\n"
        process.stdin.write(b"x")
        with pytest.raises(BrokenPipeError):
            await process.stdin.drain()
    assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGPIPE not in signal.sigpending()
    assert not handled


async def test_a_signal_that_the_program_blocks_stays_blocked(
    loops: Kit, handled: List[int]
) -> None:
    """It stays as it is."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        async with loops.opened(CAT, stdin=PIPE) as process:
            process.stdin.write(b"line\n")
            await process.stdin.drain()
            assert await process.stdout.readline() == b"line\n"
        assert signal.SIGPIPE in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})
    assert not handled


async def test_everything_arrives_though_the_transport_writes_nothing(
    loops: Kit, handled: List[int]
) -> None:
    """Megabytes and single bytes, in order; and other tasks have their turns meanwhile."""
    data = pattern(LARGE)
    turns = 0
    over = False

    async def tick() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    async with loops.opened(CAT, stdin=PIPE) as process:
        ticker = asyncio.ensure_future(tick())
        process.stdin.write(data)
        for byte in range(256):
            process.stdin.write(b"%c" % byte)
        process.stdin.write(bytearray(data))
        await process.stdin.drain()
        assert process.stdin.transport.get_write_buffer_size() == 0
        process.stdin.close()
        assert await process.output() == data + bytes(range(256)) + data
        over = True
        await ticker
    assert turns > 2 * LARGE // (1024 * 1024)
    assert not handled


async def test_the_action_changes_while_the_transport_holds_bytes(
    loops: Kit, tmp_path: Path
) -> None:
    """What it holds goes first, and so it does when the action changes back."""
    gate = Gate(tmp_path)
    parts = [pattern(300_000, seed) for seed in range(4)]
    script = Gate.WAIT + "put(1, get_all())"
    ignored = signal.getsignal(signal.SIGPIPE)
    async with loops.opened(python(script, gate), stdin=PIPE) as process:
        try:
            for part in parts:
                process.stdin.write(part)
                await asyncio.sleep(0)
                handles = signal.getsignal(signal.SIGPIPE) is not ignored
                signal.signal(signal.SIGPIPE, ignored if handles else lambda *_: None)
            await loops.blocking(gate.open)
            await process.stdin.drain()
            process.stdin.close()
            assert await process.output() == b"".join(parts)
        finally:
            signal.signal(signal.SIGPIPE, ignored)


async def test_no_descriptor_is_left_to_wait_for_room_with(
    loops: Kit, handled: List[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is tried again."""

    def dup(number: int) -> int:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(_pipe, "_TRY_AGAIN", 0.001)
    data = pattern(LARGE)
    async with loops.opened(CAT, stdin=PIPE) as process:
        monkeypatch.setattr(os, "dup", dup)
        process.stdin.write(data)
        process.stdin.close()
        assert await process.output() == data
    assert not handled


async def test_a_fork_has_nothing_to_watch(loops: Kit) -> None:
    """There the descriptor is closed, and the loop, which is the parent's, is left alone."""
    async with loops.opened(["cat"], stdin=PIPE) as process:
        pipe = _pipe.UnsignalledPipe(
            asyncio.get_running_loop(), process.stdin.transport, lambda: None
        )
        pipe.watch()
        assert pipe._watched is not None
        asyncio.get_running_loop().remove_writer(pipe._watched.fileno())
        pipe._watched.close()
        pipe.unwatch()
        assert pipe._watched is None


def test_an_exception_leaves_nothing_blocked(
    handled: List[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a write that is interrupted nor by one that fails."""
    read, write = os.pipe()
    os.close(read)
    counts: List[int] = []

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(BrokenPipeError):
        _platform.write_without_signal(write, memoryview(b"x"), counts)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _platform.write_without_signal(write, memoryview(b"x"), counts)
    os.close(write)
    assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not counts
    assert not handled


def test_a_signal_is_taken_back_where_there_is_no_timed_wait(
    handled: List[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.delattr(signal, "sigtimedwait", raising=False)
    test_an_exception_leaves_nothing_blocked(handled, monkeypatch)
