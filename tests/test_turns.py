"""Rule 1: who waits for another caller goes on when that one is done, gives up or is torn out."""

import asyncio
import os
import threading
from typing import Any, Callable, Dict, Iterator, List

import pytest

from process import PIPE, Process, ProcessTimeoutError, _platform
from process._plumbing import Plumbing
from process.core._flow import Wait
from process.core._inbound import Collection
from tests.support import (
    PROMPT,
    Kit,
    employ_threads,
    pattern,
    reached,
    refuse_threads,
    until,
)


class Other(threading.Thread):
    """Another caller of a process."""

    def __init__(self, child: Process, call: Callable[[], bytes]) -> None:
        super().__init__()
        self._plumbing: Any = child._child.plumbing  # type: ignore[union-attr]
        self._call = call
        self._found: List[bytes] = []

    def run(self) -> None:
        self._found.append(self._call())

    def outcome(self) -> bytes:
        """What he has got; he is not left waiting."""
        self.join(PROMPT)
        left = self.is_alive()
        if left:
            with self._plumbing.lock:
                self._plumbing.notify()
            self.join()
        assert not left, "he was not woken"
        return self._found[0]


@pytest.fixture
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are none to be had: a second caller depends on the one who drives."""
    refuse_threads(monkeypatch, RuntimeError("can't start new thread"))


@pytest.fixture(params=["driven", "threads"])
def _served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By callers who drive, or by threads."""
    if request.param == "threads":
        employ_threads(monkeypatch)


def _feed(child: Process, data: bytes) -> None:
    """Write to the child behind the library's back, which wakes nobody by itself."""
    pump: Any = child.stdin.sink.pump  # type: ignore[union-attr]
    assert os.write(pump.port.descriptor.fileno(), data) == len(data)


@pytest.mark.usefixtures("_no_threads")
def test_who_waits_takes_over_from_a_driver_whose_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A timeout changes nothing else, and yet the other one has to drive from then on."""
    with Process(["cat"], stdin=PIPE) as child:
        plumbing: Any = child._child.plumbing  # type: ignore[union-attr]
        other = Other(child, lambda: child.stdout.read(1))
        real = _platform.Hub.wait

        def wait(hub: Any, ports: Any, timeout: Any, watch: Any) -> Any:
            if threading.current_thread() is first:
                until(lambda: len(plumbing._waiters))
                timeout = 0
            return real(hub, ports, timeout, watch)

        first = threading.Thread(target=pytest.raises, args=(ProcessTimeoutError, child.join, 0.05))
        monkeypatch.setattr(_platform.Hub, "wait", wait)
        first.start()
        until(lambda: plumbing.driven)
        other.start()
        first.join()
        _feed(child, b"x")
        assert other.outcome() == b"x"


@pytest.mark.usefixtures("_no_threads")
def test_a_driver_torn_out_of_his_clean_up_releases_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted again where he was to say that he is gone: the end of his frame says so."""
    with Process(["cat"], stdin=PIPE) as child:
        plumbing: Any = child._child.plumbing  # type: ignore[union-attr]
        other = Other(child, lambda: child.stdout.read(1))
        wait, leave = _platform.Hub.wait, Plumbing._leave

        def interrupted(hub: Any, *arguments: Any) -> Any:
            if threading.current_thread() is other:
                return wait(hub, *arguments)
            other.start()
            until(lambda: len(plumbing._waiters))
            raise KeyboardInterrupt

        def interrupted_again(self: Plumbing) -> None:
            if threading.current_thread() is other:
                return leave(self)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_platform.Hub, "wait", interrupted)
            patch.setattr(Plumbing, "_leave", interrupted_again)
            try:
                child.stdout.read(1)
            except KeyboardInterrupt as error:
                _forget_frames(error)
        _feed(child, b"x")
        assert other.outcome() == b"x"


