"""Rule 1: no order of calls by a single-threaded caller stalls the child against the caller."""

import asyncio
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import pytest

from process import DEVNULL, PIPE, STDOUT, ProcessTimeoutError
from tests.support import (
    CAT,
    FLOOD_BOTH,
    LARGE,
    MIB,
    PROMPT,
    Gate,
    Kit,
    lines,
    needs_program,
    pattern,
    python,
    reached,
)


async def test_input_bytes_to_an_echo(kit: Kit) -> None:
    """Input far beyond the pipe comes back from a child that answers while it reads."""
    data = pattern(64 * MIB)
    async with kit.opened(CAT, stdin=data) as process:
        assert await kit.get(process.output()) == data
    assert process.exit_code == 0


async def test_input_bytes_out_of_a_with_block(kit: Kit) -> None:
    """The same without a block: `run`, `output`, `close`."""
    data = pattern(LARGE)
    process = await kit.start(CAT, stdin=data)
    assert await kit.get(process.output()) == data
    await kit.get(process.close())
    assert await kit.get(process.output()) == data
    assert process.exit_code == 0


async def test_child_writes_before_it_reads(kit: Kit) -> None:
    """A child that floods stdout before it looks at its input gets rid of its output."""
    data = pattern(LARGE)
    script = f"put(1, pattern({LARGE}, 1)); put(1, get_all())"
    async with kit.opened(python(script), stdin=data) as process:
        assert await kit.get(process.output()) == pattern(LARGE, 1) + data


async def test_child_floods_stderr_before_it_reads(kit: Kit) -> None:
    """A child that floods stderr before it looks at its input gets rid of its complaints."""
    data = pattern(LARGE)
    script = f"put(2, pattern({LARGE}, 1)); put(1, get_all())"
    async with kit.opened(python(script), stdin=data) as process:
        assert await kit.get(process.output()) == data
        assert await kit.get(process.error()) == pattern(LARGE, 1)


async def test_child_exits_without_reading(kit: Kit) -> None:
    """Input that a child never reads neither stalls the caller nor is an error."""
    async with kit.opened(python(""), stdin=pattern(LARGE)) as process:
        assert await kit.get(process.output()) == b""
    assert process.exit_code == 0


async def test_child_closes_stdin_without_reading(kit: Kit) -> None:
    """A child may close its stdin and talk on for megabytes."""
    script = f"get(1000); shut(0); put(1, pattern({LARGE}, 1))"
    async with kit.opened(python(script), stdin=pattern(LARGE)) as process:
        assert await kit.get(process.output()) == pattern(LARGE, 1)
    assert process.exit_code == 0


async def test_both_outputs_flood_and_join_comes_first(kit: Kit) -> None:
    """`join` before any reading: the child ends, and both outputs are there afterwards."""
    process = await kit.start(python(FLOOD_BOTH, LARGE))
    await kit.get(process.join())
    assert process.exit_code == 0
    assert await kit.get(process.error()) == pattern(LARGE, 2)
    assert await kit.get(process.output()) == pattern(LARGE, 1)
    await kit.get(process.close())


