"""Rules 4 and 10: a signal handler calls for the very process whose caller it has interrupted."""

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError
from process.core._inbound import Inbound
from process.threads._child import Child
from process.threads._monitor import Monitor, Waiter
from process.threads._source import Source
from process.threads._writer import WriterThread
from tests.support import LARGE, MIB, alarms, needs_waitid, pattern, python, until

if TYPE_CHECKING:
    from typing_extensions import Self

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signals to be sent")

#: Floods, interrupts its parent, and goes on when told to.
_CHILD = f"""
import signal
put(1, pattern({LARGE}))
os.kill(os.getppid(), signal.SIGUSR1)
get(3)
put(1, b"end\\n")
"""
_ALL = pattern(LARGE) + b"end\n"


class Handler:
    """Makes one call when SIGUSR1 comes, and again if it has come in the wrong moment."""

    def __init__(self, process: Any, call: Callable[[Any], Any]) -> None:
        self.results: List[Any] = []
        self._process, self._call = process, call
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> "Self":
        for number in (signal.SIGUSR1, signal.SIGALRM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        try:
            self.results.append(self._call(self._process))
        except ProcessTimeoutError:
            self.results.append("timeout")
        except ProcessError:  # the interrupted call holds the lock
            signal.setitimer(signal.ITIMER_REAL, 0.001)


def _go_on(process: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # at the second attempt, it may have ended
        process.stdin.write(b"on\n")
        process.stdin.flush()


def _output(process: Any) -> bytes:
    _go_on(process)
    result: bytes = process.output()
    return result


def _read(process: Any) -> bytes:
    _go_on(process)
    result: bytes = process.stdout.read(10)
    return result


def _join(process: Any) -> None:
    _go_on(process)
    process.join()


def _join_in_vain(process: Any) -> None:
    try:
        process.join(timeout=0.01)
    finally:
        _go_on(process)


def _read_much(process: Any) -> bytes:
    """More than a stream may hold while nobody waits."""
    result: bytes = process.stdout.read(MIB)
    return result


_HANDLED = [_output, _read, _join, _join_in_vain]
_INTERRUPTED: List[Any] = [
    pytest.param(lambda process: process.stdout.read(), id="read"),
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.error() and b"", id="error"),
    pytest.param(lambda process: process.join() or b"", id="join"),
]


@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize("handled", _HANDLED)
@pytest.mark.parametrize("interrupted", _INTERRUPTED)
def test_called_in_the_middle_of_a_call(
    interrupted: Callable[[Any], bytes], handled: Callable[[Any], Any]
) -> None:
    """Both return, and each byte has come to one of them, or is kept for `output`."""
    with Process(python(_CHILD), stdin=PIPE) as process, Handler(process, handled) as handler:
        taken = interrupted(process)
    assert len(handler.results) == 1
    pieces = handler.results[0] if handled is _read else b""
    if taken != process.output():
        pieces += taken
    assert pieces + process.output() == _ALL


@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize("interrupted", _INTERRUPTED)
def test_closed_in_the_middle_of_a_call(interrupted: Callable[[Any], bytes]) -> None:
    """The handler ends the child; the call that it has interrupted returns."""
    process = Process(python(_CHILD), stdin=PIPE).run()
    with Handler(process, lambda process: process.close()) as handler:
        try:
            taken = interrupted(process)
        except ValueError:  # the stream has been closed
            taken = b""
        while not handler.results:  # it has come in the wrong moment, and comes again
            time.sleep(0.001)  # no `pause`: it may come just before that
    assert process.exit_code == -signal.SIGTERM
    assert pattern(LARGE) in {taken, process.output()}


def _read_exposed(process: Any) -> None:
    process.stdout.fileno()
    process.stdout.read()


def _write_on(process: Any) -> None:
    while True:
        process.stdin.write(bytes(MIB))


@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda process: process.join(), id="join"),
        pytest.param(lambda process: process.output(), id="output"),
        pytest.param(lambda process: process.error(join=False), id="error"),
        pytest.param(lambda process: process.stdout.read(), id="read"),
        pytest.param(lambda process: process.stdout.read(1), id="read-1"),
        pytest.param(lambda process: process.stdout.readline(), id="readline"),
        pytest.param(_read_exposed, id="exposed"),
        pytest.param(_write_on, id="write"),
    ],
)
def test_a_signal_that_another_thread_has_got(call: Callable[[Any], Any]) -> None:
    """Nothing wakes the caller; the handler runs all the same, and ends the wait."""
    with Process(["sleep", "1000"], stdin=PIPE) as process:
        flow: Any = process._started.monitor.flow

        def send() -> None:
            until(lambda: flow._waits)
            time.sleep(0.02)  # time to begin the wait; if it has not, the handler runs anyway
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        sender = threading.Thread(target=send)
        sender.start()
        with Handler(process, lambda process: process.kill()) as handler:
            with contextlib.suppress(BrokenPipeError):
                call(process)
            sender.join()
    assert handler.results == [None]
    assert process.exit_code == -signal.SIGKILL


