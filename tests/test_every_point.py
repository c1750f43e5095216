"""Rule 4: an exception strikes at any point at all of a call, once at each.

Rule 8: and nothing is left behind by one that strikes `run`.
"""

import contextlib
import itertools
import operator
import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Callable, List, Optional

import pytest

import process as library
from process import PIPE, Process, ProcessError
from process.threads import _child
from tests.support import (
    LARGE,
    MIB,
    PROMPT,
    Injector,
    InterruptedByTestError,
    alarms,
    descriptors,
    in_a_finalizer,
    injectors,
    lines,
    loses_no_results,
    needs_refcounts,
    pattern,
    refuse_threads,
    until,
)

_ROOT = str(Path(library.__file__).parent)


def _each_point(function: Callable[[], Any], check: Callable[[], None]) -> None:
    """Interrupt `function` at its first point, at its second, and so on."""
    for injector in injectors(least=7):
        injector.call(function)
        if injector.struck:
            check()


def _extend(found: List[bytes], way: Callable[[Any], bytes], stream: Any) -> None:
    """Read and keep, with no point in between at which an exception could strike here."""
    found.extend(map(way, (stream,)))


def _into(name: str) -> Callable[[Any], bytes]:
    def read(stdout: Any) -> bytes:
        buffer = bytearray(5000)
        return bytes(buffer[: getattr(stdout, name)(buffer)])

    return read


_WAYS: List[Any] = [
    pytest.param(lambda stdout: stdout.readline(), id="readline"),
    pytest.param(lambda stdout: b"".join(stdout.readlines(5)), id="readlines"),
    pytest.param(lambda stdout: stdout.read(10), id="read-10"),
    pytest.param(lambda stdout: stdout.read(300_000), id="read-300000"),
    pytest.param(next, id="next"),
]

_BUFFERED: List[Any] = [
    pytest.param(lambda stdout: stdout.read1(10), id="read1"),
    pytest.param(_into("readinto1"), id="readinto1"),
]


@loses_no_results
@pytest.mark.parametrize("buffer_size", [0, 4096])
@pytest.mark.parametrize("way", [*_WAYS, pytest.param(_into("readinto"), id="readinto")])
def test_interrupted_at_every_point_of_a_read(
    way: Callable[[Any], bytes], buffer_size: int
) -> None:
    """Wherever a signal strikes a read, the bytes come out whole with the reads that follow."""
    _interrupt_reads(way, buffer_size)


@loses_no_results
@pytest.mark.parametrize("way", _BUFFERED)
def test_interrupted_at_every_point_of_a_buffered_read(way: Callable[[Any], bytes]) -> None:
    """The same for what only buffered streams have."""
    _interrupt_reads(way, 4096)


def _interrupt_reads(way: Callable[[Any], bytes], buffer_size: int) -> None:
    data = b"".join(lines(100_000))
    found: List[bytes] = []
    with Process(["cat"], stdin=data, buffer_size=buffer_size) as process:
        _each_point(partial(_extend, found, way, process.stdout), lambda: _nobody_waits(process))
        rest = process.output()
    assert b"".join(found) + rest == data


@loses_no_results
@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(operator.methodcaller("readline"), id="readline"),
        pytest.param(operator.methodcaller("read", 5000), id="read"),
        pytest.param(operator.methodcaller("read1", 5000), id="read1"),
        pytest.param(_into("readinto"), id="readinto"),
    ],
)
def test_real_signals_strike_reads(way: Callable[[Any], bytes]) -> None:
    """Beside all that is injected: a storm of alarms whose handler raises."""
    data = b"".join(lines(60_000))
    found: List[bytes] = []
    struck = 0

    def handle(_: int, frame: Any) -> None:
        nonlocal struck
        if frame.f_code.co_filename.startswith(_ROOT) and not in_a_finalizer(frame):
            struck += 1
            raise InterruptedByTestError

    with Process(["cat"], stdin=data) as process:
        with alarms(handle, 0.0005):
            while not found or found[-1]:
                try:
                    while not found or found[-1]:
                        _extend(found, way, process.stdout)
                except InterruptedByTestError:
                    pass
        assert process.output() == b""
    assert b"".join(found) == data
    assert struck


def test_interrupted_at_every_point_of_output() -> None:
    """Wherever a signal strikes `output`, the next call returns everything."""
    data = pattern(MIB)
    with Process(["cat"], stdin=data) as process:
        _each_point(process.output, lambda: _nobody_waits(process))
        assert process.output() == data


def test_interrupted_at_every_point_of_join() -> None:
    """Wherever a signal strikes `join`, no wait remains, and the next call works."""
    with Process(["cat"], stdin=PIPE) as process:

        def join() -> None:
            with pytest.raises(library.ProcessTimeoutError):
                process.join(0)

        _each_point(join, lambda: _nobody_waits(process))
        process.stdin.write(b"on")
    assert process.output() == b"on"