async def test_join_first_and_file_reads_after(kit: Kit) -> None:
    """`join` before any reading, then reads from the streams themselves, in pieces."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        await kit.get(process.join())
        error = b""
        while len(error) < LARGE:
            error += await kit.read(process.stderr, min(99_999, LARGE - len(error)))
        assert error == pattern(LARGE, 2)
        assert await kit.read_all(process.stdout) == pattern(LARGE, 1)
        assert await kit.read_all(process.stderr) == b""


@pytest.mark.parametrize("first", ["stdout", "stderr"])
async def test_one_stream_is_read_while_the_other_floods(kit: Kit, first: str) -> None:
    """What one stream is read for comes after megabytes on the other."""
    mine, other = (1, 2) if first == "stdout" else (2, 1)
    script = f"put({other}, pattern({LARGE}, 1)); put({mine}, pattern({LARGE}, 2))"
    async with kit.opened(python(script)) as process:
        stream = process.stdout if mine == 1 else process.stderr
        assert await kit.read_all(stream) == pattern(LARGE, 2)
        rest = process.error() if mine == 1 else process.output()
        assert await kit.get(rest) == pattern(LARGE, 1)


@pytest.mark.parametrize("first", ["output", "error"])
async def test_unjoined_output_while_the_other_stream_floods(kit: Kit, first: str) -> None:
    """`output(join=False)` waits for the end of its stream, so the other one keeps moving."""
    mine, other = (1, 2) if first == "output" else (2, 1)
    script = f"put({other}, pattern({LARGE}, 1)); put({mine}, pattern({LARGE}, 2))"
    async with kit.opened(python(script)) as process:
        ask, rest = (process.output, process.error)[:: 1 if mine == 1 else -1]
        assert await kit.get(ask(join=False)) == pattern(LARGE, 2)
        assert await kit.get(rest(join=False)) == pattern(LARGE, 1)


async def test_unjoined_output_while_input_is_fed(kit: Kit) -> None:
    """`output(join=False)` of a child that complains for megabytes while it reads its input."""
    script = f"put(2, pattern({LARGE}, 1)); put(1, get_all()); put(2, pattern({LARGE}, 2))"
    data = pattern(LARGE)
    async with kit.opened(python(script), stdin=data) as process:
        assert await kit.get(process.output(join=False)) == data
        assert await kit.get(process.error(join=False)) == pattern(LARGE, 1) + pattern(LARGE, 2)


async def test_lines_of_one_stream_between_floods_of_the_other(kit: Kit) -> None:
    """Line by line of stdout, with a flood of stderr before each line."""
    script = f"""
for number in range(8):
    put(2, pattern({MIB}, number)); put(1, b"%d\\n" % number)
"""
    async with kit.opened(python(script)) as process:
        for number in range(8):
            assert await kit.read_line(process.stdout) == b"%d\n" % number
        expected = b"".join(pattern(MIB, number) for number in range(8))
        assert await kit.get(process.error()) == expected


async def test_a_line_longer_than_every_buffer(kit: Kit) -> None:
    """A line of megabytes is a line."""
    script = f"put(1, b'x' * {LARGE}); put(1, b'\\nend\\n')"
    async with kit.opened(python(script)) as process:
        assert await kit.read_line(process.stdout) == b"x" * LARGE + b"\n"
        assert await kit.read_line(process.stdout) == b"end\n"
        assert await kit.read_line(process.stdout) == b""


async def test_write_megabytes_to_an_echo_and_read_afterwards_in_a_block(kit: Kit) -> None:
    """One thread writes everything to a child that answers all the while, then leaves."""
    data = pattern(2 * LARGE)
    async with kit.opened(CAT, stdin=PIPE) as process:
        for begin in range(0, len(data), 77_777):
            await kit.write(process.stdin, data[begin : begin + 77_777])
    assert await kit.get(process.output()) == data


async def test_write_megabytes_to_an_echo_and_read_afterwards_out_of_a_block(kit: Kit) -> None:
    """One thread writes all at once to a child that answers all the while, and only then reads."""
    data = pattern(2 * LARGE)
    process = await kit.start(CAT, stdin=PIPE)
    await kit.send(process.stdin, data)
    await kit.close(process.stdin)
    assert await kit.get(process.output()) == data
    await kit.get(process.close())


async def test_write_to_a_child_that_floods_both_outputs_first(kit: Kit) -> None:
    """A write waits for a child that first gets rid of megabytes on both outputs."""
    script = FLOOD_BOTH + "put(1, get_all())"
    data = pattern(LARGE, 3)
    async with kit.opened(python(script, LARGE), stdin=PIPE) as process:
        await kit.send(process.stdin, data)
        await kit.close(process.stdin)
        assert await kit.get(process.output()) == pattern(LARGE, 1) + data
        assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_closing_stdin_waits_for_a_child_that_floods_first(kit: Kit) -> None:
    """What `close` of stdin has still to send goes out though the child writes first."""
    script = FLOOD_BOTH + "put(1, get_all())"
    data = pattern(200_000, 3)  # below the bound: `write` hands it over and returns
    async with kit.opened(python(script, LARGE), stdin=PIPE) as process:
        process.stdin.write(data)
        await kit.close(process.stdin)
        await kit.get(process.join())
        assert await kit.get(process.output()) == pattern(LARGE, 1) + data


async def test_leaving_the_block_unread(kit: Kit) -> None:
    """Leaving `with` waits for a flooding child, and keeps everything."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        pass
    assert process.exit_code == 0
    assert await kit.get(process.output()) == pattern(LARGE, 1)
    assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_leaving_the_block_with_input_half_written(kit: Kit) -> None:
    """Leaving `with` sends what was written and not flushed, and closes stdin."""
    data = pattern(LARGE)
    async with kit.opened(CAT, stdin=PIPE) as process:
        process.stdin.write(data[:-10])
        process.stdin.write(data[-10:])
    assert await kit.get(process.output()) == data


