"""Rules 4 and 10: at any point of a call, a handler or a thread calls for the very same process.

What happens where the interrupted call waits is in `test_signal_handlers`.
"""

import contextlib
import itertools
import os
import signal
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from process import PIPE, Process, ProcessError, ProcessTimeoutError
from process.threads._thread import StreamThread
from tests.support import Injector

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs `cat` and `sh`")

#: More than a stream holds while nobody waits, without repetition.
_DATA = b"".join(b"%07d\n" % number for number in range(75_000))

#: How many points of a call are tried. Other calls try others, so all together leave out few.
_TRIES = int(os.environ.get("POINTS_TRIED", "1"))

#: The number of each try.
_numbers = itertools.count()

#: How many points a call has, by the call and the way in which its process is served.
_points: Dict[Any, int] = {}


def _join_in_vain(process: Any) -> None:
    with contextlib.suppress(ProcessTimeoutError):
        process.join(timeout=0)


def _write(process: Any) -> None:
    process.stdin.write(b"x" * 100_000)
    process.stdin.flush()


def _read(process: Any) -> bytes:
    result: bytes = process.stdout.read(300_000)  # more than is held while nobody waits
    return result


def _line(process: Any) -> bytes:
    result: bytes = process.stdout.readline()
    return result


def _next(process: Any) -> bytes:
    result: bytes = next(process.stdout)
    return result


def _leave(process: Any) -> None:
    process.__exit__(None, None, None)


def _kill(process: Any) -> None:
    process.kill()
    process.join()


#: What takes bytes.
_READS: List[Any] = [_read, _line, _next]
#: What returns what is kept.
_OUTPUTS: List[Any] = [Process.output, lambda process: process.output(join=False)]
_WAITS: List[Any] = [
    Process.join,
    Process.error,
    _join_in_vain,
    _leave,
    lambda process: process.stdout.fileno(),
    lambda process: process.running,
]
#: What loses bytes, on purpose.
_ENDS: List[Any] = [
    Process.close,
    _kill,
    lambda process: process.stdout.close(),
    lambda process: process.__exit__(ValueError, ValueError(), None),
]
_WRITES: List[Any] = [
    _write,
    lambda process: process.stdin.close(),
    lambda process: process.stdin.fileno(),
]


@pytest.fixture(params=["a handler", "a thread"])
def by_thread(request: pytest.FixtureRequest) -> bool:
    """Who makes the second call."""
    return bool(request.param == "a thread")


