"""Rule 7: the garbage collector may run a finalizer at any allocation, in any thread."""

import gc
import threading
from collections import deque
from functools import partial
from typing import Any, Callable, List

import pytest

from process import PIPE, Process, _platform
from process.core._flow import Flow
from process.core._inbound import Inbound
from process.core._outbound import Outbound
from process.threads._monitor import Monitor
from process.threads._reader import ReaderThread
from tests.support import (
    CAT,
    LARGE,
    MIB,
    YES,
    alarms,
    descriptors,
    is_alive,
    needs_polls,
    needs_program,
    needs_signals,
    pattern,
)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the grace period passes: a thread that is to end waits for it, or for the lock."""
    monkeypatch.setattr("process.threads._child.GRACE", 0.1)


def _in_a_cycle(arguments: List[str], **options: Any) -> "tuple[List[Any], int]":
    """A process that only the collector can drop, once the list is cleared; and its id."""
    child: Any = Process(arguments, **options).run()
    child.myself = child
    return [child], child.id


def _collect_when(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    ready: threading.Event,
    thread: str = "",
) -> "List[str]":
    """Collect on entry to `owner.name`, once, after `ready`, in a thread of that name (or any).

    Returns:
        A list that will hold the name of the thread, and that it has done it.
    """
    real: Any = getattr(owner, name)
    call: Callable[..., Any] = getattr(real, "fget", real)
    collected: List[str] = []

    def collect(*args: Any, **kwargs: Any) -> Any:
        current = threading.current_thread().name
        if ready.is_set() and not collected and current.startswith(thread):
            collected.append(current)
            gc.collect()
            collected.append("done")
        return call(*args, **kwargs)

    patch = property(collect) if isinstance(real, property) else collect
    monkeypatch.setattr(owner, name, patch)
    return collected


@pytest.mark.usefixtures("no_collector", "short_grace")
@pytest.mark.parametrize("name", ["feed", "room", "spills", "refill"])
def test_collected_by_a_reader_thread_of_the_same_process(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In the middle of what the thread does under the lock of the process it drops."""
    before, threads = descriptors(), threading.active_count()
    ready = threading.Event()
    box, pid = _in_a_cycle(YES)
    collected = _collect_when(monkeypatch, Inbound, name, ready, f"process-{pid}-stdout")
    stdout = box[0].stdout
    reader = threading.Thread(target=_read_until_dropped, args=(stdout,))
    reader.start()
    box.clear()
    ready.set()
    reader.join()
    _threads_are_gone(threads)
    assert collected[0] == f"process-{pid}-stdout"
    assert collected[1:] == ["done"]
    assert not is_alive(pid)
    del stdout
    assert descriptors() == before


