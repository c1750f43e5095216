"""Rule 10: what another thread does to a process in the middle of a call."""

import _thread
import io
import os
import signal
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import pytest

from process import PIPE, Process, ProcessError
from process._descriptor import Descriptor
from process.core._flow import Flow
from process.threads._child import Child
from process.threads._files import _RawStdin
from process.threads._lines import _Batches
from process.threads._source import Source
from tests.support import CAT, collect, is_alive, pattern, until

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGPIPE"), reason="a pipe without a reader raises no signal"
)


def _pass_on(process: Any) -> Descriptor:
    """Give the stream to a receiver."""
    offer = process.stdout.source.offer()
    offer.accept(Flow())
    return offer.descriptor  # type: ignore[no-any-return]


def _close(process: Any) -> Descriptor:
    """Close the stream, which a receiver has, too."""
    receiver = Descriptor.own(os.dup, process.stdout.fileno())
    process.stdout.close()
    return receiver


def _reclaim(process: Any) -> Descriptor:
    """The same when it is the block that is left."""
    receiver = Descriptor.own(os.dup, process.stdout.fileno())
    assert not process.stdout.source.reclaim()
    return receiver


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("leave", [_pass_on, _close, _reclaim])
def test_left_to_a_receiver_while_a_caller_collects(
    leave: Callable[[Any], Descriptor], join: bool
) -> None:
    """The receiver gets what the caller has collected, and what is written from then on."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert source.peek(4) == b"one\n"
        offer = source.offer()  # of the second pipe; the receiver cannot be started
        offer.withdraw()
        offer.descriptor.close()
        results: List[bytes] = []
        caller = threading.Thread(target=lambda: results.append(process.output(join)))
        caller.start()
        until(lambda: source.inbound.busy and source.inbound.held == 4)
        receiver = leave(process)
        if not join:
            caller.join()
            assert results == [b""]
        process.stdin.write(b"two\n")
        process.stdin.flush()
        data = b""
        while len(data) < 8:
            data += os.read(receiver.fileno(), 8)
        assert data == b"one\ntwo\n"
        process.stdin.close()
        assert os.read(receiver.fileno(), 8) == b""
        caller.join()
        assert results == [b""]


def test_passed_on_before_what_is_left_is_kept() -> None:
    """The rest of a stream that another thread has given away is not for `output()`."""
    data = pattern(200_000)  # more than the second pipe holds
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        process.stdin.write(data)
        process.stdin.close()
        until(lambda: source.inbound.held == len(data))
        receiver = _pass_on(process)
        source.keep_rest()  # as `finish` does
        received = b"".join(iter(lambda: os.read(receiver.fileno(), 65536), b""))
        assert received == data
    assert process.output() == b""


class _Strikes(Dict[Any, Any]):
    """A table of what waits for a drop. Something strikes when it is first looked into."""

    strike: Callable[[], object] = bool

    def get(self, key: Any, default: Any = None) -> Any:
        value = super().get(key, default)
        strike, self.strike = self.strike, bool
        strike()
        return value


def test_two_threads_leave_the_end_of_the_child_to_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is one thread that waits for the drop, and none is left that waits for nothing."""
    threads: List[object] = []
    start = _thread.start_new_thread

    def start_noted(function: Callable[[], None], arguments: Any) -> int:
        def run() -> None:
            threads.append(function)
            function()
            threads.remove(function)

        return start(run, arguments)

    waiting = _Strikes()
    monkeypatch.setattr(Child, "waiting", waiting)
    process = Process(["sleep", "1000"], stdout=None, stderr=None).run()
    child: Any = process._child
    drops: List[Any] = []
    waiting.strike = lambda: drops.append(child.drop_elsewhere())
    monkeypatch.setattr(_thread, "start_new_thread", start_noted)
    drops.append(child.drop_elsewhere())
    monkeypatch.setattr(_thread, "start_new_thread", start)
    assert drops[0] is drops[1]
    until(lambda: len(threads) == 1)
    drops[0]()
    until(lambda: not threads and not waiting)
    assert process.exit_code == -signal.SIGTERM


def test_interrupted_where_the_end_of_the_child_is_left_to_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left to a thread that there is."""

    class Interrupting(Dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            interrupt()

        def setdefault(self, key: Any, default: Any = None) -> Any:
            try:
                return super().setdefault(key, default)
            finally:
                interrupt()

    def interrupt() -> None:
        if interrupts:
            raise interrupts.pop()

    interrupts = [ZeroDivisionError()]
    monkeypatch.setattr(Child, "waiting", Interrupting())
    process = Process(["sleep", "1000"], stdout=None, stderr=None)
    with pytest.raises(ZeroDivisionError), process:
        raise KeyError
    pid = process.id
    del process
    collect()
    until(lambda: not is_alive(pid))


def test_offered_by_one_thread_while_another_one_rolls_back() -> None:
    """That is done twice. The receiver's pipe blocks for all that, as it has to."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        failed = source.offer()
        failed.prepare()
        failed.withdraw()
        offer = source.offer()
        offer.prepare()
        failed.withdraw()
        assert os.get_blocking(offer.descriptor.fileno())
        offer.accept(Flow())
        failed.withdraw()
        assert os.get_blocking(offer.descriptor.fileno())


