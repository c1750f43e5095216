"""Rule 1: a caller that waits for another one goes on when that one is done or interrupted."""

import asyncio
import contextlib
import os
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from process import PIPE, Process
from process.core._inbound import Collection
from process.threads._monitor import Waiter
from process.threads._source import Source
from tests.support import CAT, FOREVER, PROMPT, Kit, pattern, reached, until


class Other(threading.Thread):
    """Another caller of a process."""

    def __init__(self, child: Process, call: Callable[[], bytes]) -> None:
        super().__init__()
        self._monitor: Any = child._child.monitor  # type: ignore[union-attr]
        self._call = call
        self._found: List[bytes] = []

    def run(self) -> None:
        self._found.append(self._call())

    def outcome(self) -> bytes:
        """What it has got; it is not left waiting."""
        self.join(PROMPT)
        left = self.is_alive()
        if left:
            self._monitor.wake_all()
            self.join()
        assert not left, "it was not woken"
        return self._found[0]


def test_a_large_read_passes_its_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that waits for its turn is woken when it comes, even if its bytes are all there."""
    size = 300_000
    data = pattern(size + 1)
    with Process(CAT, stdin=PIPE) as child:
        monitor: Any = child._child.monitor  # type: ignore[union-attr]
        inbound: Any = child.stdout.source.reader.inbound  # type: ignore[union-attr]
        real = Waiter.sleep
        first = Other(child, lambda: child.stdout.read(size))
        second = Other(child, lambda: child.stdout.read(1))
        waits = threading.Event()

        def waits_again() -> bool:
            with monitor.lock:
                return inbound.held <= size or bool(monitor._waiters)  # `first` has been woken

        def sleep(self: Waiter, timeout: Optional[float] = None) -> None:
            if threading.current_thread() is second:
                waits.set()
            real(self, timeout)
            if threading.current_thread() is first:
                until(waits_again)

        monkeypatch.setattr(Waiter, "sleep", sleep)
        first.start()
        until(lambda: inbound.busy)
        second.start()
        waits.wait(PROMPT)
        child.stdin.write(data)
        child.stdin.flush()
        assert first.outcome() == data[:-1]
        assert second.outcome() == data[-1:]


class LatestFirst(Dict[Any, None]):
    """A set whose latest member comes first."""

    def add(self, member: Any) -> None:
        self[member] = None

    def discard(self, member: Any) -> None:
        self.pop(member, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.keys())[::-1])


async def test_a_large_read_passes_its_turn_on_in_a_loop(loops: Kit) -> None:
    """The same with tasks, of which one looks just before the one whose turn it is."""
    size = 300_000
    data = pattern(size + 1)
    async with loops.opened(CAT, stdin=PIPE) as child:
        child._child.monitor._waiters = LatestFirst()
        first = asyncio.ensure_future(child.stdout.readexactly(size))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(child.stdout.read(1))
        await asyncio.sleep(0)
        child.stdout.feed_data(data)
        assert await asyncio.wait_for(first, PROMPT) == data[:-1]
        assert await asyncio.wait_for(second, PROMPT) == data[-1:]


def test_what_an_interrupted_caller_has_gathered_goes_to_the_waiter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing more need come for that."""
    with Process(CAT, stdin=PIPE) as child:
        source: Any = child.stdout.source  # type: ignore[union-attr]
        inbound = source.reader.inbound
        other = Other(child, lambda: child.stdout.read(3))
        collection, mine = Collection(thread=-1), Waiter()
        assert source.collect(collection, mine)
        waits = threading.Event()
        real = Waiter.sleep

        def sleep(self: Waiter, timeout: Optional[float] = None) -> None:
            if threading.current_thread() is other:
                waits.set()
            real(self, timeout)

        monkeypatch.setattr(Waiter, "sleep", sleep)
        other.start()
        assert waits.wait(PROMPT)
        child.stdin.write(b"abc")
        child.stdin.flush()
        until(lambda: inbound.held == 3)
        source.abandon(collection, mine)
        assert other.outcome() == b"abc"


async def test_what_a_cancelled_task_has_gathered_goes_to_the_waiter(loops: Kit) -> None:
    """The same with tasks."""
    async with loops.opened(CAT, stdin=PIPE) as child:
        first = asyncio.ensure_future(child.output())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(child.stdout.read(3))
        child.stdin.write(b"abc")
        await reached(lambda: child.stdout.inbound.held == 3)
        await loops.settle()
        assert not second.done()
        first.cancel()
        assert await asyncio.wait_for(second, PROMPT) == b"abc"


@pytest.mark.parametrize("exposed", [False, True])
def test_what_a_caller_torn_out_of_its_clean_up_had_goes_to_the_waiter(
    monkeypatch: pytest.MonkeyPatch, exposed: bool
) -> None:
    """Interrupted again where it was to give up its claim: that ends with its frame.

    So does the pause that it has made for the relay, if there is a second pipe.
    """
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(CAT, stdin=PIPE) as child:
        source: Any = child.stdout.source  # type: ignore[union-attr]
        reader = source.reader
        if exposed:
            child.stdout.fileno()
        child.stdin.write(b"ab")
        child.stdin.flush()
        assert child.stdout.read(1) == b"a"
        assert child.stdout.read(1) == b"b"
        other = Other(child, lambda: child.stdout.read(1))
        this = threading.get_ident()
        poll, sleep, leave = type(reader).poll, Waiter.sleep, Source._leave

        def interrupt() -> None:
            other.start()
            until(lambda: len(source.monitor._waiters) > 1)
            raise KeyboardInterrupt

        def interrupted_poll(self: Any, timeout: Optional[float]) -> None:
            if threading.get_ident() == this:
                interrupt()
            poll(self, timeout)

        def interrupted_sleep(self: Waiter, timeout: Optional[float] = None) -> None:
            if threading.get_ident() == this:
                interrupt()
            sleep(self, timeout)

        def interrupted_again(self: Source, waiter: Waiter) -> None:
            if threading.get_ident() == this:
                raise KeyboardInterrupt
            leave(self, waiter)

        with monkeypatch.context() as patch:
            patch.setattr(type(reader), "poll", interrupted_poll)
            patch.setattr(Waiter, "sleep", interrupted_sleep)
            patch.setattr(Source, "_leave", interrupted_again)
            with contextlib.suppress(KeyboardInterrupt):
                child.stdout.read(1)
        child.stdin.write(b"x")
        child.stdin.flush()
        assert other.outcome() == b"x"
        if exposed:
            child.stdin.write(b"y")
            child.stdin.flush()
            assert os.read(child.stdout.fileno(), 10) == b"y"
