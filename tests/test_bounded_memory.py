"""Rule 3: what has to be held beyond the bound leaves memory; what is asked for is there once."""

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, List, Set

import pytest

from process import Process
from process._spool import open_spool
from tests.support import CAT, LARGE, MIB, Kit, lines, needs_tracemalloc, pattern, python

SIZE = 4 * LARGE

nameless = pytest.mark.skipif(
    sys.platform == "win32", reason="an open file has a name on Windows, and no owner's mode"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which temporary files are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def flood(size: int = SIZE) -> List[str]:
    """A child that writes `size` patterned bytes."""
    return python(f"put(1, pattern({size}, 1))")


def spilled(process: Process) -> int:
    """How many bytes of stdout are in the overflow."""
    stream: Any = process.stdout
    size: int = stream.source.reader.inbound.spilled
    return size


@nameless
def test_an_unread_flood_overflows_into_an_unnamed_file(temporary: Path) -> None:
    """After `join` most of the output is in a file that has no name, and comes back in order."""
    with Process(flood()) as process:
        process.join()
        data = process.stdout.read(1)
        assert spilled(process) > SIZE - 2 * LARGE
        assert list(temporary.iterdir()) == []
        while len(data) < SIZE:
            data += process.stdout.read(MIB + 1) or b""
        assert data == pattern(SIZE, 1)
        assert process.stdout.read() == b""


def test_overflow_is_given_back_by_every_way_of_reading(temporary: Path) -> None:
    """Lines, pieces and `output` go on from memory into the overflow without a seam."""
    data = lines(120_000)
    assert sum(map(len, data)) > 2 * LARGE
    with Process(CAT, stdin=b"".join(data)) as process:
        process.join()
        assert spilled(process) > LARGE
        for line in data[:60_000]:
            assert process.stdout.readline() == line
        rest = b"".join(data[60_000:])
        assert process.stdout.read(100_000) == rest[:100_000]
        assert process.output() == rest[100_000:]


def test_overflow_and_a_child_that_writes_on(temporary: Path) -> None:
    """Bytes that come while others are in the overflow queue up behind them."""
    script = f"""
for number in range(8):
    put(1, pattern({MIB}, number))
put(2, b"half")
for number in range(8, 16):
    put(1, pattern({MIB}, number))
"""
    with Process(python(script)) as process:
        assert process.stderr.read(4) == b"half"  # waits, so that stdout has to be held
        assert process.stdout.read(MIB) == pattern(MIB, 0)
        assert process.stderr.read() == b""
        for number in range(1, 16):
            assert process.stdout.read(MIB) == pattern(MIB, number)
        assert process.stdout.read() == b""


def test_no_child_inherits_the_overflow() -> None:
    """Not even one that is started without `close_fds`."""
    file: Any = open_spool()
    assert not os.get_inheritable(file.fileno())
    file.close()


def _numbers() -> Set[str]:
    """The descriptors of this process, where they can be listed."""
    directory = Path("/proc/self/fd")
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


@nameless
def test_the_overflow_is_private(temporary: Path) -> None:
    """The file has mode 0600 and is gone with the process."""
    before = _numbers()
    process = Process(flood()).run()
    process.join()
    assert spilled(process)
    found = []
    for name in _numbers() - before:
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of the listing itself
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((stat.S_IMODE(status.st_mode), status.st_nlink))
    process.close()
    if before:
        assert found
        assert set(found) == {(0o600, 0)}
    assert process.output() == pattern(SIZE, 1)


def test_no_temporary_file_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place for the overflow it stays in memory, and nothing is lost."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("no place")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with Process(flood()) as process:
        process.join()
        assert spilled(process)
        assert process.stdout.read(1000) == pattern(SIZE, 1)[:1000]
        assert process.output() == pattern(SIZE, 1)[1000:]


@pytest.mark.parametrize("fill", [0, 1, 70_000, 1_000_000])
def test_the_disk_is_full(monkeypatch: pytest.MonkeyPatch, fill: int) -> None:
    """A file that takes some bytes and then no more: the rest stays in memory."""
    real = tempfile.TemporaryFile

    class Full:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._file = real(*arguments, **options)
            self._left = fill

        def write(self, data: Any) -> int:
            if not self._left:
                raise OSError(28, "No space left on device")
            size: int = self._file.write(memoryview(data)[: self._left])
            self._left -= size
            return size

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with Process(flood()) as process:
        process.join()
        assert spilled(process)
        data = b"".join(iter(lambda: process.stdout.read(333_333) or b"", b""))
        assert data == pattern(SIZE, 1)


@pytest.mark.parametrize("way", ["output", "close", "leave", "read"])
@needs_tracemalloc
async def test_what_is_asked_for_is_in_memory_once(kit: Kit, way: str) -> None:
    """Capturing takes the memory of the captured bytes once, not twice."""
    size = 32 * MIB
    command = python(f"[put(1, pattern({MIB}, 1)) for _ in range({size // MIB})]")
    import tracemalloc

    tracemalloc.start()
    try:
        if way == "leave":
            async with kit.opened(command) as process:
                pass
        else:
            process = await kit.start(command)
            if way == "read":
                data = await kit.read_all(process.stdout)
            elif way == "output":
                await kit.get(process.output())
            await kit.get(process.join() if way == "close" else process.close())
            if way == "close":
                await kit.get(process.close())
        if way != "read":
            data = await kit.get(process.output())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data) == size
    assert data[:MIB] == data[-MIB:] == pattern(MIB, 1)
    assert peak < 1.3 * size


@needs_tracemalloc
async def test_input_is_not_copied(kit: Kit) -> None:
    """Feeding input to a child that echoes nothing costs next to no memory."""
    data = pattern(32 * MIB)
    import tracemalloc

    tracemalloc.start()
    try:
        async with kit.opened(python("get_all()"), stdin=data) as process:
            await kit.get(process.join())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB
