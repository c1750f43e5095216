"""What leaves memory comes back, whatever happens to files."""

import errno
from typing import Callable, List, Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from process.core import _overflow
from process.core._overflow import Overflow


class FakeFile:
    """An unbuffered file in memory, which may run into trouble."""

    def __init__(self, space: float = float("inf"), largest_write: int = 1 << 30) -> None:
        self.data = bytearray()
        self.position = 0
        self.space = space
        self.largest_write = largest_write
        self.closed = False

    def seek(self, offset: int, /) -> int:
        assert not self.closed
        self.position = offset
        return offset

    def read(self, size: int, /) -> Optional[bytes]:
        assert not self.closed
        data = bytes(self.data[self.position : self.position + size])
        self.position += len(data)
        return data

    def write(self, data: memoryview, /) -> Optional[int]:
        assert not self.closed
        size = int(min(len(data), self.space, self.largest_write))
        if not size:
            raise OSError(errno.ENOSPC, "no space")
        self.space -= size
        self.data[self.position : self.position + size] = data[:size]
        self.position += size
        return size

    def close(self) -> None:
        self.closed = True


class Files:
    """Opens fake files, and remembers them."""

    def __init__(self, make: Callable[[], FakeFile] = FakeFile) -> None:
        self.made: List[FakeFile] = []
        self._make = make

    def __call__(self) -> FakeFile:
        file = self._make()
        self.made.append(file)
        return file


