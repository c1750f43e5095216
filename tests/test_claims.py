"""Rule 1: a caller that has the claim, and is kept from reading, blocks no other caller."""

import contextlib
import os
import signal
import threading
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError
from process._descriptor import Descriptor
from process._platform import PipeEnd
from process.core._flow import Flow
from process.threads._monitor import Waiter
from process.threads._thread import State, StreamThread
from tests.support import CAT, FOREVER, LARGE, collect, pattern, python, until

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to be sent")

#: Answers a line, and floods stdout once it has got another one.
_SCRIPT = (
    f"sys.stdin.readline(); put(1, b'line\\n'); sys.stdin.readline(); put(1, pattern({LARGE}))"
)


def _go_on(process: Process) -> None:
    process.stdin.write(b"two\n")
    process.stdin.flush()
    process.join()


def _go_on_in_another_thread(process: Process) -> None:
    thread = threading.Thread(target=_go_on, args=(process,))
    thread.start()
    thread.join()


@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize("go_on", [_go_on, _go_on_in_another_thread])
def test_a_handler_waits_on_top_of_a_caller_that_has_the_claim(
    monkeypatch: pytest.MonkeyPatch, go_on: Callable[[Process], None]
) -> None:
    """The thread takes the claim from a caller that cannot use it, and the child ends."""
    # Until another caller waits, the thread leaves the pipe to this one.
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(python(_SCRIPT), stdin=PIPE, stderr=None) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        main = threading.get_ident()

        def interrupt() -> None:
            until(lambda: reader.claimed)
            with reader.monitor.lock:
                pass  # the caller has left the section in which it took the claim
            signal.pthread_kill(main, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, lambda *_: go_on(process))
        try:
            process.stdin.write(b"one\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"line\n"
            other = threading.Thread(target=interrupt)
            other.start()
            assert process.stdout.read(LARGE // 64) == pattern(LARGE)[: LARGE // 64]
            other.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert process.output() == pattern(LARGE)[LARGE // 64 :]


def _hold_polls(monkeypatch: pytest.MonkeyPatch) -> Tuple[threading.Event, threading.Event]:
    """Keep callers that have the claim from polling the pipe.

    Returns:
        What is set when one is about to; what lets it go on when it is set.
    """
    ready, go_on = threading.Event(), threading.Event()
    poll = StreamThread.poll

    def late_poll(self: StreamThread, waiter: Waiter) -> None:
        ready.set()
        go_on.wait()
        poll(self, waiter)

    monkeypatch.setattr(StreamThread, "poll", late_poll)
    return ready, go_on


def _read_line(process: Any) -> None:
    with contextlib.suppress(ValueError):  # the stream is closed
        process.stdout.readline()


def test_the_claim_is_lost_before_the_caller_waits_for_the_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not wait for what wakes the thread, which would then not notice that it is to end."""
    polled: List[threading.Thread] = []
    wait = PipeEnd.wait

    def recorded_wait(self: PipeEnd, *arguments: Any, **options: Any) -> bool:
        polled.append(threading.current_thread())
        return wait(self, *arguments, **options)

    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        process.stdin.write(b"line\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"line\n"
        process.stdin.write(b"x")
        process.stdin.flush()
        until(lambda: _stands_by(process.stdout))
        ready, lost = _hold_polls(monkeypatch)
        monkeypatch.setattr(PipeEnd, "wait", recorded_wait)
        callers = [threading.Thread(target=_read_line, args=(process,)) for _ in range(2)]
        callers[0].start()
        ready.wait()
        callers[1].start()
        until(lambda: reader.moving)
        lost.set()
        process.stdout.close()
        for caller in callers:
            caller.join()
        assert not reader.alive
        assert callers[0] not in polled


def test_closed_before_the_caller_that_has_the_claim_waits_for_the_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It closes the pipe, which it does not know any more, when it finds out."""
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        process.stdin.write(b"line\nx")
        process.stdin.flush()
        assert process.stdout.readline() == b"line\n"
        until(lambda: _stands_by(process.stdout))
        ready, closed = _hold_polls(monkeypatch)
        caller = threading.Thread(target=_read_line, args=(process,))
        caller.start()
        ready.wait()
        own = reader.end.descriptor
        process.stdout.close()
        closed.set()
        caller.join()
        assert own.fileno() < 0


@pytest.mark.parametrize("says_so", [True, False])
def test_closed_before_the_caller_that_has_the_claim_is_interrupted(says_so: bool) -> None:
    """And never waits for the pipe, whether it gets to say that it is away or not."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        process.stdin.write(b"line\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"line\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("process.threads._thread.STAND_BY", FOREVER)
            until(lambda: not source.reader.moving)
            waiter = Waiter()
            with source.monitor.lock:
                assert source.reader.claim(waiter)
        own = source.reader.end.descriptor
        process.stdout.close()
        assert own.fileno() >= 0
        if says_so:
            source._leave(waiter)
        else:
            del waiter
            collect()
        assert own.fileno() < 0


def test_offered_while_another_caller_has_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """It yields to the caller that offers the pipe, and is served by the thread from then on."""
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        source.offer().withdraw()  # and now the thread stands by
        data: List[bytes] = []
        caller = threading.Thread(target=lambda: data.append(process.stdout.read(1)))
        caller.start()
        until(lambda: source.reader.claimed)
        source.offer().withdraw()
        process.stdin.write(b"x")
        process.stdin.close()
        caller.join()
        assert data == [b"x"]


def test_two_callers_want_the_claim_and_one_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one, whose wish has been replaced by that of the former, wishes again."""
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        reader = source.reader
        until(lambda: reader.moving)
        first, second = Waiter(), Waiter()
        with reader.monitor.lock:  # so the thread cannot see the wishes meanwhile
            for waiter in (first, second):
                waiter.condition = lambda: not reader.moving
                reader.request(waiter)
                reader.monitor.enter(waiter)
            source._leave(second)
        first.sleep(FOREVER)
        source._leave(first)


def _stands_by(stream: Any) -> bool:
    """Use the stream. Return whether its thread leaves the pipe to callers now."""
    reader = stream.source.reader
    stream.peek()
    if reader.moving:
        reader.end.wake()
    return bool(reader._state is State.STANDING_BY)


@contextlib.contextmanager
def _a_caller_polls(process: Any, exposed: bool = False) -> Iterator[List[Any]]:
    """Another thread has the claim, and waits for a line in the pipe; what has become of it."""
    stream, results = process.stdout, []
    polls, wait = threading.Event(), PipeEnd.wait

    def noted_wait(self: PipeEnd, *arguments: Any, **options: Any) -> bool:
        if threading.current_thread() is caller:
            polls.set()
        return wait(self, *arguments, **options)

    def read() -> None:
        try:
            results.append(stream.readline())
        except ValueError as error:
            results.append(error)

    caller = threading.Thread(target=read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("process.threads._thread.STAND_BY", FOREVER)
        patch.setattr(PipeEnd, "wait", noted_wait)
        if exposed:
            stream.fileno()
        process.stdin.write(b"one\nt")
        process.stdin.flush()
        assert stream.readline() == b"one\n"
        until(lambda: _stands_by(stream))
        del process
        caller.start()
        polls.wait()
    yield results
    caller.join()


def test_told_to_end_while_it_takes_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a finalizer: the wake-up goes to the event that it has just left to the caller."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        event: Any = type(reader.end.event)
        take = event.take

        def take_late() -> Any:
            reader.stop()
            return take()

        with _a_caller_polls(process) as results:
            monkeypatch.setattr(event, "take", take_late)
            other = threading.Thread(target=process.join)
            other.start()
            until(lambda: reader.done)
        process.stdin.close()
        other.join()
    assert results == [b""]


def _send_the_rest(process: Any, receiver: Descriptor) -> None:
    process.stdin.write(b"wo\n")
    process.stdin.close()
    number = receiver.fileno()
    assert b"".join(iter(lambda: os.read(number, 10), b"")) == b"two\n"


def test_closed_while_a_caller_polls_the_pipe_of_a_receiver() -> None:
    """It is told at once, and the rest is the receiver's."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        with _a_caller_polls(process, exposed=True) as results:
            receiver = Descriptor.own(os.dup, process.stdout.fileno())
            process.stdout.close()
        assert isinstance(results[0], ValueError)
        _send_the_rest(process, receiver)


def test_reclaimed_while_a_caller_polls_the_pipe_of_a_receiver() -> None:
    """The same when it is the block that is left: a caller that reads is told."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        with _a_caller_polls(process, exposed=True) as results:
            receiver = Descriptor.own(os.dup, process.stdout.fileno())
            assert not source.reclaim()
        assert isinstance(results[0], ValueError)
        _send_the_rest(process, receiver)


def test_passed_on_while_a_caller_polls_the_pipe() -> None:
    """For the caller the stream is at its end, at once."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        with _a_caller_polls(process) as results:
            offer, flow = source.offer(), Flow()
            until(lambda: source.reader.relay.suspended and source.reader.claimed)
            offer.accept(flow)
        assert results == [b""]
        _send_the_rest(process, offer.descriptor)


def test_given_back_while_a_caller_polls_the_pipe() -> None:
    """What another caller has taken, and could not use, is what this one waits for."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        with _a_caller_polls(process) as results:
            source.returned.append((b"two\n",))
            source.restore()
        assert results == [b"two\n"]


def test_offered_after_a_wait_for_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """That wait is over, and counts for no stream while the receiver is started."""
    offers: List[Any] = []
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        # It looks by itself whether the pipe is free, since it is woken for another reason.
        monkeypatch.setattr(source.monitor, "notify", lambda: False)
        caller = threading.Thread(target=lambda: offers.append(source.offer()))
        caller.start()
        until(lambda: source.reader.requested and source.monitor.flow.busy)
        until(lambda: not source.reader.moving)
        source.monitor.wake_all()
        caller.join()
        monkeypatch.undo()
        assert not source.monitor.flow.busy
        offers[0].withdraw()
        offers[0].descriptor.close()


def test_closed_while_it_is_offered() -> None:
    """At once, since nobody polls it: its owner decides how long the child may write."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        offer, own = source.offer(), source.reader.end.descriptor
        process.stdout.close()
        assert own.fileno() < 0
        offer.withdraw()
        offer.descriptor.close()


def test_a_handler_waits_on_top_of_a_caller_that_has_offered_the_pipe() -> None:
    """That caller has got what it wanted, and wants it no longer: the thread can have it."""
    script = f"get(1); put(1, pattern({LARGE}))"
    with Process(python(script), stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        offer = source.offer()
        offer.prepare()
        process.stdin.write(b"x")
        process.stdin.flush()
        process.join()
        offer.withdraw()
    assert process.output() == pattern(LARGE)


def test_a_handler_waits_on_top_of_a_caller_that_wants_the_pipe() -> None:
    """The thread has made way for that caller, and goes on as long as it cannot come."""
    script = f"get(1); put(1, pattern({LARGE}))"
    with Process(python(script), stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        waiter = Waiter()
        with source.monitor.lock:
            source.reader.request(waiter)
            source.monitor.enter(waiter)
        until(lambda: not source.reader.moving)
        process.stdin.write(b"x")
        process.stdin.flush()
        process.join()
        source._leave(waiter)
    assert process.output() == pattern(LARGE)


def test_a_handler_offers_the_pipe_on_top_of_a_caller_that_has_offered_it() -> None:
    """What becomes of the first offer is not decided before the handler returns."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        offer = source.offer()
        with pytest.raises(ProcessError, match="is being handed over"):
            Process(CAT, stdin=process.stdout).run()
        offer.withdraw()
        offer.descriptor.close()
        with Process(CAT, stdin=process.stdout, stderr=None) as receiver:
            process.stdin.write(b"line\n")
            process.stdin.close()
            assert receiver.output() == b"line\n"


def test_a_handler_hands_over_what_was_read_on_top_of_a_caller_that_offers_the_pipe() -> None:
    """It is that receiver's, and stays so when the other receiver has got the rest."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        offer = source.offer()
        offer.prepare()
        process.stdin.write(b"line\n")
        process.stdin.flush()
        with pytest.raises(ProcessTimeoutError):
            process.join(0.01)
        until(lambda: source.inbound.end > 0)
        with Process(CAT, stdin=process.stdout, stderr=None) as receiver:
            offer.accept(Flow())
            offer.descriptor.close()
            assert receiver.output() == b"line\n"
        with pytest.raises(ValueError, match="handed over"):
            process.stdout.fileno()


def test_a_handler_wants_the_pipe_on_top_of_a_caller_that_waits() -> None:
    """The call that it has interrupted is no reason to refuse it, nor to take it back."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        waiter = Waiter()
        with source.monitor.lock:
            source.monitor.enter(waiter)
        offer = source.offer()
        assert not source.monitor.is_interrupted(source.reader._owner())
        offer.withdraw()
        offer.descriptor.close()
        source._leave(waiter)


def test_a_handler_waits_for_a_connected_process_on_top_of_a_caller_that_offers_the_pipe() -> None:
    """It depends on that pipe, too: processes that are connected count as one."""
    with Process(python(f"put(1, pattern({LARGE}))"), stderr=None) as first:
        with Process(CAT, stdin=first.stdout, stderr=None) as process:
            source: Any = process.stdout.source  # type: ignore[union-attr]
            until(lambda: source.reader.moving)
            offer = source.offer()
            offer.prepare()
            first.join()
            offer.withdraw()
            offer.descriptor.close()
        assert process.output() == pattern(LARGE)


def test_a_handler_has_waited_on_top_of_a_caller_that_offers_the_pipe() -> None:
    """In vain: nothing was there to be read, so the receiver gets it all, and the thread ends."""
    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        offer, flow = source.offer(), Flow()
        offer.prepare()
        with pytest.raises(ProcessTimeoutError):
            process.join(0.01)
        until(lambda: source.reader.moving)
        offer.accept(flow)
        assert source.reader.done
        process.stdin.write(b"line\n")
        process.stdin.flush()
        assert os.read(offer.descriptor.fileno(), 10) == b"line\n"


def test_accepted_while_the_thread_reads_for_a_handler_that_has_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it has read by then, and not recorded, is still there."""
    accepting, reading = threading.Event(), threading.Event()
    read, look = PipeEnd.read, StreamThread.look

    def late_read(self: PipeEnd, size: int) -> Any:
        data = read(self, size)
        if data:
            reading.set()
            accepting.wait()
        return data

    def look_and_go_on(self: StreamThread) -> None:
        look(self)
        accepting.set()

    with Process(CAT, stdin=PIPE, stderr=None) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        until(lambda: source.reader.moving)
        offer = source.offer()
        offer.prepare()
        monkeypatch.setattr(PipeEnd, "read", late_read)
        process.stdin.write(b"line\n")
        process.stdin.flush()
        with pytest.raises(ProcessTimeoutError):
            process.join(0.01)
        reading.wait()
        monkeypatch.setattr(StreamThread, "look", look_and_go_on)
        offer.accept(Flow())
        monkeypatch.undo()
        offer.descriptor.close()
        assert process.stdout.read() == b"line\n"
