"""What every platform can be asked to do, with children that every platform has: Python.

The other files that run on Windows are named in `.ci/portable`.
"""

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from process import DEVNULL, PIPE, STDOUT, Process, ProcessError, ProcessTimeoutError
from tests.support import (
    FLOOD_BOTH,
    KILLED,
    LARGE,
    MIB,
    PROMPT,
    TERMINATED,
    Kit,
    make_loop,
    pattern,
    python,
    refuse_threads,
    rudely_close,
    until,
)

ECHO = "put(1, get_all())"
WAIT = "put(1, b'ready'); get_all(); sys.exit(7)"
RUN_ON = "import time; put(1, b'ready')\nwhile True: time.sleep(1)"


async def test_megabytes_there_and_back(kit: Kit) -> None:
    """Given as bytes, and written before anything is read."""
    data = pattern(LARGE)
    async with kit.opened(python(ECHO), stdin=data) as process:
        assert await kit.get(process.output()) == data
    async with kit.opened(python(ECHO), stdin=PIPE) as process:
        await kit.write(process.stdin, data)
        await kit.close(process.stdin)
        assert await kit.read(process.stdout, MIB) == data[:MIB]
    assert await kit.get(process.output()) == data[MIB:]
    assert process.exit_code == 0


async def test_one_stream_is_read_while_the_other_floods(kit: Kit) -> None:
    """And joined before the other one is read."""
    async with kit.opened(python(FLOOD_BOTH, LARGE)) as process:
        assert await kit.read_all(process.stdout) == pattern(LARGE, 1)
        await kit.get(process.join())
        assert await kit.get(process.error()) == pattern(LARGE, 2)


async def test_a_conversation(kit: Kit) -> None:
    """Line by line."""
    script = "import io\nfor line in io.FileIO(0): put(1, line.upper())"
    async with kit.opened(python(script), stdin=PIPE) as process:
        for word in (b"one\n", b"two\n"):
            await kit.send(process.stdin, word)
            assert await kit.read_line(process.stdout) == word.upper()


async def test_a_timeout_and_the_end(kit: Kit) -> None:
    """The process runs on, and says how it has ended."""
    async with kit.opened(python(WAIT), stdin=PIPE) as process:
        assert await kit.read(process.stdout, 5) == b"ready"
        with pytest.raises(ProcessTimeoutError):
            await kit.get(process.join(0.01))
        assert process.running
        await kit.close(process.stdin)
        await kit.get(process.join(10 * PROMPT))
        assert process.exit_code == 7


@pytest.mark.parametrize("how", ["close", "terminate", "kill"])
async def test_it_is_ended(kit: Kit, how: str) -> None:
    """In one of three ways; what it has written is kept."""
    process = await kit.start(python(RUN_ON), stdin=DEVNULL)
    assert await kit.read(process.stdout, 1) == b"r"
    if how == "close":
        await kit.get(process.close())
    else:
        getattr(process, how)()
        await kit.get(process.join())
    assert process.exit_code == (KILLED if how == "kill" else TERMINATED)
    assert await kit.get(process.output()) == b"eady"
    await kit.get(process.close())