@pytest.mark.usefixtures("looks_again")
def test_looking_again_and_again_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that waits for weeks, and to which nothing happens, is registered once."""
    looked: List[int] = []
    real = Waiter.sleep

    def sleep(self: Waiter, timeout: Optional[float] = None) -> None:
        looked.append(len(monitor._waiters))
        if len(looked) == 20:
            process.kill()
        real(self, timeout)

    with Process(["cat"], stdin=PIPE) as process:
        monitor: Any = process._started.monitor
        monkeypatch.setattr(Waiter, "sleep", sleep)
        assert process.stdout.read() == b""
        monkeypatch.setattr(Waiter, "sleep", real)
    assert len(looked) >= 20
    assert max(looked) <= 1


def test_called_while_the_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets an error at once, rather than a deadlock, and the interrupted call is unharmed."""
    real = Inbound.feed
    errors: List[ProcessError] = []
    calls: List[Callable[[], Any]] = []

    def feed(self: Inbound, data: bytes) -> None:
        real(self, data)
        if calls and threading.current_thread() is threading.main_thread():
            call = calls.pop()
            with pytest.raises(ProcessError, match="signal handler has interrupted") as caught:
                call()
            errors.append(caught.value)
            assert process.running

    monkeypatch.setattr(Inbound, "feed", feed)
    with Process(["cat"], stdin=PIPE) as process:
        stdin, stdout = process.stdin, process.stdout
        calls += [
            process.output,
            process.join,
            process.close,
            stdout.read,
            stdout.readline,
            lambda: list(stdout),
            stdout.fileno,
            stdout.close,
            stdin.flush,  # a write of a few bytes may not need the lock
        ]
        wanted = len(calls)
        number = 0
        while calls:  # the reader thread may come first, now and then
            number += 1
            stdin.write(pattern(1000, number))
            stdin.flush()
            assert stdout.read(1000) == pattern(1000, number)
    assert len(errors) == wanted


