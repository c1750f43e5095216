"""Pipes are made larger where that pays, and only so many at a time."""

import fcntl
import os
from typing import Iterator, List, Tuple

import pytest

from process import Process
from process._descriptor import Descriptor
from process._platform import _posix
from tests.support import LARGE, MIB, pattern, python

KIB = 1024
_GET_PIPE_SIZE = 1032

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux can do it")


def _size(end: _posix.PipeEnd) -> int:
    return fcntl.fcntl(end.descriptor.fileno(), _GET_PIPE_SIZE)


@pytest.fixture
def ends() -> Iterator[List[_posix.PipeEnd]]:
    """More pipes than may be large at a time."""
    pipes = [Descriptor.pipe() for _ in range(10)]
    ends = [_posix.PipeEnd(read, writing=False) for read, _ in pipes]
    yield ends
    for end in ends:
        end.close()
    ends.clear()


def _fill(end: _posix.PipeEnd, times: int, bulk: bool = False) -> None:
    for _ in range(times):
        end.moved(True, bulk)


def test_full_eight_times_in_a_row(ends: List[_posix.PipeEnd]) -> None:
    """Then a pipe is four times as large, and as much is moved at once; no larger than that."""
    end = ends[0]
    _fill(end, 7)
    end.moved(False, False)
    _fill(end, 7)
    assert (end.chunk, _size(end)) == (64 * KIB, 64 * KIB)
    _fill(end, 1)
    assert (end.chunk, _size(end)) == (256 * KIB, 256 * KIB)
    _fill(end, 100)
    assert end.chunk == 256 * KIB


def test_all_of_it_is_wanted(ends: List[_posix.PipeEnd]) -> None:
    """What is in memory anyway passes through the largest pipe."""
    _fill(ends[0], 1, bulk=True)
    assert ends[0].chunk == 64 * KIB
    _fill(ends[0], 1, bulk=True)
    assert (ends[0].chunk, _size(ends[0])) == (MIB, MIB)
    _fill(ends[0], 100, bulk=True)
    assert ends[0].chunk == MIB


def test_only_so_many_at_a_time(ends: List[_posix.PipeEnd]) -> None:
    """Others stay as they are until one is closed."""
    for end in ends:
        _fill(end, 8)
    assert [end.chunk for end in ends] == [256 * KIB] * 8 + [64 * KIB] * 2
    ends[0].close()
    _fill(ends[9], 8)
    assert ends[9].chunk == 256 * KIB


def test_the_user_has_no_share_left(
    ends: List[_posix.PipeEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel refuses is no error."""
    asked: List[Tuple[int, ...]] = []

    def refuse(*arguments: int) -> int:
        asked.append(arguments)
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    _fill(ends[0], 8)
    assert asked
    assert ends[0].chunk == 64 * KIB
    assert not _posix._enlarged


def test_what_is_captured_through_a_large_pipe() -> None:
    """Every byte comes through, and the next process has its share."""
    for _ in range(2):
        with Process(python(f"put(1, pattern({4 * LARGE}))")) as process:
            assert process.output() == pattern(4 * LARGE)
    assert not _posix._enlarged
