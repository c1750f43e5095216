"""Rule 4: lines that are iterated over come once, in order, even if others read in between."""

import io
import sys
import threading
from collections import deque
from itertools import chain, islice
from types import SimpleNamespace
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional

import pytest

from process import PIPE, Process
from process.core._flow import Flow
from process.core._inbound import Inbound
from process.threads._lines import _Batches
from process.threads._monitor import Waiter
from process.threads._source import Source
from process.threads._thread import StreamThread
from tests.support import CAT, InterruptedByTestError, lines, python

COUNT = 30_000


@pytest.fixture(params=["buffered", "unbuffered", "free-threaded"])
def process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A process that writes lines and then a piece of one."""
    if request.param == "free-threaded":
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        monkeypatch.setattr(Source, "has_fronts", False)
    data = b"".join(lines(COUNT)) + b"no end"
    size = 0 if request.param == "unbuffered" else None
    with Process(CAT, stdin=data, buffer_size=size) as child:
        yield child


def test_all_of_them(process: Any) -> None:
    """The last one is without its end; after it, nothing comes."""
    assert list(process.stdout) == [*lines(COUNT), b"no end"]
    assert list(process.stdout) == []
    assert process.stdout.read() == b""


def test_other_reads_in_between(process: Any) -> None:
    """Each goes on where the other has stopped."""
    expected = iter([*lines(COUNT), b"no end"])
    for number, line in enumerate(process.stdout):
        assert line == next(expected)
        if number % 3 == 0:
            assert process.stdout.readline() == next(expected)
        if number % 100 == 0:
            wanted = next(expected)
            assert process.stdout.read(3) == wanted[:3]
            assert process.stdout.readline() == wanted[3:]
        if number % 1000 == 0:
            wanted = next(expected)
            assert process.stdout.readline(2) == wanted[:2]
            assert next(iter(process.stdout)) == wanted[2:]
    assert next(expected, None) is None


def test_a_loop_is_left(process: Any) -> None:
    """What it has not taken is there for `output`."""
    for number, _ in enumerate(process.stdout):
        if number == 99:
            break
    assert process.output() == b"".join(lines(COUNT)[100:]) + b"no end"


def test_two_iterators(process: Any) -> None:
    """They share the lines."""
    pairs = list(zip(process.stdout, process.stdout))
    assert [line for pair in pairs for line in pair] == lines(COUNT)


def test_closed_in_a_loop(process: Any) -> None:
    """The loop ends as one over a file does."""
    stream = iter(process.stdout)
    next(stream)
    process.stdout.close()
    with pytest.raises(ValueError, match="closed file"):
        next(stream)


def test_a_loop_while_another_thread_collects(process: Any) -> None:
    """It waits for its turn, and finds nothing left."""
    first = next(iter(process.stdout))
    collected: List[bytes] = []
    thread = threading.Thread(target=lambda: collected.append(process.output()))
    thread.start()
    taken = list(process.stdout)
    thread.join()
    assert b"".join([first, *taken]) + collected[0] == b"".join(lines(COUNT)) + b"no end"


def test_a_loop_waits_for_a_collection() -> None:
    """Lines that come while `output` is under way are for `output`."""
    with Process(CAT, stdin=PIPE) as process:
        inbound: Any = process.stdout.source.reader.inbound  # type: ignore[union-attr]
        collector = threading.Thread(target=process.output, args=(False,))
        collector.start()
        while not inbound.busy:
            pass
        taken: List[bytes] = []
        looper = threading.Thread(target=lambda: taken.extend(process.stdout))
        looper.start()
        process.stdin.write(b"a\nb\n")
        process.stdin.close()
        collector.join()
        looper.join()
    assert b"".join(taken) + process.output() == b"a\nb\n"


def test_interrupted_in_readline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was taken and could not be returned is there for the next call."""
    real = Inbound.taken

    def interrupt(inbound: Inbound) -> None:
        real(inbound)
        monkeypatch.setattr(Inbound, "taken", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    with Process(python(r"put(1, b'a\nb\nc\n')")) as process:
        assert next(iter(process.stdout)) == b"a\n"
        assert process.stdout.readline(1) == b"b"  # recalls the front
        monkeypatch.setattr(Inbound, "taken", interrupt)
        with pytest.raises(KeyboardInterrupt):
            process.stdout.readline()
        assert process.stdout.readline() == b"\n"
        assert process.output() == b"c\n"


def test_recalled_twice() -> None:
    """An exception may strike after a front was recalled and before that was recorded."""
    inbound = Inbound(Flow())
    inbound.feed(b"a\nb\nc")
    front = inbound.open_front(4)
    assert next(front) == b"a\n"
    record: Any = inbound._front
    assert record.recall() == record.recall() == 2
    assert list(front) == []
    assert inbound.buffer.take(10) == b"b\nc"


def _interrupt_waits(monkeypatch: pytest.MonkeyPatch, handler: Callable[[], object]) -> None:
    """Let `handler` run once, in the next wait for bytes, be it asleep or in the pipe."""
    sleep, poll = Waiter.sleep, StreamThread.poll

    def interrupt() -> None:
        monkeypatch.setattr(Waiter, "sleep", sleep)
        monkeypatch.setattr(StreamThread, "poll", poll)
        handler()

    def interrupted_sleep(self: Waiter, timeout: Optional[float] = None) -> None:
        interrupt()
        sleep(self, timeout)

    def interrupted_poll(self: StreamThread, waiter: Waiter) -> None:
        interrupt()
        poll(self, waiter)

    monkeypatch.setattr(Waiter, "sleep", interrupted_sleep)
    monkeypatch.setattr(StreamThread, "poll", interrupted_poll)


@pytest.fixture(params=["in batches", "one by one"])
def _ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    gil = request.param == "in batches"
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    if not gil:
        monkeypatch.setattr(Source, "has_fronts", False)


@pytest.mark.usefixtures("_ways")
def test_a_loop_that_is_interrupted_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from a signal handler is no end of the stream."""

    def interrupt() -> None:
        child.stdin.write(b"a\nb\n")
        child.stdin.close()
        raise KeyboardInterrupt

    with Process(CAT, stdin=PIPE) as child:
        iterator = iter(child.stdout)
        _interrupt_waits(monkeypatch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(iterator)
        assert list(iterator) == [b"a\n", b"b\n"]
        assert list(iterator) == []


@pytest.mark.usefixtures("_ways")
@pytest.mark.parametrize("count", [1, 2, 9], ids=["one", "two", "all"])
def test_a_handler_takes_lines_from_the_loop_it_has_interrupted(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Each line comes once, though one and the same iterator is entered twice."""
    taken: List[bytes] = []

    def handle() -> None:
        child.stdin.write(b"a\nb\nc\n")
        child.stdin.close()
        taken.extend(islice(iterator, count))

    with Process(CAT, stdin=PIPE) as child:
        iterator = iter(child.stdout)
        _interrupt_waits(monkeypatch, handle)
        taken.extend(iterator)
        taken.extend(iterator)
    assert taken == [b"a\n", b"b\n", b"c\n"]


@pytest.mark.usefixtures("_ways")
def test_several_threads_share_one_iterator() -> None:
    """Each line comes to one of them."""
    taken: List[bytes] = []
    with Process(CAT, stdin=b"".join(lines(COUNT))) as child:
        iterator = iter(child.stdout)
        threads = [threading.Thread(target=lambda: taken.extend(iterator)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == sorted(lines(COUNT))


def test_a_loop_that_ends_in_the_middle_of_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that has waited for a batch finds that its caller is gone."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    queue: Any = deque()
    source: Any = SimpleNamespace(batch=lambda: io.BytesIO(b"a\n"), unread_batch=bool)
    batches = _Batches(source, queue)
    waits = batches.waits()
    assert list(waits) == []
    assert list(queue.popleft()) == [b"a\n"]
    del queue
    assert list(waits) == []


class Interrupting(Deque[Any]):
    """A queue to which something is added just before an exception strikes."""

    def extendleft(self, iterable: Iterable[Any]) -> None:
        super().extendleft(iterable)
        raise InterruptedByTestError


def test_interrupted_just_after_a_line_was_queued() -> None:
    """Of a stream whose descriptor was asked for: the line belongs to the next call of any kind."""
    with Process(python(r"put(1, b'a\nb\nc\n')")) as process:
        process.stdout.fileno()
        source: Any = process.stdout.source  # type: ignore[union-attr]
        queue = Interrupting()
        with pytest.raises(InterruptedByTestError):
            next(_Batches(source, queue).waits())
        assert process.stdout.readline() == b"a\n"
        assert process.output() == b"b\nc\n"
        assert list(queue[0]) == []


@pytest.mark.skipif(not Source.has_fronts, reason="lines are not taken in batches here")
def test_interrupted_just_after_a_batch_was_queued() -> None:
    """The batch is the front of the stream, which any call recalls: it need not be put back."""
    with Process(python(r"put(1, b'a\nb\nc\n')")) as process:
        process.join()
        source: Any = process.stdout.source  # type: ignore[union-attr]
        queue = Interrupting()
        with pytest.raises(InterruptedByTestError):
            next(_Batches(source, queue).waits())
        assert not source.returned
        assert next(queue[0]) == b"a\n"
        assert process.stdout.readline() == b"b\n"
        assert process.output() == b"c\n"


def test_a_second_call_brings_a_line_before_the_first_comes_to_its_own() -> None:
    """Of a stream whose descriptor was asked for: both lines are handed out."""
    queue: Any = deque()
    more = [b"b\n", b"a\n"]

    def take() -> io.BytesIO:
        if len(more) == 2:
            more.pop()
            assert list(waits) == []  # the second call, which is through first
            return io.BytesIO(b"a\n")
        return io.BytesIO(more.pop() if more else b"")

    source: Any = SimpleNamespace(batch=take, unread_batch=bool)
    batches = _Batches(source, queue)
    waits = batches.waits()
    assert list(waits) == []
    assert sorted(chain.from_iterable(iter(queue.popleft, None))) == [b"a\n", b"b\n"]