async def test_files_and_joined_streams(kit: Kit, tmp_path: Path) -> None:
    """A file at either end, and stderr where stdout goes."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(pattern(MIB))
    with source.open("rb") as read, target.open("wb") as write:
        async with kit.opened(python(ECHO), stdin=read, stdout=write) as process:
            pass
    assert process.exit_code == 0
    assert target.read_bytes() == pattern(MIB)
    script = "put(1, b'one '); put(2, b'two')"
    async with kit.opened(python(script), stderr=STDOUT) as process:
        assert await kit.get(process.output()) == b"one two"


async def test_it_cannot_be_started(kit: Kit) -> None:
    """The cause is chained, and nothing is left."""
    with pytest.raises(ProcessError) as caught:
        await kit.start([str(Path(os.curdir, "no such program"))])
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_one_reads_from_the_other() -> None:
    """A pipeline of two."""
    data = pattern(LARGE)
    with Process(python(ECHO), stdin=data) as one, Process(python(ECHO), stdin=one.stdout) as other:
        assert other.output() == data


def test_a_descriptor_and_lines_by_turns() -> None:
    """Each sees what the other one has left."""
    script = "import io\nfor line in io.FileIO(0): put(1, line + b'rest')"
    with Process(python(script), stdin=PIPE) as process:
        number = process.stdout.fileno()
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
            assert os.read(number, 4) == b"rest"
    data = pattern(LARGE)
    with Process(python(ECHO), stdin=data) as process:
        process.stdout.fileno()
        process.join()
        assert process.output() == data


def test_a_stream_is_given_to_a_popen_object() -> None:
    """It gets everything, though the first process is left."""
    data = pattern(LARGE)
    with Process(python(ECHO), stdin=data) as process:
        command = python("put(1, b'%d' % len(get_all()))")
        other = subprocess.Popen(command, stdin=process.stdout, stdout=PIPE)
    assert other.communicate()[0] == b"%d" % LARGE


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_thread_cannot_be_started(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The start fails, promptly, and nothing is left of it."""
    threads = threading.active_count()
    process = Process(python(ECHO), stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        fault = RuntimeError("can't start new thread")
        refused = refuse_threads(patch, fault, number=number)
        try:
            process.run()
        except ProcessError as error:
            assert error.__cause__ is fault  # noqa: PT017 - there may be fewer threads
    assert refused or process.running
    if refused:
        until(lambda: threading.active_count() == threads)
        process.run()
    assert process.output() == pattern(LARGE)
    process.close()


#: Writes to stdout for as long as it can, and then says on stderr how much that was.
_METER = """
import threading, time
done, chunk = 0, b"0123456789abcde\\n" * 1024
def watch():
    last = -1
    while last != done:
        last = done
        time.sleep(0.5)
    put(2, b"%d" % done)
    os._exit(0)
threading.Thread(target=watch).start()
while True:
    done += os.write(1, chunk)
"""


async def test_a_child_that_nobody_reads_is_blocked(kit: Kit) -> None:
    """It gets rid of the bound, and of what pipes and transports hold; it would go on for ever."""
    read, write = os.pipe()
    process = await kit.start(python(_METER), stderr=write)
    os.close(write)
    with os.fdopen(read, "rb") as meter:
        assert 0 < int(await kit.blocking(meter.read)) <= 4 * MIB
    await kit.get(process.close())


def test_threads_share_a_process() -> None:
    """One writes while another one reads, and a third waits."""
    data = pattern(LARGE)
    found = []
    with Process(python(ECHO), stdin=PIPE) as process:
        threads = [
            threading.Thread(target=lambda: found.append(process.stdout.read())),
            threading.Thread(target=process.join),
        ]
        for thread in threads:
            thread.start()
        process.stdin.write(data)
        process.stdin.close()
        for thread in threads:
            thread.join()
    assert found == [data]


@pytest.mark.parametrize("leave", ["close", "leave", "drop"])
def test_nothing_is_left(leave: str) -> None:
    """No thread, and no temporary file: `conftest.py` looks for those after each test."""
    before = set(threading.enumerate())
    process = Process(python(FLOOD_BOTH, LARGE), stdin=PIPE).run()
    process.stdin.write(b"x")
    process.join()
    if leave == "close":
        process.close()
    elif leave == "leave":
        process.__exit__(None, None, None)
    else:
        del process
        gc.collect()
    until(lambda: not set(threading.enumerate()) - before)


def test_it_is_dropped() -> None:
    """And ended, without a word."""
    process = Process(python(WAIT), stdin=PIPE).run()
    assert process.stdout.read(5) == b"ready"
    del process


@pytest.mark.usefixtures("forgotten_descriptors")
def test_an_asyncio_process_is_dropped_after_its_loop(loops: Kit) -> None:
    """It is ended without a word, too, and ends as any other that is terminated."""
    loop: Any = make_loop(loops.name)
    process = loop.run_until_complete(loops.start(python(WAIT), stdin=PIPE))
    assert loop.run_until_complete(process.stdout.readexactly(5)) == b"ready"
    popen = process._child.transport.get_extra_info("subprocess")
    rudely_close(loop)
    del process
    gc.collect()
    if sys.platform == "win32":  # elsewhere the loop's watcher may have the code
        assert popen.returncode == TERMINATED


async def test_megabytes_are_read_after_the_end(kit: Kit) -> None:
    """In the order in which they were written, though they have been in a file meanwhile."""
    size = 4 * LARGE
    async with kit.opened(python(f"put(1, pattern({size}))")) as process:
        await kit.get(process.join())
        assert await kit.read(process.stdout, size - 1) == pattern(size)[:-1]
    assert await kit.get(process.output()) == pattern(size)[-1:]


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has console control events")
def test_a_console_event_reaches_the_child_alone() -> None:
    """Its process group is its own."""
    event = signal.Signals["CTRL_BREAK_EVENT"]
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with subprocess.Popen(python(RUN_ON), stdout=PIPE, creationflags=group) as popen:
        try:
            popen.send_signal(event)
        except OSError as error:
            popen.kill()
            pytest.skip(f"`Popen` cannot send it either, without a console: {error}")
    with Process(python(RUN_ON), stdin=DEVNULL) as process:
        assert process.stdout.read(5) == b"ready"
        process.signal(event)
    assert process.exit_code not in {0, None}
