"""The buffer hands out every byte once, in order."""

from typing import Any, List

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from process.core._buffer import Buffer

#: Chunks shorter than this are merged.
SMALL = 4096


def _buffer(*chunks: bytes) -> Buffer:
    buffer = Buffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


def test_an_empty_buffer_gives_nothing() -> None:
    """What is empty has no length, no front, no chunks, and nothing to take."""
    buffer = Buffer()
    buffer.append(b"")
    assert len(buffer) == 0
    assert not buffer
    assert buffer.take(5) == b""
    assert buffer.peek(5) == b""
    assert bytes(buffer.front(5)) == b""
    assert buffer.find(b"\n") == -1
    assert buffer.find(b"\r\n") == -1


def test_small_chunks_are_merged() -> None:
    """A child that writes byte by byte does not cost an object a byte."""
    buffer = _buffer(*[b"x"] * 1000)
    assert len(buffer.front(1000)) == 1000


def test_an_open_chunk_grows_in_place() -> None:
    """What is appended to the array counts at once, and comes before the next chunk."""
    buffer = _buffer(b"ab")
    tail = bytearray(b"c")
    buffer.append_open(tail)
    tail += b"de"
    assert len(buffer) == 5
    assert buffer.end == 5
    buffer.append(b"f")
    assert buffer.take(9) == b"abcdef"


def test_skipping_to_an_offset_can_be_done_again() -> None:
    """An offset that has been passed is no reason to go back."""
    buffer = _buffer(b"abcdef")
    buffer.skip_to(4)
    buffer.skip_to(2)
    buffer.skip_to(4)
    assert buffer.take(9) == b"ef"


def test_the_last_line_end_of_the_first_chunk() -> None:
    """Whole lines are found in one chunk; none, if they have been handed out."""
    buffer = _buffer(b"a\nb\nc", bytes(SMALL))
    assert buffer.find_last(b"\n") == 4
    buffer.skip(3)
    assert buffer.find_last(b"\n") == 1
    buffer.skip(1)
    assert buffer.find_last(b"\n") == 0
    buffer.skip(1)
    assert buffer.find_last(b"\n") == 0


def test_large_chunks_are_neither_merged_nor_copied() -> None:
    """A large chunk is kept, and handed out whole, as the object it is."""
    large = bytes(SMALL)
    buffer = _buffer(b"ab", large, b"c", b"d")
    assert len(buffer.front(9)) == 2
    assert buffer.take(2) == b"ab"
    assert buffer.take(SMALL) is large
    assert len(buffer.front(9)) == 2


def test_a_view_is_held_as_it_is() -> None:
    """A view of the caller's bytes is not copied before it is handed out."""
    data = bytearray(b"x" * SMALL)
    buffer = Buffer()
    buffer.append(memoryview(data))
    data[:1] = b"y"
    assert bytes(buffer.front(2)) == b"yx"
    assert buffer.take(3) == b"yxx"


def test_a_chunk_after_everything_was_taken_is_not_merged_with_what_is_gone() -> None:
    """Bytes handed out do not come back with the next small chunk."""
    buffer = _buffer(b"abc")
    assert buffer.take(3) == b"abc"
    buffer.append(b"def")
    assert len(buffer) == 3
    assert buffer.take(9) == b"def"


def test_front_is_the_rest_of_the_first_chunk() -> None:
    """What can be sent without a copy ends with the first chunk."""
    buffer = _buffer(b"ab", bytes(SMALL))
    assert bytes(buffer.front(9)) == b"ab"
    buffer.skip(1)
    assert bytes(buffer.front(9)) == b"b"
    buffer.skip(1)
    assert len(buffer.front(9)) == 9


