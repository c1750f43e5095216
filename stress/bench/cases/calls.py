"""One call of a stream or a process."""

import io
import os
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from itertools import islice
from subprocess import DEVNULL, PIPE
from typing import (
    IO,
    Any,
    Callable,
    ContextManager,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
    cast,
)

from process import Process
from stress.bench import calls
from stress.bench.calls import Block
from stress.bench.cases import true
from stress.bench.payload import PAGES, check_pages

#: Bytes of a large call; a small one has 100, as a line has.
_LARGE = 65536

Child = Union[Process, "subprocess.Popen[bytes]"]


def ours(
    arguments: List[str],
    stdin: Optional[int] = None,
    stdout: Union[int, IO[bytes], None] = None,
    buffer_size: Optional[int] = None,
) -> Process:
    """Start a child with this library."""
    return Process(arguments, stdin, stdout, None, buffer_size)


def theirs(
    arguments: List[str],
    stdin: Optional[int] = None,
    stdout: Union[int, IO[bytes], None] = None,
    buffer_size: Optional[int] = None,
) -> "subprocess.Popen[bytes]":
    """Start a child with the standard library."""
    bufsize = -1 if buffer_size is None else buffer_size
    return subprocess.Popen(arguments, bufsize, stdin=stdin, stdout=stdout)


#: One of the two, as sessions see them.
Start = Callable[..., ContextManager[Child]]


def _itself(stream: Any) -> Any:
    return stream


def _exposed(stream: Any) -> Any:
    """The stream, whose descriptor has been asked for."""
    stream.fileno()
    return stream


@contextmanager
def reading(
    start: Start,
    step: Callable[[Any, int], Tuple[int, bytes]],
    prepare: Callable[[Any], Any] = _itself,
    buffer_size: Optional[int] = None,
) -> Iterator[Block]:
    """A session of calls that read from a child that never ends.

    Args:
        start: with which library.
        step: makes the calls on the stream; returns how many bytes they took, and the last of them.
        prepare: makes of the stream what `step` is given.
        buffer_size: that of the stream.
    """
    end = 0
    with start(PAGES, None, PIPE, buffer_size) as child:
        stream = prepare(child.stdout)

        def block(count: int) -> None:
            nonlocal end
            size, last = step(stream, count)
            end += size
            check_pages(end, last)

        yield block
        child.kill()


@contextmanager
def writing(
    start: Start,
    step: Callable[[Any, int], int],
    prepare: Callable[[Any], Any] = _itself,
    buffer_size: Optional[int] = None,
) -> Iterator[Block]:
    """A session of calls that write to a child that counts what it reads; else as `reading`."""
    written = 0
    with tempfile.TemporaryFile() as file:
        with start(["wc", "-c"], PIPE, file, buffer_size) as child:
            stream = prepare(child.stdin)

            def block(count: int) -> None:
                nonlocal written
                written += step(stream, count)

            yield block
        file.seek(0)
        calls.check_amount(int(file.read()), written)


@contextmanager
def _conversing(start: Start) -> Iterator[Block]:
    with start(["cat"], PIPE, PIPE) as child:
        stdin, stdout = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)

        def block(count: int) -> None:
            for number in range(count):
                message = b"message %d\n" % number
                stdin.write(message)
                stdin.flush()
                answer = stdout.readline()
                if answer != message:
                    raise ValueError(f"the answer to {message!r} is {answer!r}")

        yield block


def _read(stream: "io.BufferedReader", count: int, size: int) -> Tuple[int, bytes]:
    data = b""
    for _ in range(count):
        data = stream.read(size)
    return count * size, data


def _read_up_to(stream: "io.FileIO", count: int, size: int) -> Tuple[int, bytes]:
    total, data = 0, b""
    for _ in range(count):
        data = stream.read(size)
        total += len(data)
    return total, data


def _read1(stream: "io.BufferedReader", count: int, size: int) -> Tuple[int, bytes]:
    total, data = 0, b""
    for _ in range(count):
        data = stream.read1(size)
        total += len(data)
    return total, data


def _readinto(stream: "io.BufferedReader", count: int) -> Tuple[int, bytes]:
    total, place = 0, bytearray(_LARGE)
    for _ in range(count):
        total += stream.readinto(place)
    return total, bytes(place)


def _readline(stream: "IO[bytes]", count: int) -> Tuple[int, bytes]:
    line = b""
    for _ in range(count):
        line = stream.readline()
    return count * len(line), line


def _iterate(stream: "IO[bytes]", count: int) -> Tuple[int, bytes]:
    line = b""
    for line in islice(stream, count):  # noqa: B007 - the last one is wanted
        pass
    return count * len(line), line


def _iterate_text(stream: "io.TextIOWrapper", count: int) -> Tuple[int, bytes]:
    line = ""
    for line in islice(stream, count):  # noqa: B007 - the last one is wanted
        pass
    return count * len(line), line.encode()