async def test_join_times_out_against_full_pipes_and_goes_on(kit: Kit, tmp_path: Path) -> None:
    """A `join` that timed out over a flooding child has lost nothing."""
    gate = Gate(tmp_path)
    script = (
        f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))\n"
        + Gate.WAIT
        + f"put(1, pattern({LARGE}, 3))"
    )
    async with kit.opened(python(script, gate)) as process:
        for timeout in (0, 0.001, 0.05):
            with pytest.raises(ProcessTimeoutError):
                await kit.get(process.join(timeout))
        assert process.running
        with gate.opening():
            await kit.get(process.join())
        assert await kit.get(process.output()) == pattern(LARGE, 1) + pattern(LARGE, 3)
        assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_join_times_out_against_unread_input_and_goes_on(kit: Kit, tmp_path: Path) -> None:
    """A `join` that timed out over a child that does not read yet has lost no input."""
    gate = Gate(tmp_path)
    data = pattern(LARGE)
    script = Gate.WAIT + "put(1, get_all())"
    async with kit.opened(python(script, gate), stdin=data) as process:
        with pytest.raises(ProcessTimeoutError):
            await kit.get(process.join(0.05))
        await kit.blocking(gate.open)
        await kit.get(process.join(50))
        assert await kit.get(process.output()) == data


@pytest.mark.skipif(sys.platform == "win32", reason="nobody can tidy up on TerminateProcess")
async def test_close_of_a_child_that_flushes_megabytes_on_sigterm(kit: Kit) -> None:
    """`close` keeps what a child says when it is told to end."""
    script = f"""
import signal
def flush():
    put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2)); os._exit(7)
signal.pthread_sigmask(signal.SIG_BLOCK, [15])  # else it may come just before the wait
put(1, b"ready\\n")
signal.sigwait([15])
flush()
"""
    process = await kit.start(python(script))
    assert await kit.read_line(process.stdout) == b"ready\n"
    await kit.get(process.close())
    assert process.exit_code == 7
    assert await kit.get(process.output()) == pattern(LARGE, 1)
    assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_close_of_a_child_that_has_been_written_to(kit: Kit) -> None:
    """`close` of an echo with megabytes under way, in both directions, comes back."""
    data = pattern(LARGE)
    process = await kit.start(CAT, stdin=PIPE)
    await kit.write(process.stdin, data)
    await kit.get(process.close())
    output = await kit.get(process.output())
    assert data.startswith(output)


async def test_thousands_of_round_trips(kit: Kit) -> None:
    """Write, flush and read a line, thousands of times."""
    async with kit.opened(CAT, stdin=PIPE) as process:
        for line in lines(2000):
            await kit.send(process.stdin, line)
            assert await kit.read_line(process.stdout) == line
    assert await kit.get(process.output()) == b""


@needs_program("git")
async def test_git_cat_file_is_fed_thousands_of_requests_before_any_reading(
    kit: Kit, tmp_path: Path
) -> None:
    """The classic: `git cat-file --batch` answers while it is still being asked."""
    blob = pattern(5000)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    command = [*git, "hash-object", "-w", "--stdin"]
    name = subprocess.run(command, input=blob, stdout=PIPE, check=True).stdout.strip()
    count = 3000
    async with kit.opened([*git, "cat-file", "--batch"], stdin=PIPE) as process:
        for _ in range(count):
            await kit.write(process.stdin, name + b"\n")
        await kit.close(process.stdin)
        answer = b"%s blob %d\n%s\n" % (name, len(blob), blob)
        for _ in range(count):
            assert await kit.read(process.stdout, len(answer)) == answer
        assert await kit.read_all(process.stdout) == b""