@needs_polls
@pytest.mark.usefixtures("no_collector", "short_grace")
@pytest.mark.parametrize("name", ["feed", "room", "crowded"])
def test_collected_by_a_caller_of_the_same_process(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In the middle of what a caller does that reads the pipe itself, under the lock."""
    before, threads = descriptors(), threading.active_count()
    ready = threading.Event()
    box, pid = _in_a_cycle(YES)
    collected = _collect_when(monkeypatch, Inbound, name, ready, "caller")
    stdout = box[0].stdout
    caller = threading.Thread(target=_read_blocks_until_dropped, args=(stdout,), name="caller")
    caller.start()
    box.clear()
    ready.set()
    caller.join()
    _threads_are_gone(threads)
    assert collected == ["caller", "done"]
    assert not is_alive(pid)
    del stdout, caller
    assert descriptors() == before


@pytest.mark.usefixtures("no_collector", "short_grace")
@pytest.mark.parametrize("name", ["front", "sent"])
def test_collected_by_the_writer_thread_of_the_same_process(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same on the way to stdin."""
    before, threads = descriptors(), threading.active_count()
    ready = threading.Event()
    monkeypatch.setattr(_platform.PipeEnd, "can_write_directly", lambda _: False)
    box, pid = _in_a_cycle(CAT, stdin=PIPE)
    collected = _collect_when(monkeypatch, Outbound, name, ready, f"process-{pid}-stdin")
    stdin = box[0].stdin
    box.clear()
    ready.set()
    try:
        stdin.write(pattern(LARGE))  # which holds the stream, not the process
    except OSError:
        pass  # BrokenPipeError: it is gone
    _threads_are_gone(threads)
    assert collected[0] == f"process-{pid}-stdin"
    assert collected[1:] == ["done"]
    assert not is_alive(pid)
    del stdin
    assert descriptors() == before


def _read_until_dropped(stream: Any) -> None:
    with pytest.raises(ValueError, match="closed file"):
        stream.read()


def _read_blocks_until_dropped(stream: Any) -> None:
    """Read so little at a time that the caller reads the pipe itself."""
    with pytest.raises(ValueError, match="closed file"):
        deque(iter(partial(stream.read, 50_000), b""), maxlen=0)


def _threads_are_gone(count: int) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("process-"):
            thread.join()
    assert threading.active_count() == count


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Flow, "enter"),
        (Flow, "leave"),
        (Monitor, "notify"),
        (Inbound, "collect"),
        (Inbound, "keep"),
    ],
)
def test_collected_by_a_caller_of_another_process(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """The caller is inside a call for another process, under its lock."""
    ready = threading.Event()
    box, pid = _in_a_cycle(YES, stdin=pattern(LARGE))
    collected = _collect_when(monkeypatch, owner, name, ready, "MainThread")
    with Process(CAT, stdin=pattern(MIB)) as other:
        box.clear()
        ready.set()
        assert other.output() == pattern(MIB)
    assert collected[1:] == ["done"]
    assert not is_alive(pid)


@needs_program("sh")
@pytest.mark.usefixtures("no_collector", "short_grace")
def test_collected_by_a_thread_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores SIGTERM, dropped by another's thread: that one goes on after it."""
    ready = threading.Event()
    command = ["sh", "-c", "trap '' TERM; echo x; while :; do sleep 1; done"]
    box, pid = _in_a_cycle(command)
    assert box[0].stdout.readline() == b"x\n"
    collected = _collect_when(monkeypatch, ReaderThread, "_record", ready)
    with Process(CAT, stdin=PIPE) as other:
        box.clear()
        ready.set()
        other.stdin.write(pattern(MIB))
        other.stdin.close()
        assert other.output() == pattern(MIB)
        assert collected == [f"process-{other.id}-stdout", "done"]
    assert not is_alive(pid)


@pytest.mark.skipif(
    not hasattr(gc, "get_threshold"), reason="a collection cannot be had at each allocation"
)
def test_collected_at_every_allocation() -> None:
    """The collector runs all the time while processes in cycles come and go in two threads."""
    before = gc.get_threshold()
    pids: List[int] = []

    def work() -> None:
        for seed in range(5):
            box, pid = _in_a_cycle(CAT, stdin=pattern(200_000, seed))
            pids.append(pid)
            assert box[0].stdout.read(100_000) == pattern(200_000, seed)[:100_000]
            box.clear()

    gc.set_threshold(20, 2, 2)
    try:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(pids) == 10
    assert not any(map(is_alive, pids))


@needs_signals
def test_dropped_by_a_signal_handler_in_the_middle_of_a_call() -> None:
    """A handler drops one process while its caller is inside `output()` of another."""
    box = [Process(YES, stdin=pattern(LARGE)).run() for _ in range(20)]
    pids = [child.id for child in box]

    def drop(*_: object) -> None:
        if box:
            box.pop()

    with alarms(drop, 0.002):
        while box:
            with Process(CAT, stdin=pattern(MIB)) as other:
                assert other.output() == pattern(MIB)
    assert not any(map(is_alive, pids))


_CALLS: List[Callable[[Any], object]] = [
    lambda child: child.output(),
    lambda child: child.join(),
    lambda child: child.close(),
]
_NAMES = ["output", "join", "close"]


@pytest.mark.parametrize("call", _CALLS, ids=_NAMES)
def test_the_last_reference_goes_inside_a_call(call: Callable[[Any], object]) -> None:
    """The call itself holds the process, and drops it when it returns."""
    before = descriptors()
    call(Process(CAT, stdin=pattern(MIB)).run())
    assert descriptors() == before
