"""Storms of signals whose handler raises, around one kind of call after the other.

A timer sends SIGALRM every half a millisecond, and the handler raises while a call is under way, up
to three times a call: so that what puts things right after the first exception is struck as well.
Every exception has to arrive, no byte may be lost or doubled, the exit code has to be right, and
nothing may be left behind. Where the handler strikes is up to the clock; what has to hold is not.

This module needs the standard library alone, so that `python -m stress.storms` runs on any
interpreter.
"""

import argparse
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Sequence

from process import DEVNULL, PIPE, Process, ProcessAlreadyRunError

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

#: Seconds between two signals.
INTERVAL = 0.0005

#: Exceptions in one call at most.
_BURST = 3

#: Seconds that what was let go of has to go away.
_PATIENCE = 10.0


class Interrupted(BaseException):
    """What the signal handler raises."""


class Storm:
    """Signals, and what has become of the exceptions of their handler."""

    def __init__(self, seconds: float) -> None:
        self.problems: List[str] = []
        self._left = 0
        #: How many exceptions were raised. They are not kept: their tracebacks would keep the
        #: frames of calls, and with them what the calls have claimed.
        self.strikes = 0
        self._arrived = 0
        self.chance = random.Random(1)
        self._end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    @contextlib.contextmanager
    def blowing(self) -> Iterator[None]:
        """Signals come inside of the block."""
        before = signal.signal(signal.SIGALRM, self._strike)
        hook, sys.unraisablehook = sys.unraisablehook, self._complain
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
        try:
            yield
        finally:
            self._left = 0
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            sys.unraisablehook = hook
        if self._arrived != self.strikes:
            self.problems.append(f"{self._arrived} of {self.strikes} exceptions arrived")

    def _strike(self, _: int, frame: Any) -> None:
        if self._left > 0 and not _is_spared(frame):
            self._left -= 1
            self.strikes += 1
            raise Interrupted

    def _complain(self, complaint: Any) -> None:
        self.problems.append(f"in {complaint.object!r}: {complaint.exc_value!r}")

    def attempt(self, call: Callable[..., Any], *arguments: Any) -> List[Any]:
        """Make a call; its result in a list, which is empty if the call was interrupted.

        The result is stored within the call into C that makes the call, so it is not lost to an
        exception that strikes when it has been returned.
        """
        found: List[Any] = []
        calls = map(call, *zip(arguments)) if arguments else map(_call, [call])
        pending = True
        for _ in range(2 * _BURST):  # it may strike in an `except` clause, too
            try:
                try:
                    if pending:
                        pending = False
                        self._left = self.chance.randrange(1, _BURST + 1)
                        found.extend(calls)
                    self._left = 0
                    break
                except Interrupted as error:
                    self._left = 0
                    self._note(error)
            except Interrupted as error:
                self._left = 0
                self._note(error)
        return found

    def insist(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Make a call until it is not interrupted; when the time is up, in peace."""
        while not self.over:
            found = self.attempt(call, *arguments)
            if found:
                return found[0]
        return call(*arguments)

    def _note(self, error: Optional[BaseException]) -> None:
        seen = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            self._arrived += isinstance(error, Interrupted)
            error = error.__context__

    def expect(self, what: str, got: Any, expected: Any) -> None:
        """Note a problem if that is not what it should be."""
        if got != expected:
            self.problems.append(f"{what}: {_short(got)} in place of {_short(expected)}")


def _is_spared(frame: Any) -> bool:
    """Whether to raise on top of `frame` would show nothing.

    A handler that is interrupted by another one before it raises has been counted already.
    """
    while frame is not None:
        if frame.f_code is Storm._strike.__code__:
            return True
        frame = frame.f_back
    return False


def _call(function: Callable[[], Any]) -> Any:
    return function()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:60]}... ({len(value):,})"


#: Writes numbered lines to both outputs, without end, 50 MB a second.
_LINES = """
import os, itertools, time
try:
    for n in itertools.count(0, 100):
        time.sleep(0.002)  # what comes has to be verified
        lines = b"".join(b"%d %s\\n" % (i, b"x" * (i % 97 * 20)) for i in range(n, n + 100))
        for number in (1, 2):
            view = memoryview(lines)
            while view:
                view = view[os.write(number, view):]
except OSError:
    pass
"""

#: Floods both outputs, waits for the end of stdin, floods them once more, and ends with 7.
_GATED = """
import os
def flood(size):
    for number in (1, 2):
        view = memoryview(bytes(range(250)) * (size // 250))
        while view:
            view = view[os.write(number, view):]
flood(1_000_000)
os.read(0, 1)
flood(100_000)
os._exit(7)
"""
_GATED_OUTPUT = bytes(range(250)) * 4400


def _python(script: str) -> List[str]:
    return [sys.executable, "-I", "-S", "-c", script]


def _line(number: int) -> bytes:
    return b"%d %s\n" % (number, b"x" * (number % 97 * 20))


def _check_lines(storm: Storm, name: str, data: bytes) -> None:
    """See that `data` is the beginning of what `_LINES` writes."""
    count = data.count(b"\n")
    whole = b"".join([_line(number) for number in range(count)])
    rest = data[len(whole) :]
    if data[: len(whole)] != whole or not _line(count).startswith(rest):
        lines = data.splitlines(keepends=True)
        at = next(n for n, line in enumerate(lines) if not _line(n).startswith(line))
        storm.problems.append(f"{name}: {lines[at][:40]!r} in place of line {at}")


def _records(storm: Storm, flush: bool) -> None:
    """Numbered records go into `cat`; each that is certain to have gone in comes out, once."""
    with Process(["cat"], stdin=PIPE) as process:
        certain = []
        number = 0
        while not storm.over:
            for _ in storm.attempt(lambda: process.exit_code):
                pass
            record = b"%d\n" % number
            if storm.attempt(process.stdin.write, record):
                certain.append(number)
            number += 1
            if flush:
                storm.attempt(process.stdin.flush)
    found = [int(line) for line in process.output().split()]
    storm.expect("records, in order", found, sorted(set(found)))
    storm.expect("records that are missing", sorted(set(certain) - set(found)), [])
    storm.expect("exit code", process.exit_code, 0)


def write_and_flush(storm: Storm) -> None:
    """`exit_code`, `write` and `flush`, by turns."""
    _records(storm, flush=True)


def write(storm: Storm) -> None:
    """`exit_code` and `write`, by turns."""
    _records(storm, flush=False)


def _reads(storm: Storm, draw: Callable[[Any, random.Random], List[Any]], exposed: bool) -> None:
    """Read stdout in some way, while stderr floods; both are the beginning of what is written."""
    chance = random.Random(2)
    found: List[bytes] = []
    with Process(_python(_LINES), stdin=DEVNULL) as process:
        if exposed:
            process.stdout.fileno()
        while not storm.over:
            found += storm.attempt(*draw(process.stdout, chance))
        process.terminate()
    data = b"".join([each or b"" for each in found])
    _check_lines(storm, "stdout", data + process.output())
    _check_lines(storm, "stderr", process.error())
    storm.expect("exit code", process.exit_code, -signal.SIGTERM)


def readline(storm: Storm) -> None:
    """Line by line."""
    _reads(storm, lambda stream, _: [stream.readline], exposed=False)


def read(storm: Storm) -> None:
    """In pieces of many sizes."""

    def draw(stream: Any, chance: random.Random) -> List[Any]:
        return [
            chance.choice((stream.read, stream.read1)),
            chance.choice((1, 100, 5000, 70_000, 300_000)),
        ]

    _reads(storm, draw, exposed=False)


def read_by_descriptor(storm: Storm) -> None:
    """Lines and pieces of a stream whose descriptor was asked for."""

    def draw(stream: Any, chance: random.Random) -> List[Any]:
        return chance.choice(
            ([stream.readline], [stream.read, 100], [stream.read, 70_000], [stream.read1, 5000])
        )

    _reads(storm, draw, exposed=True)


def _gated(storm: Storm, wait: Callable[[Process], Callable[[], Any]]) -> None:
    """Calls that wait for a child which ends when its stdin is closed."""
    while not storm.over:
        with Process(_python(_GATED), stdin=PIPE) as process:
            call = wait(process)
            for _ in range(20):
                storm.attempt(call)
            storm.insist(process.stdin.close)
            storm.insist(call)
            storm.insist(process.join)
            storm.expect("exit code", process.exit_code, 7)
        storm.expect("stdout", process.output(), _GATED_OUTPUT)
        storm.expect("stderr", process.error(), _GATED_OUTPUT)


def join(storm: Storm) -> None:
    """`join` without a limit."""
    _gated(storm, lambda process: process.join)


def output(storm: Storm) -> None:
    """`output`, which gathers."""
    _gated(storm, lambda process: process.output)


def error(storm: Storm) -> None:
    """`error`, which gathers as well."""
    _gated(storm, lambda process: process.error)


def exit_code(storm: Storm) -> None:
    """`exit_code`, again and again, until it is there."""

    def wait(process: Process) -> Callable[[], Any]:
        return lambda: process.exit_code

    _gated(storm, wait)


def _run_once(process: Process) -> None:
    with contextlib.suppress(ProcessAlreadyRunError):
        process.run()


def run(storm: Storm) -> None:
    """Starts that are interrupted leave nothing, and can be done again."""
    while not storm.over:
        process = Process(["cat"], stdin=b"input")

        storm.insist(_run_once, process)
        storm.expect("output", process.output(), b"input")
        process.close()
        storm.expect("exit code", process.exit_code, 0)


def close(storm: Storm) -> None:
    """`close` keeps what was written, and ends the child."""
    while not storm.over:
        process = Process(_python(_GATED), stdin=PIPE).run()
        data = process.stdout.read(1000)
        storm.insist(process.close)
        data += process.output()
        storm.expect("stdout", data, _GATED_OUTPUT[: len(data)])
        storm.expect("exit code", process.exit_code, -signal.SIGTERM)


def leave(storm: Storm) -> None:
    """Leaving the block keeps everything."""
    while not storm.over:
        process = Process(_python(_GATED), stdin=PIPE).run()
        storm.insist(process.__exit__, None, None, None)
        storm.expect("stdout", process.output(), _GATED_OUTPUT)
        storm.expect("stderr", process.error(), _GATED_OUTPUT)
        storm.expect("exit code", process.exit_code, 7)


def hand_over(storm: Storm) -> None:
    """A pipeline that is read, and whose ends are interrupted."""
    while not storm.over:
        data = b"0123456789" * 50_000
        first = Process(["cat"], stdin=data).run()
        head = storm.insist(first.stdout.read, 10) if storm.chance.random() < 0.5 else b""
        # In peace: a receiver that is ended again may have read something.
        second = Process(["cat"], stdin=first.stdout).run()
        storm.insist(first.__exit__, None, None, None)
        storm.expect("output", storm.insist(second.output), data[len(head) :])
        storm.insist(second.close)
        storm.expect("exit codes", (first.exit_code, second.exit_code), (0, 0))


#: The calls that storms are around.
WORKS: Dict[str, Callable[[Storm], None]] = {
    work.__name__: work
    for work in (
        write_and_flush,
        write,
        readline,
        read,
        read_by_descriptor,
        join,
        output,
        error,
        exit_code,
        run,
        close,
        leave,
        hand_over,
    )
}


#: Those that lose bytes where a result can be lost on its way: before Python 3.11, and on PyPy, a
#: handler may strike between a `return` and the caller's next instruction.
RETURNS_BYTES = frozenset({"readline", "read", "read_by_descriptor", "hand_over"})


def blow(name: str, seconds: float) -> Storm:
    """One storm around one kind of call."""
    Process(["true"]).run().close()  # imports what is needed in peace
    before = _count()
    storm = Storm(seconds)
    # What a handler raises in a callback of the collector is lost, and those are not ours.
    callbacks: List[Any] = getattr(gc, "callbacks", [])  # PyPy has none
    foreign, callbacks[:] = list(callbacks), []
    try:
        with storm.blowing():
            WORKS[name](storm)
    finally:
        callbacks[:] = foreign
    deadline = time.monotonic() + _PATIENCE
    while True:
        gc.collect()
        left = [now - then for then, now in zip(before, _count())]
        if max(left) <= 0 or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if max(left) > 0:
        storm.problems.append("left behind: {} descriptors, {} threads, {} children".format(*left))
    return storm


def _count() -> List[int]:
    directory = Path("/proc/self/fd")
    numbers = list(directory.iterdir()) if directory.is_dir() else []
    children = 0
    if hasattr(os, "waitid"):  # which does not reap
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            children = 1
    return [len(numbers), threading.active_count(), children]


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `storms` to the command line."""
    parser = commands.add_parser("storms", help="signal handlers that raise, all the time")
    _add_options(parser)
    parser.set_defaults(run=_run)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="of each (default: 10)")
    parser.add_argument("--only", choices=list(WORKS), action="append", help="these only")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds more until one has hung (default: 60)"
    )


def _run(options: argparse.Namespace) -> int:
    if os.name != "posix":
        print("There are no such signals here.")
        return 1
    bad = 0
    for name in options.only or WORKS:
        command = [sys.executable, "-X", "faulthandler", "-m", __name__, "--only", name]
        if __name__ == "__main__":
            command[4] = "stress.storms"
        command += ["--seconds", str(options.seconds), "--limit", str(options.limit), "--here"]
        bad += subprocess.run(command, check=False).returncode != 0
    return 1 if bad else 0


def main(arguments: Sequence[str]) -> int:
    """Do as the command line says: each storm in a process of its own, or one here."""
    import faulthandler

    parser = argparse.ArgumentParser()
    _add_options(parser)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.here:
        return _run(options)
    bad = 0
    for name in options.only:
        faulthandler.dump_traceback_later(options.seconds + options.limit, exit=True)
        storm = blow(name, options.seconds)
        faulthandler.cancel_dump_traceback_later()
        print(
            f"{name}: {storm.strikes:,} exceptions", *storm.problems[:20], sep="\n    ", flush=True
        )
        bad += bool(storm.problems)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
