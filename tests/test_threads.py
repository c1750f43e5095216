"""Rule 10: any method from any thread or task, many processes at once, signals of all kinds."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List

import pytest

from process import PIPE, Process
from process._descriptor import Descriptor
from process._platform import PipeEnd
from process.core._flow import Flow
from process.core._inbound import Inbound
from process.threads._monitor import Monitor, Waiter
from process.threads._reader import ReaderThread
from process.threads._relay import Relay
from process.threads._source import Source
from tests.support import (
    CAT,
    KILLED,
    LARGE,
    MIB,
    YES,
    Kit,
    alarms,
    await_stop,
    collect,
    descriptors,
    needs_fork,
    needs_polls,
    needs_refcounts,
    needs_signals,
    pattern,
    python,
    refuse_threads,
    until,
)

#: Where a child is an interpreter, which takes its time to start, it has to do for so many.
_SHARE = 1 if CAT == ["cat"] else 4


def test_a_thread_is_started_anew_before_the_first_one_has_gone() -> None:
    """`fileno()` comes when the thread has decided to end: it does not close what is new."""
    data = pattern(LARGE)
    with Process(CAT, stdin=data) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        reader.inbound._memory = 2 * LARGE
        first, go_on = reader._thread(), threading.Event()
        reader._release_resources = go_on.wait
        process.join()
        until(lambda: (reader.monitor.poll_all(), reader.done)[1])
        number = process.stdout.fileno()
        go_on.set()
        first.join()
        assert b"".join(iter(lambda: os.read(number, 65_536), b"")) == data


@needs_polls
def test_closed_while_the_relay_begins_to_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has seen that it is the relay, and by the time it moves it is none any more."""
    move_on = ReaderThread._move_on
    begun = threading.Event()

    def move_late(self: Any, room: int) -> None:
        begun.set()
        until(lambda: self.relay is None)
        move_on(self, room)

    monkeypatch.setattr(ReaderThread, "_move_on", move_late)
    with Process(CAT, stdin=PIPE) as process:
        process.stdout.fileno()
        begun.wait()
    assert process.output() == b""


def test_exposed_anew_while_the_relay_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller leaves the block and another asks for the descriptor: there is a new relay."""
    data = pattern(1000)
    wait_relay = PipeEnd.wait_relay
    waited, go_on = threading.Event(), threading.Event()

    def wait_long(self: Any, *arguments: Any) -> Any:
        result = wait_relay(self, *arguments)
        waited.set()
        go_on.wait()
        return result

    with Process(CAT, stdin=PIPE) as process:
        source = process.stdout.source  # type: ignore[union-attr]
        monkeypatch.setattr(PipeEnd, "wait_relay", wait_long)
        process.stdout.fileno()
        process.stdin.write(data)
        process.stdin.close()
        waited.wait()
        assert source.reclaim()
        number = process.stdout.fileno()
        go_on.set()
        assert b"".join(iter(lambda: os.read(number, 65_536), b"")) == data


def test_closed_while_two_calls_read_what_a_receiver_has() -> None:
    """They hold up the receiver's bytes no longer, be they kept from leaving by a handler."""
    data = pattern(1000)
    with Process(CAT, stdin=PIPE) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        receiver = Descriptor.own(os.dup, process.stdout.fileno())
        calls = Waiter(), Waiter()
        with source.monitor.lock:
            for call in calls:
                source._suspend(call)
        process.stdout.close()
        process.stdin.write(data)
        process.stdin.flush()
        assert os.read(receiver.fileno(), 2000) == data
        for call in calls:
            source._leave(call)


def _relay_is_idle(process: Any, size: int) -> Callable[[], bool]:
    """Whether the relay has moved `size` bytes, and waits for nothing but the child."""
    reader: Any = process.stdout.source.reader
    waits: List[bool] = []
    wait_relay = reader.end.wait_relay

    def noted(outlet: Any, read: bool, write: bool, watch: Any) -> Any:
        waits.append(read and not write and reader.inbound.end == size)
        try:
            return wait_relay(outlet, read, write, watch)
        finally:
            waits.pop()

    reader.end.wait_relay = noted
    return lambda: True in waits