def _everything(overflow: Overflow, size: int = 7) -> bytes:
    data = b""
    while len(overflow):
        piece = overflow.take(size)
        assert 0 < len(piece) <= size
        data += piece
    return data


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 10 bytes first, of 40 at most."""
    monkeypatch.setattr(_overflow, "_FIRST_SEGMENT", 10)
    monkeypatch.setattr(_overflow, "_LARGEST_SEGMENT", 40)


def test_what_is_empty_gives_nothing_and_opens_no_file() -> None:
    """Without overflow there is no file."""
    files = Files()
    overflow = Overflow(files)
    assert overflow.take(5) == b""
    overflow.append(b"")
    overflow.close()
    assert len(overflow) == 0
    assert not files.made


def test_bytes_come_back_in_order() -> None:
    """What went in comes out, in the same order, and the file is then closed."""
    files = Files()
    overflow = Overflow(files)
    overflow.append(b"abc")
    overflow.append(b"def")
    assert len(overflow) == 6
    assert overflow.take(4) == b"abcd"
    overflow.append(b"ghi")
    assert _everything(overflow) == b"efghi"
    assert [file.closed for file in files.made] == [True]


@pytest.mark.usefixtures("tiny")
def test_segments_double_in_size_up_to_a_limit() -> None:
    """Few files are open at once, and none grows without limit."""
    files = Files(lambda: FakeFile(largest_write=5))
    overflow = Overflow(files)
    for _ in range(26):
        overflow.append(b"01234")
    assert [len(file.data) for file in files.made] == [10, 20, 40, 40, 20]


@pytest.mark.usefixtures("tiny")
def test_a_segment_is_closed_as_soon_as_it_is_consumed() -> None:
    """Space is given back on the way, not only at the end."""
    files = Files()
    overflow = Overflow(files)
    overflow.append(b"x" * 10)
    overflow.append(b"y" * 10)
    assert overflow.take(9) == b"x" * 9
    assert [file.closed for file in files.made] == [False, False]
    assert overflow.take(9) == b"x"
    assert [file.closed for file in files.made] == [True, False]


def test_without_files_memory_holds_it() -> None:
    """No usable directory or no descriptor: nothing is lost, and files are not tried again."""
    tried = []

    def fail() -> FakeFile:
        tried.append(True)
        raise OSError(errno.EMFILE, "no descriptors")

    overflow = Overflow(fail)
    overflow.append(b"abc")
    overflow.append(b"def")
    assert _everything(overflow) == b"abcdef"
    overflow.append(b"ghi")
    assert _everything(overflow) == b"ghi"
    assert len(tried) == 1


def test_a_disk_that_is_full_at_once() -> None:
    """A file that takes nothing is followed by memory, and loses nothing."""
    files = Files(lambda: FakeFile(space=0))
    overflow = Overflow(files)
    overflow.append(b"abc")
    overflow.append(b"def")
    assert len(overflow) == 6
    assert _everything(overflow) == b"abcdef"
    assert [file.closed for file in files.made] == [True]


def test_a_disk_that_fills_up_on_the_way() -> None:
    """What the file has counted is in the file, the rest of the chunk in memory."""
    files = Files(lambda: FakeFile(space=5))
    overflow = Overflow(files)
    overflow.append(b"abc")
    overflow.append(b"defghi")
    overflow.append(b"jkl")
    assert bytes(files.made[0].data) == b"abcde"
    assert len(overflow) == 12
    assert _everything(overflow) == b"abcdefghijkl"


def test_a_write_that_says_nothing_is_tried_again() -> None:
    """A raw file may answer `None`: nothing written, nothing counted."""

    class Reluctant(FakeFile):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def write(self, data: memoryview, /) -> Optional[int]:
            self.asked += 1
            return None if self.asked % 2 else super().write(data)

    overflow = Overflow(Files(Reluctant))
    overflow.append(b"abc")
    overflow.append(b"def")
    assert _everything(overflow) == b"abcdef"


def test_short_reads_are_only_short() -> None:
    """A file that gives less than asked for is asked again."""

    class Terse(FakeFile):
        def read(self, size: int, /) -> Optional[bytes]:
            return super().read(min(size, 2))

    overflow = Overflow(Files(Terse))
    overflow.append(b"abcdefg")
    assert overflow.take(5) == b"ab"
    assert _everything(overflow) == b"cdefg"


def test_a_file_that_has_lost_bytes_is_an_error() -> None:
    """Bytes that are gone from the file are named, not passed over."""
    files = Files()
    overflow = Overflow(files)
    overflow.append(b"abc")
    del files.made[0].data[:]
    with pytest.raises(OSError, match="shorter") as caught:
        overflow.take(3)
    assert caught.value.errno == errno.EIO


@pytest.mark.usefixtures("tiny")
def test_close_gives_everything_back() -> None:
    """Discarded means: files closed, memory freed, nothing held."""
    files = Files(lambda: FakeFile(space=12))
    overflow = Overflow(files)
    for _ in range(10):
        overflow.append(b"0123456789")
    overflow.close()
    assert len(overflow) == 0
    assert all(file.closed for file in files.made)
    assert overflow.take(1) == b""


class OverflowMachine(RuleBasedStateMachine):
    """An overflow whose disk may fill up at any time, against `bytearray`."""

    def __init__(self) -> None:
        super().__init__()
        self.space = float("inf")
        self.files = Files(lambda: FakeFile(self.space, largest_write=6))
        self.overflow = Overflow(self.files)
        self.overflow._next_size = 8
        self.model = bytearray()

    @rule(data=st.binary(max_size=30))
    def append(self, data: bytes) -> None:
        self.overflow.append(data)
        self.model += data

    @rule(size=st.integers(1, 40))
    def take(self, size: int) -> None:
        data = self.overflow.take(size)
        assert bool(data) == bool(self.model)
        assert len(data) <= size
        assert data == self.model[: len(data)]
        del self.model[: len(data)]

    @rule(space=st.integers(0, 20))
    def disk_fills_up(self, space: int) -> None:
        self.space = space
        for file in self.files.made:
            file.space = min(file.space, space)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.overflow) == len(self.model)

    @invariant()
    def consumed_files_are_closed(self) -> None:
        open_files = [file for file in self.files.made if not file.closed]
        assert len(open_files) <= len(self.overflow._segments)


TestOverflow = OverflowMachine.TestCase
TestOverflow.settings = settings(max_examples=50, deadline=None, derandomize=True)