def test_peek_looks_across_chunks_from_any_offset() -> None:
    """Looking ahead crosses chunks, and nothing moves by it."""
    large = bytes(range(256)) * 16
    buffer = _buffer(b"ab", large, b"yz")
    everything = b"ab" + large + b"yz"
    for offset in (0, 1, 2, 3, SMALL, SMALL + 1, SMALL + 2, SMALL + 3, SMALL + 4, SMALL + 9):
        for size in (0, 1, 2, 5, SMALL, SMALL + 4, SMALL + 9):
            assert buffer.peek(size, offset) == everything[offset : offset + size]
    assert buffer.position == 0
    assert len(buffer) == SMALL + 4


def test_skip_does_not_go_beyond_the_end() -> None:
    """Letting go of more than there is lets go of all, and no more."""
    buffer = _buffer(b"abc")
    buffer.skip(9)
    assert buffer.position == 3
    assert len(buffer) == 0


def test_what_was_taken_can_be_put_back() -> None:
    """Bytes put back come first again, at the offset they had."""
    buffer = _buffer(b"abc", bytes(SMALL))
    data = buffer.take(5)
    buffer.unread(data)
    assert buffer.position == 0
    assert len(buffer) == 3 + SMALL
    assert buffer.take(4) == b"abc\0"