def test_a_write_while_the_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are sent, or refused with an error: not both."""
    real = Inbound.feed
    writes = [b"few", bytes(100_000), *[pattern(5000)] * 4]
    sent = bytearray()

    def feed(self: Inbound, data: bytes) -> None:
        real(self, data)
        if writes and threading.current_thread() is threading.main_thread():
            write = writes.pop()
            try:
                process.stdin.write(write)
            except ProcessError:
                return
            sent.extend(write)

    monkeypatch.setattr(Inbound, "feed", feed)
    with Process(["cat"], stdin=PIPE) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        found = b""
        while writes:  # the reader thread may come first, now and then
            sent.extend(b"line\n")
            process.stdin.write(b"line\n")
            process.stdin.flush()
            expected = len(sent) - len(found)
            until(lambda: reader.end.pending() or reader.inbound.held)
            # Nearly fills what small writes have, which the handler's writes then overflow.
            sent.extend(bytes(8000))
            process.stdin.write(bytes(8000))
            found += process.stdout.read(expected)
        process.stdin.close()
        found += process.output()
    assert found == sent


def test_small_writes_have_filled_up_while_the_lock_is_held() -> None:
    """Their bytes cannot be refused any more, nor sent at once: a later call sends them."""
    with Process(["cat"], stdin=PIPE) as process:
        sink: Any = process.stdin.sink  # type: ignore[union-attr]
        process.stdin.write(b"few")
        with sink.writer.monitor.lock:
            sink.push()
            assert len(sink.outbound)
        process.stdin.close()
        assert process.output() == b"few"


def test_an_exception_has_left_the_lock_locked() -> None:
    """It has struck where the lock was just taken: the call releases it (gh-148874)."""
    monitor = Monitor()

    def interrupted() -> None:
        with monitor:
            monitor.lock.acquire()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not monitor.lock._is_owned()


@pytest.mark.parametrize("buffer_size", [None, 0])
def test_a_lock_that_was_left_locked_is_not_taken_for_an_interrupted_call(buffer_size: Any) -> None:
    """No call is under way further down the stack: the next one goes on."""
    with Process(["cat"], stdin=PIPE, buffer_size=buffer_size) as process:
        monitor: Any = process.stdout.source.monitor  # type: ignore[union-attr]
        for call in (lambda: process.stdin.write(bytes(MIB)), process.stdin.close, process.output):
            monitor.lock.acquire()
            call()
            assert not monitor.lock._is_owned()
        assert process.output() == bytes(MIB)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (WriterThread, "write_directly", lambda process: process.stdin.flush()),
        (WriterThread, "write_directly", lambda process: process.stdin.raw.write(bytes(5000))),
        (Source, "_decide", lambda process: process.stdout.read(1)),
        (Monitor, "poll_all", lambda process: process.running),
    ],
    ids=["flush", "write", "read", "poll"],
)
def test_an_exception_has_left_the_lock_locked_in_a_call(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: Callable[[Any], Any]
) -> None:
    """The calls that are made often see to it by themselves."""
    this = threading.get_ident()

    def interrupt(*_: Any) -> None:
        assert threading.get_ident() == this
        monitor.lock.acquire()
        raise KeyboardInterrupt

    with Process(["cat"], stdin=PIPE) as process:
        monitor: Any = process.stdout.source.monitor  # type: ignore[union-attr]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                call(process)
        assert not monitor.lock._is_owned()


def test_a_storm_of_handlers_that_call() -> None:
    """Handlers strike everywhere; each either gets through or gets an error."""
    results: List[Any] = []
    depth = 0

    def handle(*_: object) -> None:
        nonlocal depth
        if len(results) >= 2000:  # on a busy machine they leave no time for anything else
            signal.setitimer(signal.ITIMER_REAL, 0)
        if depth >= 10:  # each interrupts the one before, while a thread that has the lock rests
            return
        depth += 1
        try:
            results.append(process.running)
            process.join(timeout=0)
        except ProcessError as error:
            results.append(type(error))
        finally:
            depth -= 1

    with Process(["cat"], stdin=pattern(64 * MIB)) as process, alarms(handle, 0.001):
        assert process.output() == pattern(64 * MIB)
    assert results


@needs_waitid
def test_called_while_the_interrupted_call_reaps() -> None:
    """`Popen` has a lock for that, and does not report to others that the process has ended."""
    process = Process(["cat"], stdin=PIPE).run()
    popen: Any = process.process
    with popen._waitpid_lock:
        process.kill()
        process.join()
        assert process.output() == b""
    assert process.exit_code == -signal.SIGKILL
    process.close()


def test_the_descriptor_is_asked_for_in_the_middle_of_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the interrupted call has gathered goes into the second pipe, and comes back."""
    wait = Child.wait

    def interrupted_wait(self: Child, timeout: Optional[float] = None) -> bool:
        process.stdout.fileno()  # what the handler does
        return wait(self, timeout)

    with Process(["cat"], stdin=pattern(LARGE)) as process:
        process.join()
        with monkeypatch.context() as patch:
            patch.setattr(Child, "wait", interrupted_wait)
            assert process.output() == pattern(LARGE)