def test_a_line_is_read_while_the_relay_waits_for_the_child() -> None:
    """What is not put back at once, lest a conversation cost too much, follows nevertheless."""
    data = b"line\n" + pattern(50_000)
    with Process(CAT, stdin=PIPE) as process:
        relay_is_idle = _relay_is_idle(process, len(data))
        number = process.stdout.fileno()
        process.stdin.write(data)
        process.stdin.flush()
        until(relay_is_idle)
        assert process.stdout.readline() == b"line\n"
        rest = b""
        while len(rest) < 50_000:
            rest += os.read(number, 65_536)
        assert rest == data[5:]


def test_offered_while_another_caller_leaves_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is offered is what the stream has at that time, and not what it had before."""
    data = pattern(1000)
    leave = Source._leave

    def leave_and_let_others_in(self: Any, waiter: Waiter) -> None:
        leave(self, waiter)
        if self.reader.relay is not None and not others.ident:
            others.start()
            until(lambda: self.monitor._waiters)

    with Process(CAT, stdin=PIPE) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        others = threading.Thread(target=source.reclaim)
        process.stdin.write(data)
        process.stdin.flush()
        assert process.stdout.read(1) == data[:1]
        monkeypatch.setattr(Source, "_leave", leave_and_let_others_in)
        offer = source.offer()
        assert os.read(offer.descriptor.fileno(), 2000) == data[1:]
        offer.accept(Flow())
        others.join()
        assert source.handed_over


def test_handed_over_while_a_caller_waits_for_its_turn() -> None:
    """It does not warn that another process holds the stream open, which is what was wanted."""
    with Process(CAT, stdin=PIPE) as process, ThreadPoolExecutor() as pool:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        offer, flow = source.offer(), Flow()
        first = pool.submit(process.stdout.read)
        until(lambda: source.inbound.busy)
        second = pool.submit(process.output, join=False)
        until(lambda: len(source.monitor._waiters) == 2)
        offer.accept(flow)
        assert first.result() == second.result() == b""


def test_interrupted_while_the_relay_waits_for_the_child() -> None:
    """What a caller has taken back, and never put back, is relayed again."""
    data = pattern(1000)
    with Process(CAT, stdin=PIPE) as process:
        source: Any = process.stdout.source  # type: ignore[union-attr]
        relay_is_idle = _relay_is_idle(process, len(data))
        number = process.stdout.fileno()
        process.stdin.write(data)
        process.stdin.flush()
        until(relay_is_idle)
        call = Waiter()
        with source.monitor.lock:
            source._suspend(call)
        del call
        collect()
        assert os.read(number, 2000) == data


def test_blocks_of_another_size_are_read_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call gets as much as it asked for: no other call leaves it less than a block."""
    data = pattern(62)
    with Process(CAT, stdin=data) as process, ThreadPoolExecutor() as pool:
        stream = process.stdout
        pieces: List[bytes] = []

        def view_late(buffer: bytearray) -> memoryview:
            monkeypatch.undo()
            pieces.append(pool.submit(stream.read, 5).result())
            return memoryview(buffer)

        process.join()
        pieces.append(stream.read(3))
        monkeypatch.setattr("process.threads._files.memoryview", view_late, raising=False)
        buffer = bytearray(3)
        assert stream.readinto(buffer) == 3
        pieces.append(bytes(buffer))
        pieces.extend(iter(lambda: stream.read(5), b""))
    assert b"".join(pieces) == data
    assert list(map(len, pieces)) == [3, 5, 3, *[5] * 10, 1]


def test_read_to_its_end_while_the_relay_begins_to_move() -> None:
    """By a caller, between the thread's choice and its move: there is nothing to wait for."""
    read, write = Descriptor.pipe()
    monitor = Monitor()
    thread = ReaderThread(monitor, PipeEnd(read, writing=False), "reader", Inbound(monitor.flow))
    thread.relay = Relay()
    write.close()
    thread.inbound.feed_eof()
    thread._move_on(0)
    assert not thread.done
    thread.relay.close()
    thread.relay.outlet.close()
    thread.end.close()


