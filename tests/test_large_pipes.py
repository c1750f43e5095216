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


def _size(port: _posix.Port) -> int:
    return fcntl.fcntl(port.descriptor.fileno(), _GET_PIPE_SIZE)


@pytest.fixture
def ports() -> Iterator[List[_posix.Port]]:
    """More ports than may be large at a time."""
    pipes = [Descriptor.pipe() for _ in range(10)]
    wakeup = _posix.Wakeup()
    watch = _posix.ExitWatch(os.getpid(), lambda: None, lambda: None)
    ports = [_posix.Port(read, wakeup, watch, writing=False) for read, _ in pipes]
    yield ports
    for port in ports:
        port.release()
    ports.clear()


def _fill(port: _posix.Port, times: int, bulk: bool = False) -> None:
    for _ in range(times):
        port.moved(True, bulk)


def test_full_eight_times_in_a_row(ports: List[_posix.Port]) -> None:
    """Then a pipe is four times as large, and as much is moved at once; no larger than that."""
    port = ports[0]
    _fill(port, 7)
    port.moved(False, False)
    _fill(port, 7)
    assert (port.chunk, _size(port)) == (64 * KIB, 64 * KIB)
    _fill(port, 1)
    assert (port.chunk, _size(port)) == (256 * KIB, 256 * KIB)
    _fill(port, 100)
    assert port.chunk == 256 * KIB


def test_all_of_it_is_wanted(ports: List[_posix.Port]) -> None:
    """Whoever has everything in memory anyway gets the largest pipe."""
    _fill(ports[0], 1, bulk=True)
    assert ports[0].chunk == 64 * KIB
    _fill(ports[0], 1, bulk=True)
    assert (ports[0].chunk, _size(ports[0])) == (MIB, MIB)
    _fill(ports[0], 100, bulk=True)
    assert ports[0].chunk == MIB


def test_only_so_many_at_a_time(ports: List[_posix.Port]) -> None:
    """Others stay as they are until one is closed."""
    for port in ports:
        _fill(port, 8)
    assert [port.chunk for port in ports] == [256 * KIB] * 8 + [64 * KIB] * 2
    ports[0].release()
    _fill(ports[9], 8)
    assert ports[9].chunk == 256 * KIB


def test_the_user_has_had_his_share(
    ports: List[_posix.Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel refuses is no error."""
    asked: List[Tuple[int, ...]] = []

    def refuse(*arguments: int) -> int:
        asked.append(arguments)
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    _fill(ports[0], 8)
    assert asked
    assert ports[0].chunk == 64 * KIB
    assert not _posix._enlarged


def test_what_is_captured_through_a_large_pipe() -> None:
    """Every byte comes through, and the next process has its share."""
    for _ in range(2):
        with Process(python(f"put(1, pattern({4 * LARGE}))")) as process:
            assert process.output() == pattern(4 * LARGE)
    assert not _posix._enlarged