@pytest.mark.parametrize("whose", ["a handler's", "another thread's"])
@pytest.mark.parametrize("size", [1, 3, -1], ids=["read-1", "read-3", "readline"])
def test_the_descriptor_is_asked_for_while_a_read_waits(
    monkeypatch: pytest.MonkeyPatch, whose: str, size: int
) -> None:
    """What comes later goes to the read that has begun before, and not past it."""
    process = Process(["cat"], stdin=PIPE).run()
    source: Any = process.stdout.source  # type: ignore[union-attr]
    enter = Monitor.enter

    def interfere() -> None:
        process.stdout.fileno()
        process.stdin.write(b"ab\n")
        process.stdin.flush()

    others: List[threading.Thread] = []

    def interrupted(self: Monitor, waiter: Any, *arguments: Any) -> None:
        enter(self, waiter, *arguments)
        if source.inbound in arguments and not others:
            others.append(threading.Thread(target=interfere))
            others[0].start()

    with contextlib.closing(process):
        if whose == "a handler's":
            handled = [interfere]

            def handle(*_: object) -> None:
                if handled:
                    handled.pop()()

            polls, sleep = type(source.reader).poll, Waiter.sleep

            def poll(*args: Any) -> None:
                handle()
                polls(*args)

            def sleeps(*args: Any) -> None:
                handle()
                sleep(*args)

            monkeypatch.setattr(type(source.reader), "poll", poll)
            monkeypatch.setattr(Waiter, "sleep", sleeps)
        else:
            monkeypatch.setattr(Monitor, "enter", interrupted)
        found = process.stdout.readline() if size < 0 else process.stdout.read(size)
        for other in others:
            other.join()
        assert found == b"ab\n"[: size if size > 0 else None]
    assert found + process.output() == b"ab\n"


def test_no_thread_is_started_by_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that raised in the middle of it would leave a thread that does not find itself."""
    starters: List[int] = []
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("process-"):
            starters.append(threading.get_ident())
        real(self)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(threading.Thread, "start", start)
    data = pattern(LARGE)
    with Process(["cat"], stdin=data) as process:
        process.stdout.fileno()
        assert process.output() == data
    assert len(starters) >= 3  # one for each pipe
    assert threading.main_thread().ident not in starters


@pytest.mark.parametrize("whose", ["a handler's", "another thread's"])
@pytest.mark.parametrize("call", [lambda process: process.output(), _read_much])
def test_all_is_read_in_the_middle_of_fileno(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], bytes], whose: str
) -> None:
    """The second pipe, which has just been made, is taken back; what is kept stays known."""
    leave = Source._leave
    found: List[bytes] = []

    def interrupted(self: Source, waiter: Waiter) -> None:
        monkeypatch.setattr(Source, "_leave", leave)
        if whose == "a handler's":
            found.append(call(process))
        else:
            other = threading.Thread(target=lambda: found.append(call(process)))
            other.start()
            other.join()
        leave(self, waiter)

    with Process(["cat"], stdin=pattern(LARGE)) as process:
        process.join()
        monkeypatch.setattr(Source, "_leave", interrupted)
        number = process.stdout.fileno()
        rest = b"".join(iter(lambda: os.read(number, 65_536), b""))
    assert found[0] + rest == pattern(LARGE)
    assert process.output() == (b"" if call is _read_much else found[0])


def test_called_while_a_thread_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler does not wait for a thread that only the interrupted call would start."""
    data = pattern(LARGE)
    with Process(["cat"], stdin=data) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        # To its end, in memory, so that there is no thread any more.
        assert process.stdout.read(10) == data[:10]
        reader.inbound._memory = 2 * LARGE
        process.join()
        until(lambda: (reader.monitor.poll_all(), reader.done)[1])
        begin = type(reader)._begin_anew
        refused: List[Exception] = []

        def interrupted(self: Any) -> None:
            with pytest.raises(ProcessError, match="signal handler") as caught:
                process.output()  # what the handler does
            refused.append(caught.value)
            begin(self)

        monkeypatch.setattr(type(reader), "_begin_anew", interrupted)
        number = process.stdout.fileno()
        assert len(refused) == 1
        assert b"".join(iter(lambda: os.read(number, 65_536), b"")) == data[10:]
