"""The ways to pass megabytes through the flooding child.

The standard library's ways are written as one would write them without thinking of pipes, and ours
in the same words. `python -m stress.scenarios NAME MEBIBYTES` plays one of them in a process of its
own, so that whoever starts it can end it when it hangs, and prints the seconds it took.
"""

import array
import asyncio
import asyncio.subprocess
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Tuple

from process import PIPE, AsyncProcess, Process
from stress.flood import FLIPPED

_FLOOD = [sys.executable, str(Path(__file__).with_name("flood.py"))]

#: What the child has written to stdout and to stderr.
Outputs = Tuple[bytes, bytes]


def _popen(data: bytes) -> Outputs:
    with subprocess.Popen(_FLOOD, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(data)
        child.stdin.close()
        return child.stdout.read(), child.stderr.read()


def _process_streams(data: bytes) -> Outputs:
    with Process(_FLOOD, stdin=PIPE) as child:
        child.stdin.write(data)
        child.stdin.close()
        return child.stdout.read(), child.stderr.read()


def _process_output(data: bytes) -> Outputs:
    with Process(_FLOOD, stdin=data) as child:
        return child.output(), child.error()


async def _asyncio_streams(data: bytes) -> Outputs:
    child = await asyncio.create_subprocess_exec(*_FLOOD, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdin.write(data)
    await child.stdin.drain()
    child.stdin.close()
    return await child.stdout.read(), await child.stderr.read()


async def _async_process_streams(data: bytes) -> Outputs:
    async with AsyncProcess(_FLOOD, stdin=PIPE) as child:
        child.stdin.write(data)
        await child.stdin.drain()
        child.stdin.close()
        return await child.stdout.read(), await child.stderr.read()


async def _async_process_output(data: bytes) -> Outputs:
    async with AsyncProcess(_FLOOD, stdin=data) as child:
        return await child.output(), await child.error()


class Scenario(NamedTuple):
    """One way to do it."""

    library: str
    order: str
    ours: bool
    play: Callable[[bytes], Outputs]


SCENARIOS: Dict[str, Scenario] = {
    "popen": Scenario("subprocess.Popen", "write, then read", False, _popen),
    "process-streams": Scenario("process.Process", "write, then read", True, _process_streams),
    "process-output": Scenario("process.Process", "output(), error()", True, _process_output),
    "asyncio": Scenario(
        "asyncio.subprocess",
        "write, then read",
        False,
        lambda data: asyncio.run(_asyncio_streams(data)),
    ),
    "async-streams": Scenario(
        "process.AsyncProcess",
        "write, then read",
        True,
        lambda data: asyncio.run(_async_process_streams(data)),
    ),
    "async-output": Scenario(
        "process.AsyncProcess",
        "output(), error()",
        True,
        lambda data: asyncio.run(_async_process_output(data)),
    ),
}


def pattern(mebibytes: int) -> bytes:
    """Data in which no eight bytes occur twice, so that nothing lost or moved goes unseen."""
    return array.array("Q", range(mebibytes * 2**20 // 8)).tobytes()


def main(name: str, mebibytes: int) -> None:
    """Play one scenario.

    Raises:
        SystemExit: with a message, when a byte is not what it should be.
    """
    data = pattern(mebibytes)
    begin = time.monotonic()
    output, error = SCENARIOS[name].play(data)
    seconds = time.monotonic() - begin
    for stream, expected, got in (
        ("stdout", data, output),
        ("stderr", data.translate(FLIPPED), error),
    ):
        if got != expected:
            sys.exit(f"{stream} differs: {len(got)} bytes for {len(expected)}")
    print(seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