def test_find_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line in many pieces is searched once, not once a piece."""
    searched: List[int] = []

    class Counting(bytes):
        def find(self, *arguments: Any) -> int:
            searched.append(len(self))
            return super().find(*arguments)

    monkeypatch.setattr("process.core._buffer.bytes", Counting, raising=False)
    buffer = Buffer()
    for _ in range(10):
        buffer.append(b"x" * SMALL)
        assert buffer.find(b"\n") == -1
    assert len(searched) == 10


@pytest.mark.parametrize("separator", [b"\n", b"\r\n"])
def test_find_sees_a_separator_wherever_it_lies(separator: bytes) -> None:
    """A separator is found at the front, inside, across a border, at the end."""
    for before in (0, 1, SMALL - 1, SMALL, SMALL + 1):
        buffer = _buffer(b"x" * SMALL)
        text = b"x" * before + separator + b"yy"
        buffer = Buffer()
        for start in range(0, len(text), SMALL):
            buffer.append(text[start : start + SMALL])
            found = buffer.find(separator)
        assert found == before + len(separator)
        assert buffer.take(found) == text[:found]
        assert buffer.find(separator) == -1


def test_each_separator_is_searched_by_itself() -> None:
    """Asked for another separator, the search begins at the front, and goes on for both."""
    buffer = _buffer(b"a;b")
    assert buffer.find(b"\n") == -1
    assert buffer.find(b";") == 2
    buffer.append(b"\n")
    assert buffer.find(b"\n") == 4
    assert buffer.find(b";") == 2


def test_a_search_for_many_separators_remembers_some() -> None:
    """Searching for ever new ones accumulates nothing, and finds what is there."""
    buffer = _buffer(b"x" * SMALL, b"yz")
    for number in range(1000):
        assert buffer.find(b"%d" % number) == -1
    assert len(buffer._searched) < 10
    assert buffer.find(b"yz") == SMALL + 2


@pytest.mark.parametrize("separator", [b"\n", b"\r\n"])
def test_a_line_at_the_front_is_found_without_looking_further(
    monkeypatch: pytest.MonkeyPatch, separator: bytes
) -> None:
    """What lies behind it, however much, costs nothing."""
    searched: List[int] = []

    class Counting(bytes):
        def find(self, *arguments: Any) -> int:
            searched.append(len(self))
            return super().find(*arguments)

    monkeypatch.setattr("process.core._buffer.bytes", Counting, raising=False)
    buffer = _buffer(b"line" + separator + b"x" * SMALL, *[b"x" * SMALL] * 100)
    assert buffer.find(separator) == 4 + len(separator)
    assert len(searched) == 1


def test_a_separator_put_back_is_found_again() -> None:
    """Bytes that come back in front of what was searched are searched again."""
    buffer = _buffer(b"a\nb")
    assert buffer.find(b"\n") == 2
    line = buffer.take(2)
    assert buffer.find(b"\n") == -1
    buffer.unread(line)
    assert buffer.find(b"\n") == 2


def test_part_of_a_chunk_can_be_put_back() -> None:
    """What was taken of a chunk, put back before the rest of it, is there once."""
    buffer = _buffer(b"abcdef")
    buffer.unread(buffer.take(3))
    assert len(buffer) == 6
    assert buffer.peek(9) == b"abcdef"
    assert buffer.find(b"d") == 4
    buffer.skip(2)
    assert bytes(buffer.front(9)) == b"c"
    assert buffer.take(9) == b"cdef"


def test_bytes_can_pass_by() -> None:
    """Bytes that go past an empty buffer count in its position."""
    buffer = _buffer(b"ab")
    buffer.skip(2)
    buffer.advance(3)
    buffer.append(b"c")
    assert buffer.position == 5
    assert buffer.take(9) == b"c"


class BufferMachine(RuleBasedStateMachine):
    """A buffer against a `bytearray`."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = Buffer()
        self.model = bytearray()
        self.gone = 0
        self.last = b""

    @rule(data=st.binary(max_size=20), times=st.sampled_from([1, 1, 1, 1000]), view=st.booleans())
    def append(self, data: bytes, times: int, view: bool) -> None:
        self.buffer.append(memoryview(data * times) if view else data * times)
        self.model += data * times

    @rule(size=st.integers(0, 30) | st.integers(0, 30000))
    def take(self, size: int) -> None:
        self.last = self.buffer.take(size)
        assert self.last == self.model[:size]
        del self.model[:size]
        self.gone += len(self.last)

    @rule(share=st.integers(0, 30))
    def unread(self, share: int) -> None:
        data = self.last[max(0, len(self.last) - share) :]
        self.last = b""
        self.buffer.unread(data)
        self.model[:0] = data
        self.gone -= len(data)

    @rule(size=st.integers(0, 30) | st.integers(0, 30000))
    def skip(self, size: int) -> None:
        self.buffer.skip(size)
        self.gone += len(self.model[:size])
        del self.model[:size]
        self.last = b""

    @rule(size=st.integers(1, 30000))
    def front(self, size: int) -> None:
        front = bytes(self.buffer.front(size))
        assert bool(front) == bool(self.model)
        assert self.model[: len(front)] == front
        assert len(front) <= size

    @rule(size=st.integers(0, 30000), offset=st.integers(0, 30000))
    def peek(self, size: int, offset: int) -> None:
        assert self.buffer.peek(size, offset) == self.model[offset : offset + size]

    @rule(separator=st.sampled_from([b"\n", b"\0", b"\0\0", b"\1\0"]))
    def find(self, separator: bytes) -> None:
        for _ in range(2):
            index = self.model.find(separator)
            assert self.buffer.find(separator) == (index + len(separator) if index >= 0 else -1)

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.buffer) == len(self.model)
        assert self.buffer.position == self.gone
        assert self.buffer.peek(1 << 20) == self.model


class LineMachine(RuleBasedStateMachine):
    """A buffer read line by line, which goes on searching where it stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = Buffer()
        self.model = b""
        self.line = b""

    @rule(data=st.text("ab\r\n", max_size=9))
    def append(self, data: str) -> None:
        self.buffer.append(data.encode())
        self.model += data.encode()

    @rule(separator=st.sampled_from([b"\r\n", b"\n", b"a", b"b\r\n\r"]))
    def read_line(self, separator: bytes) -> None:
        size = self.buffer.find(separator)
        index = self.model.find(separator)
        assert size == (index + len(separator) if index >= 0 else -1)
        if size > 0:
            self.line = self.buffer.take(size)
            assert self.line == self.model[:size]
            self.model = self.model[size:]

    @rule()
    def unread(self) -> None:
        self.buffer.unread(self.line)
        self.model = self.line + self.model
        self.line = b""


TestBuffer = BufferMachine.TestCase
TestBuffer.settings = settings(max_examples=50, deadline=None, derandomize=True)
TestLines = LineMachine.TestCase
TestLines.settings = settings(max_examples=50, deadline=None, derandomize=True)