def _read_bytes(stream: "IO[bytes]", count: int) -> Tuple[int, bytes]:
    data, descriptor = b"", stream.fileno()
    for _ in range(count):
        data = os.read(descriptor, 1)
    return count, data


def _write(stream: "IO[bytes]", count: int, size: int) -> int:
    data, total = bytes(size), 0
    for _ in range(count):
        total += stream.write(data)
    return total


def _write_and_flush(stream: "IO[bytes]", count: int, size: int) -> int:
    data, total = bytes(size), 0
    for _ in range(count):
        total += stream.write(data)
        stream.flush()
    return total


@contextmanager
def _running() -> Iterator[Block]:
    with Process(["cat"], PIPE, DEVNULL, None) as child:

        def block(count: int) -> None:
            running = False
            for _ in range(count):
                running = child.running
            if not running:
                raise ValueError("a child that runs is said not to")

        yield block


@contextmanager
def _polling() -> Iterator[Block]:
    with subprocess.Popen(["cat"], stdin=PIPE, stdout=DEVNULL) as child:

        def block(count: int) -> None:
            exit_code: Optional[int] = 0
            for _ in range(count):
                exit_code = child.poll()
            if exit_code is not None:
                raise ValueError("a child that runs is said not to")

        yield block


@contextmanager
def _starting(start: Callable[[int], true.Ends]) -> Iterator[Block]:
    def block(count: int) -> None:
        if not true.intact(count, start(count)):
            raise ValueError("a child has not ended as it should")

    yield block


class _Call(NamedTuple):
    """A row of the table below."""

    name: str
    job: str
    allowed: float
    sessions: Tuple[calls.Session, calls.Session]
    against: str = "the same with Popen"


def _both(
    session: Callable[..., ContextManager[Block]], *rest: Any, **more: Any
) -> Tuple[calls.Session, calls.Session]:
    """Two sessions of calls that differ in nothing but the object."""
    return partial(session, ours, *rest, **more), partial(session, theirs, *rest, **more)


_CALLS = (
    _Call(
        "true-pinned",
        "/bin/true, both outputs captured",
        1.20,
        (partial(_starting, true.ours), partial(_starting, true.theirs)),
        "subprocess.run(capture_output=True)",
    ),
    _Call("round-trip", "write, flush and readline with cat", 2.5, _both(_conversing)),
    _Call("readline", "readline(), lines of 100 bytes", 2.5, _both(reading, _readline)),
    _Call("next-line", "the next line of an iteration", 1.2, _both(reading, _iterate)),
    _Call(
        "next-text-line",
        "the next line of a TextIOWrapper",
        1.5,
        _both(reading, _iterate_text, io.TextIOWrapper),
    ),
    _Call("read-100", "read(100)", 2.5, _both(reading, partial(_read, size=100))),
    _Call("read1-100", "read1(100)", 1.5, _both(reading, partial(_read1, size=100))),
    _Call("read-64k", "read(65536)", 1.3, _both(reading, partial(_read, size=_LARGE))),
    _Call("readinto-64k", "readinto(65536 bytes)", 1.3, _both(reading, _readinto)),
    _Call("write-100", "write(100 bytes)", 2.5, _both(writing, partial(_write, size=100))),
    _Call(
        "write-flush",
        "write(100 bytes) and flush()",
        4.0,
        _both(writing, partial(_write_and_flush, size=100)),
    ),
    _Call("write-64k", "write(65536 bytes)", 1.5, _both(writing, partial(_write, size=_LARGE))),
    _Call(
        "unbuffered-read",
        "read(100), unbuffered",
        4.0,
        _both(reading, partial(_read_up_to, size=100), buffer_size=0),
        "the same with Popen(bufsize=0)",
    ),
    _Call(
        "unbuffered-write",
        "write(100 bytes), unbuffered",
        4.0,
        _both(writing, partial(_write, size=100), buffer_size=0),
        "the same with Popen(bufsize=0)",
    ),
    _Call("running", "running", 4.0, (_running, _polling), "Popen.poll()"),
    _Call(
        "fileno-readline",
        "readline() after fileno(), lines of 100 bytes",
        30.0,
        (
            partial(reading, ours, _readline, _exposed),
            partial(reading, theirs, _read_bytes, _exposed),
        ),
        "os.read of one byte",
    ),
    _Call(
        "fileno-write",
        "write(65536 bytes) after fileno()",
        2.0,
        _both(writing, partial(_write, size=_LARGE), _exposed),
    ),
)

CASES = tuple(
    calls.case(
        name=call.name,
        module=__name__,
        group="calls",
        job=call.job,
        ours=call.sessions[0],
        theirs=call.sessions[1],
        against=call.against,
        allowed=call.allowed,
    )
    for call in _CALLS
)