async def test_polling_running_ends(kit: Kit) -> None:
    """A loop that polls `running` and never reads sees the end of a flooding child."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        while process.running:
            await kit.pause()
        assert await kit.get(process.output()) == pattern(LARGE, 1)
        assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_polling_exit_code_ends(kit: Kit) -> None:
    """A loop that polls `exit_code` sees the end of a child with input and output."""
    data = pattern(LARGE)
    async with kit.opened(python("put(1, get_all()); sys.exit(3)"), stdin=data) as process:
        while process.exit_code is None:
            await kit.pause()
        assert process.exit_code == 3
        assert await kit.get(process.output()) == data


async def test_polling_exit_code_after_writing(kit: Kit) -> None:
    """Polls count as waiting for what was written before, too."""
    data = pattern(200_000)
    async with kit.opened(CAT, stdin=PIPE) as process:
        process.stdin.write(data)
        process.stdin.close()
        while process.exit_code is None:
            await kit.pause()
        assert await kit.get(process.output()) == data


async def _in_pieces(process: Any) -> bytes:
    """All of stdout, by reads that each want less than is held."""
    found = b""
    while len(found) < LARGE:
        found += await process.stdout.read(min(99_999, LARGE - len(found)))
    return found


_WAITS: List[Any] = [
    pytest.param(lambda process: process.join(), id="join"),
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.error(), id="error"),
    pytest.param(lambda process: process.stdout.read(), id="read"),
    pytest.param(lambda process: process.stderr.read(), id="stderr"),
    pytest.param(lambda process: process.stdout.readexactly(LARGE), id="readexactly"),
    pytest.param(_in_pieces, id="pieces"),
    pytest.param(lambda process: process.__aexit__(None, None, None), id="leave"),
]


@pytest.mark.parametrize("wait", _WAITS)
async def test_a_wait_that_begins_when_the_pipes_are_full(
    loops: Kit, wait: Callable[[Any], Any]
) -> None:
    """The loop had stopped reading, and begins again when a caller waits."""
    process = await loops.start(python(FLOOD_BOTH, LARGE))
    await reached(lambda: process.stdout._paused_pipe and process.stderr._paused_pipe)
    found = await asyncio.wait_for(wait(process), 3 * PROMPT)
    await asyncio.wait_for(process.join(), 3 * PROMPT)
    output, error = await process.output(), await process.error()
    await process.close()
    assert found in (None, pattern(LARGE, 1), pattern(LARGE, 2))
    assert pattern(LARGE, 1) in (found, output)
    assert pattern(LARGE, 2) in (found, error)


async def test_stderr_into_stdout(kit: Kit) -> None:
    """`stderr=STDOUT`: both floods in one stream, in their order."""
    async with kit.opened(python(FLOOD_BOTH, LARGE), stderr=STDOUT) as process:
        output = await kit.get(process.output())
    out, err = pattern(LARGE, 1), pattern(LARGE, 2)
    step = 50_000
    turns = (out[i : i + step] + err[i : i + step] for i in range(0, LARGE, step))
    assert output == b"".join(turns)


async def test_only_stderr_is_piped(kit: Kit) -> None:
    """A child of which only stderr is a pipe floods that alone."""
    async with kit.opened(python(FLOOD_BOTH, LARGE), stdout=DEVNULL) as process:
        await kit.get(process.join())
        assert await kit.get(process.error()) == pattern(LARGE, 2)


@needs_program("gzip")
async def test_gzip(kit: Kit) -> None:
    """A real filter that holds back and bursts."""
    data = b"".join(lines(60_000))
    async with kit.opened("gzip -c", stdin=data) as process:
        assert gzip.decompress(await kit.get(process.output())) == data


@needs_program("sort")
async def test_sort(kit: Kit) -> None:
    """A real program that writes nothing before it has read everything."""
    data = lines(50_000)
    command = ["sh", "-c", "LC_ALL=C exec sort"]
    async with kit.opened(command, stdin=b"".join(reversed(data))) as process:
        assert await kit.get(process.output()) == b"".join(sorted(data))


async def test_two_children_talk_through_the_caller(kit: Kit) -> None:
    """Bytes carried by hand from one child to another, chunk by chunk, with no reading between."""
    data = pattern(LARGE)
    async with kit.opened(CAT, stdin=data) as first:
        async with kit.opened(CAT, stdin=PIPE) as second:
            for begin in range(0, LARGE, 65_537):
                size = min(65_537, LARGE - begin)
                await kit.send(second.stdin, await kit.read(first.stdout, size))
        assert await kit.get(second.output()) == data