@pytest.mark.parametrize("leave", [_pass_on, _close, _reclaim])
def test_left_to_a_receiver_before_a_caller_puts_back_what_it_has_not_taken(
    monkeypatch: pytest.MonkeyPatch, leave: Callable[[Any], Descriptor]
) -> None:
    """The child has ended, and so has the thread, which would have done it."""
    with Process(["echo", "one two"], stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        assert process.stdout.read(1) == b"o"
        offer = source.offer()
        offer.withdraw()
        offer.descriptor.close()
        process.join()
        until(lambda: source.reader.done)
        receivers: List[Descriptor] = []
        put_back = Source._leave

        def put_back_late(self: Source, waiter: Any) -> None:
            monkeypatch.setattr(Source, "_leave", put_back)
            receivers.append(leave(process))
            put_back(self, waiter)

        monkeypatch.setattr(Source, "_leave", put_back_late)
        assert process.stdout.read(3) == b"ne "
        number = receivers[0].fileno()
        assert b"".join(iter(lambda: os.read(number, 100), b"")) == b"two\n"


@pytest.mark.parametrize("buffer_size", [-1, 0])
def test_stdin_is_closed_by_two_threads(monkeypatch: pytest.MonkeyPatch, buffer_size: int) -> None:
    """At the same time: that is as harmless as one after the other."""
    flush: Any = _RawStdin.flush

    def close_and_flush(self: Any) -> None:
        monkeypatch.setattr(_RawStdin, "flush", flush)
        process.stdin.close()
        flush(self)

    with Process(CAT, stdin=PIPE, stderr=None, buffer_size=buffer_size) as process:
        monkeypatch.setattr(_RawStdin, "flush", close_and_flush)
        process.stdin.close()
        assert process.stdin.closed
        assert process.output() == b""


def test_the_block_is_left_while_another_thread_starts_a_receiver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That fails, so what is left is not the receiver's, as it seems to be meanwhile."""
    ready, left = threading.Event(), threading.Event()

    class LateError(OSError):
        """Raised once the block is being left."""

    def fail_late(*_: Any, **__: Any) -> None:
        ready.set()
        until(lambda: source.monitor._waiters)
        raise LateError

    def start() -> None:
        with pytest.raises(ProcessError):
            Process(CAT, stdin=process.stdout).run()
        left.set()

    with Process(["echo", "one two"], stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        assert process.stdout.read(4) == b"one "
        monkeypatch.setattr("process.threads._child._popen_init", fail_late)
        other = threading.Thread(target=start)
        other.start()
        ready.wait()
    other.join()
    assert left.is_set()
    assert process.output() == b"two\n"


@pytest.mark.skipif(not Source.has_fronts, reason="lines come one at a time here")
def test_lines_are_taken_by_others_before_the_caller_that_has_waited_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another one waits for the next ones already, and this one goes on to wait for them, too."""
    wait: Any = _Batches._wait
    taken: List[bytes] = []
    waits = threading.Event()

    def iterate() -> None:
        for line in process.stdout:
            taken.append(line)
            if line != b"first\n":
                break

    def wait_and_let_another_one_in(self: Any, argument: None) -> None:
        if threading.current_thread() is other:
            if taken:
                waits.set()
            wait(self, argument)
        try:
            wait(self, argument)
        finally:
            if not other.ident:
                other.start()
                waits.wait()
                process.stdin.write(b"second\nthird\n")
                process.stdin.flush()

    other = threading.Thread(target=iterate)
    monkeypatch.setattr(_Batches, "_wait", wait_and_let_another_one_in)
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        process.stdin.write(b"first\n")
        process.stdin.flush()
        iterate()
        other.join()
        assert sorted(taken) == [b"first\n", b"second\n", b"third\n"]


def test_lines_have_come_to_an_end_for_another_caller() -> None:
    """What this one has got in the meantime goes back, for the next caller that reads."""
    queue: Any = deque()
    unread: List[bytes] = []

    class Ending(SimpleNamespace):
        """A stream whose lines come to an end while one is taken."""

        def batch(self) -> io.BytesIO:
            nonlocal queue
            queue = None
            collect()
            return io.BytesIO(b"line\n")

        def unread_batch(self, batch: io.BytesIO) -> None:
            unread.append(batch.read())

    source: Any = Ending()
    waits = _Batches(source, queue).waits()
    assert list(waits) == []
    assert unread == [b"line\n"]