class Runner:
    """Runs a process: as it is, without stand-by, or with a second pipe in between."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __call__(self, script: str, stdin: Any) -> Any:
        """A process that has been started."""
        process = Process(["sh", "-c", script], stdin=stdin).run()
        if self.way == "exposed":
            process.stdout.fileno()
        return process


@pytest.fixture(params=["direct", "threads", "exposed"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """In each of the three ways."""
    if request.param == "threads":  # callers never move bytes themselves
        monkeypatch.setattr(StreamThread, "claimable", False)
    return Runner(request.param)


class Calls:
    """A call that is interrupted, and the one that is made meanwhile."""

    def __init__(
        self, interrupted: Callable[[Any], Any], handled: Callable[[Any], Any], by_thread: bool
    ) -> None:
        self._calls = interrupted, handled
        self._by_thread = by_thread
        self._other: Optional[threading.Thread] = None
        #: What each of them has returned, of bytes.
        self.taken: List[bytes] = []
        self.kept: List[bytes] = []
        self.process: Any = None

    def interrupted(self) -> None:
        """Make the call that is interrupted."""
        self._make(self._calls[0])

    def handled(self) -> None:
        """Make the other one.

        A thread is given a start, and no more: it may have to wait for the first call.
        """
        if not self._by_thread:
            self._make(self._calls[1])
            return
        other = self._other = threading.Thread(target=self._make, args=(self._calls[1],))
        other.start()
        other.join(0.01)

    def rounds(self, run: Runner, script: str, stdin: Any) -> Iterator[Any]:
        """A process for each point that is tried, after both calls have been made for it."""
        key = self._calls[0], run.way
        if key not in _points:  # varies with the speed of each side
            injector = self._round(run(script, stdin), 0)
            self.handled()
            yield self._ended()
            _points[key] = injector.passed
        points = _points[key]
        for number in range(_TRIES):
            point = 1 + (next(_numbers) * 37 + number * points // _TRIES) % points
            struck = self._round(run(script, stdin), point).struck
            yield self._ended()
            if not struck:  # there were fewer this time, but never so few
                struck = self._round(run(script, stdin), 1 + point % min(points, 10)).struck
                yield self._ended()
            assert struck

    def _round(self, process: Any, point: int) -> Injector:
        self.taken, self.kept = [], []
        self.process, self._other = process, None
        injector = Injector(point, self.handled)
        injector.call(self.interrupted)
        return injector

    def _ended(self) -> Any:
        if self._other is not None:
            self._other.join()
        return self.process

    def _make(self, call: Callable[[Any], Any]) -> None:
        try:
            result = call(self.process)
        except ProcessError as error:  # the interrupted call holds the lock
            if "signal handler has interrupted" not in str(error):
                raise
        except ValueError as error:
            if "closed file" not in str(error):
                raise
        except BrokenPipeError:
            if call not in _WRITES:
                raise
        except StopIteration:
            if call is not _next:
                raise
        else:
            if call in _READS:
                self.taken.append(result)
            elif call in _OUTPUTS:
                self.kept.append(result)


@pytest.fixture
def calls(
    interrupted: Callable[[Any], Any], handled: Callable[[Any], Any], by_thread: bool
) -> Calls:
    """The two of which the test has the pairs."""
    return Calls(interrupted, handled, by_thread)


def _pairs(interrupted: List[Any], handled: List[Any]) -> List[Any]:
    return [
        pytest.param(first, second, id=f"{number}")
        for number, (first, second) in enumerate(itertools.product(interrupted, handled))
    ]


@pytest.mark.parametrize(
    ("interrupted", "handled"),
    _pairs([*_READS, *_OUTPUTS, *_WAITS], [*_READS, *_OUTPUTS, *_WAITS]),
)
def test_both_get_what_is_theirs(run: Runner, calls: Calls) -> None:
    """Both return, and each byte has come to one of them or is kept."""
    for process in calls.rounds(run, "cat; seq 20000 >&2", _DATA):
        output = process.output()
        process.close()
        rest = _DATA
        for piece in calls.taken:
            assert piece in rest
            rest = rest.replace(piece, b"", 1)
        assert output == rest
        assert all(output.startswith(kept) for kept in calls.kept)
        assert process.error().endswith(b"\n20000\n")


@pytest.mark.parametrize(
    ("interrupted", "handled"),
    [*_pairs(_ENDS, [*_READS, *_OUTPUTS, *_WAITS, *_ENDS]), *_pairs([_read, *_OUTPUTS], _ENDS)],
)
def test_ended_by_one_of_them(run: Runner, calls: Calls) -> None:
    """Both return, the child is gone, and what has been given out is given out once, in order."""
    for process in calls.rounds(run, "cat; seq 20000 >&2", _DATA):
        process.close()
        whole = b"".join([*calls.taken, process.output()])
        other = b"".join([*reversed(calls.taken), process.output()])
        assert _DATA.startswith((whole, other))
        assert process.exit_code is not None


@pytest.mark.parametrize(("interrupted", "handled"), _pairs(_WRITES, [*_WRITES, _join_in_vain]))
def test_written_by_both(run: Runner, calls: Calls) -> None:
    """Both return; what was written has gone in once, unless stdin was closed before."""
    for process in calls.rounds(run, "wc -c", PIPE):
        _leave(process)
        assert int(process.output()) in {0, 100_000, 200_000}


@pytest.mark.parametrize(
    ("interrupted", "handled"),
    [
        *_pairs(_WRITES, [*_READS, *_OUTPUTS, _leave]),
        *_pairs([*_READS, *_OUTPUTS, _leave], _WRITES),
    ],
)
def test_written_by_one_of_them(run: Runner, calls: Calls) -> None:
    """Both return, from a child that never reads, and ends all the same."""
    for process in calls.rounds(run, "exec seq -w 75000", PIPE):
        _leave(process)
        assert process.exit_code == 0