def test_interrupted_at_every_point_of_a_write() -> None:
    """Wherever a signal strikes a write, its bytes are on their way whole, or not at all."""
    sent: List[bytes] = []
    number = 0

    with Process(["cat"], stdin=PIPE) as process:

        def write() -> None:
            nonlocal number
            number += 1
            sent.append(b"%d:%s\n" % (number, b"x" * 10_000))
            process.stdin.write(sent[-1])
            process.stdin.flush()

        _each_point(write, lambda: _nobody_waits(process))
    received = process.output().splitlines(keepends=True)
    assert received == [line for line in sent if line in set(received)]
    assert received[-1] == sent[-1]
    assert len(received) > len(sent) / 2


def test_interrupted_at_every_point_of_close() -> None:
    """Wherever a signal strikes `close`, the next call completes it and keeps everything."""
    data = pattern(MIB)
    for injector in injectors(least=30, step=7):  # a process each: not every point, but all parts
        process = Process(["cat"], stdin=data).run()
        process.join()
        injector.call(process.close)
        process.close()
        assert process.output() == data
        _nobody_waits(process)
        del process


def _only(threads: int) -> None:
    """There are no children, and no more threads than that.

    Save one that is about to find that it is not wanted.
    """
    until(lambda: threading.active_count() == threads)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _nobody_waits(process: Any) -> None:
    """Nobody is registered as waiting, which would let a stream hold without bound."""
    any_other_stream: Any = object()
    assert process._child.monitor.flow.limit(any_other_stream) == 0