def test_a_reader_of_the_descriptor_torn_out_of_his_clean_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same for the one whose turn it is to read the pipe that `fileno` names."""
    with Process(["cat"], stdin=PIPE) as child:
        child.stdout.fileno()
        plumbing: Any = child._child.plumbing  # type: ignore[union-attr]
        exposure: Any = child.stdout.source._exposure  # type: ignore[union-attr]
        other = Other(child, lambda: child.stdout.read(1))
        read, lock = type(exposure).read, plumbing.lock

        class Torn:
            """Cannot be had by who was interrupted, once."""

            armed = False

            def __enter__(self) -> Any:
                if self.armed and threading.current_thread() is not other:
                    self.armed = False
                    raise KeyboardInterrupt
                return lock.__enter__()

            def __exit__(self, *arguments: object) -> Any:
                return lock.__exit__(*arguments)

            def __getattr__(self, name: str) -> Any:
                return getattr(lock, name)

        torn = Torn()

        def interrupted(self: Any, size: int, timeout: Any) -> Any:
            if threading.current_thread() is other:
                return read(self, size, timeout)
            other.start()
            until(lambda: len(plumbing._waiters))
            torn.armed = True
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(type(exposure), "read", interrupted)
            patch.setattr(plumbing, "lock", torn)
            try:
                child.stdout.read(1)
            except KeyboardInterrupt as error:
                _forget_frames(error)
            assert not torn.armed
        assert exposure.reader != threading.get_ident()
        until(lambda: exposure.reader == other.ident)
        child.stdin.write(b"x")
        child.stdin.flush()
        assert other.outcome() == b"x"


def _forget_frames(error: BaseException) -> None:
    """Let go of what an exception refers to."""
    error.__traceback__ = None
    if error.__context__ is not None:
        _forget_frames(error.__context__)


@pytest.mark.usefixtures("_served")
def test_a_large_read_passes_its_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for his turn is woken when it has come; his bytes may all be there by then."""
    size = 300_000
    data = pattern(size + 1)
    with Process(["cat"], stdin=PIPE) as child:
        plumbing: Any = child._child.plumbing  # type: ignore[union-attr]
        inbound: Any = child.stdout.source.pump.inbound  # type: ignore[union-attr]
        real = Plumbing.wait
        first = Other(child, lambda: child.stdout.read(size))
        second = Other(child, lambda: child.stdout.read(1))
        waits = threading.Event()

        def waits_again() -> bool:
            with plumbing.lock:
                return inbound.held <= size or len(plumbing._waiters) > 0

        def wait(self: Plumbing, *arguments: Any) -> None:
            if threading.current_thread() is second:
                waits.set()
            real(self, *arguments)
            if threading.current_thread() is first:
                until(waits_again)

        monkeypatch.setattr(Plumbing, "wait", wait)
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
    async with loops.opened(["cat"], stdin=PIPE) as child:
        child._child.monitor._waiters = LatestFirst()
        first = asyncio.ensure_future(child.stdout.readexactly(size))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(child.stdout.read(1))
        await asyncio.sleep(0)
        child.stdout.feed_data(data)
        assert await asyncio.wait_for(first, PROMPT) == data[:-1]
        assert await asyncio.wait_for(second, PROMPT) == data[-1:]


@pytest.mark.usefixtures("_served")
def test_what_an_interrupted_caller_has_gathered_goes_to_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing more need come for that."""
    with Process(["cat"], stdin=PIPE) as child:
        source: Any = child.stdout.source  # type: ignore[union-attr]
        inbound = source.pump.inbound
        other = Other(child, lambda: child.stdout.read(3))
        collection, mine = Collection(thread=-1), Wait()
        assert source.collect(collection, mine)
        waits = threading.Event()
        real = Plumbing.wait

        def wait(self: Plumbing, *arguments: Any) -> None:
            if threading.current_thread() is other and inbound.held == 3:
                waits.set()
            real(self, *arguments)

        monkeypatch.setattr(Plumbing, "wait", wait)
        other.start()
        child.stdin.write(b"abc")
        child.stdin.flush()
        assert waits.wait(PROMPT)
        source.abandon(collection, mine)
        assert other.outcome() == b"abc"


async def test_what_a_cancelled_task_has_gathered_goes_to_who_waits(loops: Kit) -> None:
    """The same with tasks."""
    async with loops.opened(["cat"], stdin=PIPE) as child:
        first = asyncio.ensure_future(child.output())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(child.stdout.read(3))
        child.stdin.write(b"abc")
        await reached(lambda: child.stdout.inbound.held == 3)
        await loops.settle()
        assert not second.done()
        first.cancel()
        assert await asyncio.wait_for(second, PROMPT) == b"abc"