@needs_refcounts
def test_dozens_of_processes_from_dozens_of_threads() -> None:
    """Each gets its own bytes, and nothing is left."""
    before, threads = descriptors(), threading.active_count()

    def work(seed: int) -> None:
        data = pattern(400_000 + seed, seed)
        with Process(CAT, stdin=data) as process:
            assert process.output() == data
        with Process(CAT, stdin=PIPE) as process:
            process.stdin.write(data)
        assert process.output() == data

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(64 // _SHARE)))
    assert descriptors() == before
    assert threading.active_count() == threads


async def test_dozens_of_processes_from_dozens_of_tasks(loops: Kit) -> None:
    """The same in one loop."""

    async def work(seed: int) -> None:
        data = pattern(400_000 + seed, seed)
        async with loops.opened(CAT, stdin=data) as process:
            assert await process.output() == data
        async with loops.opened(CAT, stdin=PIPE) as process:
            await loops.write(process.stdin, data)
        assert await process.output() == data

    await work(0)
    before, threads = descriptors(), threading.active_count()
    await asyncio.gather(*map(work, range(48 // _SHARE)))
    await loops.settle()
    assert descriptors() == before
    assert threading.active_count() <= threads + 48  # the watchers of asyncio before 3.12


def test_many_threads_ask_one_process() -> None:
    """`output`, `error`, `join`, polls and `repr` from many threads at once agree."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    with Process(python(script)) as process:
        calls: List[Any] = [
            process.output,
            process.error,
            lambda: process.output(join=False),
            process.join,
            lambda: process.running,
            lambda: repr(process),
        ] * 4
        with ThreadPoolExecutor(len(calls)) as pool:
            results = [future.result() for future in [pool.submit(call) for call in calls]]
        for result in results[::6] + results[2::6]:
            assert result == pattern(LARGE, 1)
        for result in results[1::6]:
            assert result == pattern(LARGE, 2)


async def test_many_tasks_ask_one_process(loops: Kit) -> None:
    """The same with tasks."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    async with loops.opened(python(script)) as process:
        results = await asyncio.gather(
            *(call() for call in (process.output, process.error, process.join) for _ in range(5))
        )
        assert results[:5] == [pattern(LARGE, 1)] * 5
        assert results[5:10] == [pattern(LARGE, 2)] * 5


def test_one_thread_writes_while_another_reads() -> None:
    """The classic pair of threads around an echo."""
    data = pattern(2 * LARGE)
    with Process(CAT, stdin=PIPE) as process:

        def write() -> None:
            with process.stdin as stdin:
                for begin in range(0, len(data), 10_000):
                    stdin.write(data[begin : begin + 10_000])

        thread = threading.Thread(target=write)
        thread.start()
        assert process.stdout.read() == data
        thread.join()


def test_closed_by_another_thread_in_the_middle_of_a_read() -> None:
    """A reader whose process another thread closes is not left waiting."""
    process = Process(CAT, stdin=PIPE).run()
    results: List[Any] = []
    reading = threading.Event()

    def read() -> None:
        reading.set()
        try:
            results.append(process.stdout.read())
        except ValueError as error:  # closed before we got there
            results.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    reading.wait()
    process.close()
    thread.join()
    assert len(results) == 1
    assert process.exit_code is not None


def test_killed_by_another_thread_in_the_middle_of_a_join() -> None:
    """A joiner wakes when another thread kills."""
    with Process(YES) as process:
        thread = threading.Thread(target=process.join)
        thread.start()
        process.kill()
        thread.join()
        assert process.exit_code == KILLED


@needs_signals
def test_a_storm_of_signals_is_harmless() -> None:
    """EINTR at every turn."""
    count = 0

    def handle(*_: object) -> None:
        nonlocal count
        count += 1

    data = pattern(2 * LARGE)
    with alarms(handle, 0.0005):
        with Process(CAT, stdin=data) as process:
            first = b"".join(process.stdout.read(1000) or b"" for _ in range(1000))
            assert first == data[: 1000 * 1000]
            assert process.output() == data[1000 * 1000 :]
        with Process(CAT, stdin=PIPE) as process:
            for begin in range(0, MIB, 1000):
                process.stdin.write(data[begin : begin + 1000])
            process.stdin.close()
            process.join()
        assert process.output() == data[: MIB // 1000 * 1000 + 1000]
        while not count:
            signal.pause()


@needs_signals
async def test_a_child_that_is_stopped_and_continued(kit: Kit) -> None:
    """SIGSTOP in the middle loses nothing."""
    data = pattern(LARGE)
    async with kit.opened(CAT, stdin=data) as process:
        first = await kit.read(process.stdout, 1000)
        process.signal(signal.SIGSTOP)
        await_stop(process.id)
        assert process.running
        process.signal(signal.SIGCONT)
        assert first + await kit.get(process.output()) == data


@needs_fork
# The interpreter does not know that threads of the library are no harm to a fork.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_of_the_caller_does_not_delay_end_of_file() -> None:
    """A forked copy of the caller that lives on holds no pipe of its children."""
    hold, release = os.pipe()
    with Process(CAT, stdin=PIPE) as process:
        pid = os.fork()
        if not pid:  # pragma: no cover - in the fork
            os.close(release)
            os.read(hold, 1)
            os._exit(0)
        os.close(hold)
        try:
            process.stdin.write(b"x")
            process.stdin.close()
            assert process.stdout.read() == b"x"
        finally:
            os.close(release)
            os.waitpid(pid, 0)
    assert process.exit_code == 0


_COUNTS = "put(1, b'%d' % len(get(200_000)))"


@pytest.mark.parametrize(
    "wait",
    [
        lambda process: process.join(),
        lambda process: process.stdout.read(1),
        lambda process: process.output(join=False),
    ],
    ids=["join", "read", "output"],
)
def test_a_write_while_another_thread_waits(wait: Callable[[Any], Any]) -> None:
    """What fits into the bound, and not into the pipe, goes in though its writer is elsewhere."""
    with Process(python(_COUNTS), stdin=PIPE, stderr=None) as process:
        flow = process._child.monitor.flow  # type: ignore[union-attr]
        other = threading.Thread(target=wait, args=(process,))
        other.start()
        until(lambda: flow.busy)
        process.stdin.write(bytes(200_000))
        other.join()


def test_a_write_before_a_wait_of_the_popen_object() -> None:
    """The same if its writer waits for the child, and the library does not know of it."""
    with Process(python(_COUNTS), stdin=PIPE, stderr=None) as process:
        process.stdin.write(bytes(200_000))
        assert process.process.wait() == 0
    assert process.output() == b"200000"


def _run_to_the_end() -> Any:
    """A process that has ended, with streams at their ends, for which nobody has waited."""
    process: Any = Process(python("put(1, b'out'); put(2, b'err')")).run()
    inbounds = [source.inbound for source in process._child.sources]
    until(lambda: False not in [inbound.ending.eof for inbound in inbounds])
    return process


@pytest.mark.parametrize(
    "call",
    [
        lambda process: process.join(),
        lambda process: process.exit_code,
        lambda process: (process.stdout.read(), process.stderr.read()),
        lambda process: process.__exit__(KeyError, None, None),
    ],
    ids=["join", "poll", "read", "leave by an exception"],
)
def test_a_thread_stays_until_a_caller_comes(call: Callable[[Any], Any]) -> None:
    """Bytes may be held for it. It ends, too, if the caller wants none of them."""
    process = _run_to_the_end()
    readers = [source.reader for source in process._child.sources]
    assert [reader.alive for reader in readers] == [True, True]
    call(process)
    until(lambda: True not in [reader.alive for reader in readers])
    process.close()


def test_a_descriptor_after_the_end_needs_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read ahead is passed on though no thread can be started any more."""
    process = _run_to_the_end()
    with monkeypatch.context() as patch:
        refuse_threads(patch, RuntimeError("can't start new thread"))
        number = process.stdout.fileno()
        assert os.read(number, 10) == b"out"
        assert os.read(number, 10) == b""
    process.close()
