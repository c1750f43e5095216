"""The rest of a state, all of it tuples: pipes, the child, the threads and the callers."""

from typing import Any, NamedTuple, Optional, Tuple

from stress.explore.world import Call


class Pipe(NamedTuple):
    data: bytes = b""
    #: Whether there is still a writer, and a reader.
    writer: bool = True
    reader: bool = True
    #: Another process reads it, not this library.
    handed_over: bool = False


class Child(NamedTuple):
    alive: bool = True
    #: The stream on which it blocks: to read stdin, or to write one of the others.
    blocked: Optional[int] = None
    #: The number of bytes it has read from stdin, and written to stdout and to stderr.
    moved: Tuple[int, int, int] = (0, 0, 0)
    #: It has seen the end of stdin.
    eof: bool = False
    #: It was sent a signal, which may end it at any time.
    signalled: bool = False


class Thread(NamedTuple):
    """The thread of a stream; the fields of `process.threads._thread.StreamThread`."""

    #: As others see it: NEW, MOVING, STANDING_BY, SLEEPING or ENDED.
    state: str = "NEW"
    #: What comes next: choose, decide, read or write, record, spill, refill, wait for the pipe,
    #: sleep, close; done.
    at: str = "choose"
    #: Bytes in flight.
    data: bytes = b""
    #: Bytes that it may move.
    size: float = 0
    #: Bytes that may be held after the next read.
    cap: float = 0
    busy: bool = False
    #: The pipe was found empty, or full: the thread waits before it reads or writes again.
    blocked: bool = False
    active: bool = True
    alarm: bool = False
    #: The wake-up descriptor is readable.
    woken: bool = False
    stopping: bool = False
    #: The caller that has the claim, and the one that wants it.
    owner: Optional[int] = None
    request: Optional[int] = None


class Caller(NamedTuple):
    #: How many calls it may still make.
    left: int
    call: Optional[Call] = None
    #: What is still to be done in this call.
    program: Tuple[Call, ...] = ()
    #: Whether it waits: asleep; timed (asleep, with a time limit); polls (the pipe, with the
    #: claim); loops (a loop of polls); or woken.
    wait: str = ""
    #: Whether what it waits for are bytes of a stream that it reads.
    own: bool = True
    #: The streams that it collects.
    collects: Tuple[int, ...] = ()


class State(NamedTuple):
    core: int
    pipes: Tuple[Optional[Pipe], ...]
    child: Child
    threads: Tuple[Optional[Thread], ...]
    callers: Tuple[Caller, ...]
    #: Bytes handed over for stdin, and bytes of stdout and stderr that callers have got.
    passed: Tuple[int, int, int]
    #: How much polls have allowed each stream to hold.
    allowed: Tuple[int, int, int] = (0, 0, 0)
    #: The monitor knows that the process has ended.
    ended: bool = False


#: What happens, whether it counts as a move, and where it leads.
Step = Tuple[str, bool, State]


def replaced(row: Tuple[Any, ...], index: int, item: Any) -> Tuple[Any, ...]:
    """`row` with another item in one place."""
    return (*row[:index], item, *row[index + 1 :])


def there(thing: Any) -> Any:
    """A thread or a pipe that the world is known to have."""
    assert thing is not None
    return thing
