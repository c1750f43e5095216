"""What the tests rely on: injectors strike where the interpreter runs handlers, and only there."""

import runpy
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Set, Tuple

import pytest

from tests.support import Injector, InterruptedByTestError, alarms

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")

#: Handlers run between all instructions: before CPython 3.10, and on PyPy.
_EVERYWHERE = sys.version_info < (3, 10) or sys.implementation.name != "cpython"

#: A handler that raises leaves `with lock:` with the lock held (gh-148874).
_LEAVES_LOCKS = sys.version_info[:2] == (3, 14) or _EVERYWHERE

_SAMPLE = """
def leaf(thing):
    thing.entered = True

def run(thing):
    thing.first = 1
    thing.second = 1
    leaf(thing)
    thing.calls.append(1)
    thing.left = True
    with thing.lock:
        thing.inside = 1
    for number in (1, 2, 3):
        thing.loops = number
    thing.done = True
"""


class _Thing:
    """What has been done until the exception came."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.first = self.second = self.inside = self.loops = 0
        self.entered = self.left = self.done = False
        self.calls: List[int] = []

    def state(self) -> Tuple[Any, ...]:
        """All of it, as one value."""
        begun = self.first, self.second, self.entered, len(self.calls)
        return (*begun, self.left, self.inside, self.loops, self.done, self.lock.locked())


@pytest.fixture
def sample(tmp_path: Path) -> Any:
    """A module of its own, whose functions have never been called."""
    path = tmp_path / "sample.py"
    path.write_text(_SAMPLE, encoding="utf-8")
    return SimpleNamespace(**runpy.run_path(str(path)))


def _injected(sample: Any) -> Set[Tuple[Any, ...]]:
    states = set()
    struck = True
    point = 0
    while struck:
        point += 1
        thing = _Thing()
        injector = Injector(point, root=sample.__file__, between_instructions=True)
        injector.call(lambda: sample.run(thing))  # noqa: B023 - called at once
        struck = injector.struck
        states.add(thing.state())
    return states


def test_it_strikes_at_calls_entries_and_jumps(sample: Any) -> None:
    """And between instructions where handlers run there, too."""
    states = _injected(sample)
    assert (1, 1, False, 0, False, 0, 0, False, False) in states, "not at the entry of a function"
    assert (1, 1, True, 1, False, 0, 0, False, False) in states, "not after a call"
    assert {state[6] for state in states if not state[7]} >= {0, 1, 2}, "not on a jump back"
    assert ((1, 0) in {state[:2] for state in states}) is _EVERYWHERE
    if not _LEAVES_LOCKS:
        assert not any(state[-1] for state in states)


@pytest.mark.usefixtures("looks_again")
def test_real_signals_strike_where_it_does(sample: Any) -> None:
    """Whatever they leave behind, one of the points leaves behind as well."""
    states = _injected(sample)
    struck: List[Tuple[Any, ...]] = []
    things = [_Thing()]

    def handle(_: int, frame: Any) -> None:
        if frame.f_code.co_filename == sample.__file__:
            raise InterruptedByTestError

    def run() -> None:
        while len(struck) < 200:
            things[0] = _Thing()
            sample.run(things[0])

    with alarms(handle, 0.00005):
        while len(struck) < 200:
            try:
                run()
            except InterruptedByTestError:
                struck.append(things[0].state())
    before = _Thing().state()  # at the entry of `run`
    assert set(struck) - {before} <= states