@pytest.mark.parametrize("begin", range(1, 9))  # in parts, since it takes long
def test_interrupted_at_every_point_of_run(begin: int) -> None:
    """It either runs, and can be closed, or there is nothing left of it."""
    with Process(["cat"], stdin=b"first"):
        pass
    before, threads = descriptors(), threading.active_count()
    for injector in injectors(least=50, step=8, begin=begin):
        # It takes more input than the pipe does, so the writer thread has to run.
        process = Process(["sh", "-c", "exec sleep 100"], stdin=pattern(LARGE))
        injector.call(process.run)
        if vars(process).get("_child") is not None:
            process.close()
        del process
        assert descriptors() == before, f"at point {injector.point}"
        _only(threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_handler_raises_when_the_child_has_just_been_forked() -> None:
    """A signal that arrives during the fork, which is most of a start, makes nobody forget it."""
    with Process(["cat"], stdin=b"first"):
        pass
    before, threads = descriptors(), threading.active_count()

    class InFork(Injector):
        def applies(self, frame: FrameType) -> bool:
            return frame.f_code.co_name == "fork_exec_and_store"

    struck = 0
    for point in range(1, 20):
        injector = InFork(point)
        process = Process(["sh", "-c", "exec sleep 100"])
        injector.call(process.run)
        struck += injector.struck
        if vars(process).get("_child") is not None:
            process.close()
        del process
        assert descriptors() == before, f"at point {injector.point}"
        _only(threads)
    assert struck


@needs_refcounts
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_handler_raises_anywhere_in_the_method_that_forks() -> None:
    """The pipe by which `Popen` learns that a program cannot be executed is closed.

    And no lock is left locked, as that of `warnings` was on CPython 3.14.
    """
    with Process(["cat"], stdin=b"first"):
        pass
    before, threads = descriptors(), threading.active_count()

    class InPopen(Injector):
        def applies(self, frame: Optional[FrameType]) -> bool:
            while frame is not None and frame.f_code.co_name != "_execute_child":
                frame = frame.f_back
            return frame is not None

    for point in itertools.count(1):
        injector = InPopen(point, root="")
        process = Process(["true"])
        injector.call(process.run)
        if not injector.struck:
            process.close()
        del process
        assert descriptors() == before, f"at point {point}"
        _only(threads)
        if not injector.struck:
            break
    assert point > 20
    with ThreadPoolExecutor() as pool:
        process = Process(["cat"], stdin=b"found in PATH")
        pool.submit(process.run).result()
        assert process.output() == b"found in PATH"
        process.close()


@needs_refcounts
def test_a_run_whose_roll_back_is_interrupted_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call of `run` could not undo itself is undone when it has ended."""
    with Process(["cat"], stdin=b"first"):
        pass
    before, threads = descriptors(), threading.active_count()

    def interrupted(*_: object) -> None:
        if threading.get_ident() == threading.main_thread().ident:
            raise InterruptedByTestError

    roll_back = _child.Child.roll_back
    rolled_back = threading.Event()

    def interrupted_roll_back(self: _child.Child) -> None:
        interrupted()
        roll_back(self)
        rolled_back.set()

    process = Process(["sh", "-c", "exec sleep 100"], stdin=pattern(LARGE))
    with monkeypatch.context() as patch:
        patch.setattr(_child, "start_threads", interrupted)
        patch.setattr(_child.Child, "roll_back", interrupted_roll_back)
        with contextlib.suppress(InterruptedByTestError):
            process.run()
        until(rolled_back.is_set)
    until(lambda: descriptors() == before)
    _only(threads)


@pytest.mark.parametrize("lack", ["program", "thread"])
def test_interrupted_at_every_point_of_a_run_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lack: str
) -> None:
    """It can be run again, whether the interruption or the failure came first."""
    before, threads = descriptors(), threading.active_count()
    program = "cat"
    if lack == "program":
        program = str(tmp_path / "program")
    else:
        refuse_threads(monkeypatch, RuntimeError("can't start new thread"))
    process = Process([program], stdin=pattern(LARGE))
    for injector in injectors(least=30):
        with contextlib.suppress(ProcessError):
            injector.call(process.run)
        assert vars(process).get("_child") is None
        assert not vars(process).get("_runs"), f"at point {injector.point}"
        # Where the caller was interrupted while it waited, another thread rolls back.
        until(lambda: descriptors() == before)
        _only(threads)


def test_run_again_after_it_was_interrupted() -> None:
    """A process that has not been run can be run, and has its input."""
    data = pattern(LARGE)
    for injector in injectors(least=50, step=7):  # two processes each: not every point
        process = Process(["cat"], stdin=data)
        injector.call(process.run)
        if vars(process).get("_child") is None:
            process.run()
        assert process.output() == data
        process.close()


@needs_refcounts
def test_a_stream_that_was_not_handed_over_after_all() -> None:
    """If the receiver was not started, the stream is as it was before."""
    data = pattern(MIB)
    for injector in injectors(least=50, step=7):
        with Process(["cat"], stdin=data) as upstream:
            # It does not read: what it had read would be gone with it.
            receiver = Process(["sh", "-c", "exec sleep 100"], stdin=upstream.stdout)
            injector.call(receiver.run)
            if vars(receiver).get("_child") is None:
                assert upstream.output() == data
            else:
                receiver.kill()
                receiver.close()
        del receiver


def test_interrupted_just_after_a_stream_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last point of all: what the receiver has not read is still there."""
    real = _child.start

    def start(*arguments: Any) -> None:
        real(*arguments)
        raise InterruptedByTestError

    data = pattern(MIB)
    with Process(["cat"], stdin=data) as upstream:
        receiver = Process(["sh", "-c", "exec sleep 100"], stdin=upstream.stdout)
        monkeypatch.setattr(_child, "start", start)
        with pytest.raises(InterruptedByTestError):
            receiver.run()
        assert upstream.output() == data


def test_interrupted_just_after_the_pipe_of_an_offer_was_made_blocking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left so, it would keep the thread of the stream in a read that nothing can end."""
    real = os.set_blocking

    def set_blocking(descriptor: int, blocking: bool) -> None:
        real(descriptor, blocking)
        if blocking:
            raise InterruptedByTestError

    with Process(["cat"], stdin=PIPE) as upstream:
        receiver = Process(["sh", "-c", "exec sleep 100"], stdin=upstream.stdout)
        with monkeypatch.context() as patch:
            patch.setattr(os, "set_blocking", set_blocking)
            with pytest.raises(InterruptedByTestError):
                receiver.run()
        source: Any = upstream.stdout.source  # type: ignore[union-attr]
        assert not os.get_blocking(source.reader.end.descriptor.fileno())


@loses_no_results
def test_interrupted_at_every_point_of_fileno() -> None:
    """Asked again, it gives a descriptor on which everything arrives."""
    data = b"".join(lines(20_000))
    for injector in injectors(least=30):
        with Process(["cat"], stdin=data) as process:
            injector.call(process.stdout.fileno)
            number = process.stdout.fileno()
            received: List[bytes] = [b""]
            while received[-1] or len(received) == 1:
                assert select.select([number], [], [], PROMPT)[0], f"at point {injector.point}"
                received.append(os.read(number, 65536))
            assert b"".join(received) == data


@loses_no_results
@pytest.mark.parametrize("way", _WAYS)
def test_interrupted_at_every_point_of_a_read_of_the_callers_pipe(
    way: Callable[[Any], bytes],
) -> None:
    """After `fileno()`, others read on: another thread, and the owner of the descriptor."""
    data = b"".join(b"%d\n" % number for number in range(40_000))
    for injector in injectors(least=30, step=3):  # a process each: not every point, but all parts
        found: List[bytes] = []
        with Process(["cat"], stdin=data) as process:
            number = process.stdout.fileno()
            read = partial(_extend, found, way, process.stdout)
            injector.call(read)
            other = threading.Thread(target=read)
            other.start()
            other.join(PROMPT)
            assert not other.is_alive(), f"at point {injector.point}"
            if select.select([number], [], [], 0)[0]:
                found.append(os.read(number, 5000))
            found.append(process.output())
        assert b"".join(found) == data, f"at point {injector.point}"
