"""Rule 8: after the end of a process nothing of it is left."""

import gc
import sys
import tempfile
import threading
import time
import types
import weakref
from pathlib import Path
from typing import Any, Callable, List

import pytest

from process import PIPE, Process, ProcessError
from process._descriptor import Descriptor
from tests.support import (
    LARGE,
    PROMPT,
    Kit,
    collect,
    descriptors,
    is_alive,
    needs_refcounts,
    pattern,
    python,
    until,
)


class State:
    """What this process has open, and what runs in it, at once: without a grace."""

    def __init__(self) -> None:
        self.descriptors = descriptors()
        self.threads = set(threading.enumerate())

    def check(self) -> None:
        """Nothing has been added."""
        assert descriptors() == self.descriptors
        assert set(threading.enumerate()) == self.threads


_USES: List[Any] = [
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.join(), id="join"),
    pytest.param(lambda process: process.stdout.read(10), id="read"),
    pytest.param(lambda process: process.stdout.fileno(), id="fileno"),
    pytest.param(lambda process: process.stdout.close(), id="closed"),
    pytest.param(lambda process: process.kill(), id="kill"),
    pytest.param(lambda process: None, id="nothing"),
]


@pytest.mark.parametrize("use", _USES)
@pytest.mark.parametrize("leave", ["close", "leave", "drop"])
def test_nothing_is_left(use: Callable[[Any], Any], leave: str) -> None:
    """No descriptor, no thread and no child, at once, after each way out."""
    gc.collect()
    before = State()
    process = Process(["cat"], stdin=pattern(LARGE)).run()
    pid = process.id
    use(process)
    if leave == "close":
        process.close()
    elif leave == "leave":
        process.__exit__(None, None, None)
    else:
        del process
    assert not is_alive(pid)
    before.check()


def test_nothing_is_left_after_an_exception() -> None:
    """Leaving `with` by an exception closes everything but the process, which goes on."""
    before = State()
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with Process(["cat"], stdin=PIPE) as process:
            raise ZeroDivisionError
    assert process.stdout.closed
    process.join()
    before.check()
    assert process.exit_code == 0
    process.close()
    before.check()


def test_nothing_is_left_by_an_exception_after_the_end() -> None:
    """The same if the process has ended by then: there is nothing to be waited for."""
    before = State()
    process = Process(["echo", "x"]).run()
    process.join()
    process.__exit__(KeyError, KeyError(), None)
    before.check()
    assert process.exit_code == 0


async def test_nothing_is_left_in_a_loop(kit: Kit) -> None:
    """Many processes one after the other in one loop leave it as it was."""
    async with kit.opened(["cat"], stdin=b"first") as process:  # what a loop makes once, it has
        pass
    await kit.settle()
    before = descriptors()
    for number in range(20):
        if number % 2:
            async with kit.opened(["cat"], stdin=pattern(300_000)) as process:
                pass
        else:
            process = await kit.start(["cat"], stdin=PIPE)
            await kit.get(process.close())
        await kit.settle()
        assert descriptors() == before


async def test_many_failed_starts(kit: Kit, tmp_path: Path) -> None:
    """Programs that do not exist, with input, leave nothing, and the next run works."""
    async with kit.opened(["cat"], stdin=b"first"):
        pass
    await kit.settle()
    before = descriptors()
    for _ in range(25):
        try:
            await kit.start([tmp_path / "none"], stdin=pattern(1000))
        except ProcessError:
            continue
        pytest.fail("not reached")
    await kit.settle()
    assert descriptors() == before
    async with kit.opened(["cat"], stdin=b"x") as process:
        assert await kit.get(process.output()) == b"x"


@pytest.mark.parametrize("leave", ["fed", "close", "leave", "exception", "drop", "deaf"])
@needs_refcounts
async def test_input_is_let_go_of(kit: Kit, leave: str) -> None:
    """No reference to the caller's input is left once it is fed, or of no use any more."""
    data = pattern(LARGE)
    before = sys.getrefcount(data)
    commands = {"deaf": ["true"], "exception": ["sleep", "1000"], "drop": ["sleep", "1000"]}
    process = await kit.start(commands.get(leave, ["cat"]), stdin=data)
    if leave in ("fed", "deaf"):
        await kit.get(process.output())
    elif leave == "close":
        await kit.get(process.close())
    elif leave == "drop":
        process = None
        gc.collect()
    else:
        way = process.__aexit__ if kit.is_async else process.__exit__
        await kit.get(way(KeyError if leave == "exception" else None, None, None))
    # The writer may still be ending where no call has waited for it.
    deadline = time.monotonic() + PROMPT
    while sys.getrefcount(data) != before and time.monotonic() < deadline:
        await kit.pause()
    assert sys.getrefcount(data) == before
    if process is not None:
        await kit.get(process.close())


@needs_refcounts
def test_no_record_is_left_of_descriptors() -> None:
    """Not even while the process that they were for is kept."""
    gc.collect()
    before = set(Descriptor.owners)
    kept = [Process(["true"]).run() for _ in range(3)]
    assert set(Descriptor.owners) > before
    for process in kept:
        process.close()
    assert set(Descriptor.owners) == before


@needs_refcounts
def test_input_of_a_failed_start_goes_with_its_process() -> None:
    """A process that could not be started can be dropped, with its input."""
    data = pattern(1000)
    before = sys.getrefcount(data)
    process = Process(["/nowhere/none"], stdin=data)
    with pytest.raises(ProcessError):
        process.run()
    del process
    gc.collect()
    assert sys.getrefcount(data) == before


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_no_temporary_file_is_left(
    leave: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overflow goes with the process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = State()
    process = Process(python(f"put(1, pattern({3 * LARGE}))")).run()
    process.join()
    if leave == "close":
        process.close()
    else:
        del process
    before.check()
    assert list(tmp_path.iterdir()) == []


@needs_refcounts
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("leave", ["close", "drop"])
@pytest.mark.parametrize("use", _USES)
def test_no_cycle_keeps_what_is_over(use: Callable[[Any], Any], leave: str) -> None:
    """It goes with the last reference, and its output with it, without a collector."""
    process = Process(["cat"], stdin=pattern(LARGE)).run()
    use(process)
    if leave == "close":
        process.close()
    readers = [stream.source.reader for stream in (process.stdout, process.stderr)]  # type: ignore[union-attr]
    references = [weakref.ref(thing) for reader in readers for thing in (reader, reader.inbound)]
    references.append(weakref.ref(process))
    del process, readers
    # Without a GIL an object is freed when the thread that made it finds out.
    until(lambda: [reference() for reference in references] == [None] * len(references))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors cannot be counted")
def test_many_in_a_row_do_not_need_the_collector() -> None:
    """What is left to be freed, whenever that happens, is used by the next process."""
    most = 0
    for _ in range(100):
        with Process(["cat"], stdin=b"input") as process:
            assert process.output() == b"input"
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    assert most < 100


@needs_refcounts
def test_no_start_leaves_a_function_behind() -> None:
    """CPython 3.13 without a global interpreter lock never frees a function that is not nested."""

    def count() -> int:
        collect()
        found = [thing for thing in gc.get_objects() if isinstance(thing, types.FunctionType)]
        return len([function for function in found if function.__name__ == "_execute_child"])

    with Process(["true"]):
        pass
    before = count()
    for _ in range(5):
        with Process(["true"]):
            pass
    assert count() == before
