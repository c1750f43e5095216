"""The rest of a state: pipes, the child, where pumps and callers have got to. All of it tuples."""

from typing import Any, NamedTuple, Optional, Tuple

from stress.explore.world import Call


class Pipe(NamedTuple):
    data: bytes = b""
    #: Whether somebody can still write, and read.
    writer: bool = True
    reader: bool = True


class Child(NamedTuple):
    alive: bool = True
    #: The stream on which it blocks: to read stdin, or to write one of the others.
    blocked: Optional[int] = None
    #: The number of bytes it has read from stdin, and written to stdout and to stderr.
    moved: Tuple[int, int, int] = (0, 0, 0)
    #: It has seen the end of stdin.
    eof: bool = False
    #: Somebody has sent a signal, which may end it at any time.
    signalled: bool = False


class Pump(NamedTuple):
    #: What comes next: decide, read or write, record, spill, refill, wait, end; done.
    at: str = "decide"
    #: Bytes in hand.
    data: bytes = b""
    #: Bytes that it may move.
    size: float = 0
    #: Bytes that may be held after the next read.
    cap: float = 0
    waits: bool = False
    waits_for_room: bool = False
    #: Whether the pipe ends the wait as well.
    ready: bool = False
    busy: bool = False
    rung: bool = False
    stopping: bool = False
    #: The end of the process, reported once, has been.
    told: bool = False


class Caller(NamedTuple):
    #: How many calls he may still make.
    left: int
    call: Optional[Call] = None
    #: What is still to be done in this call.
    program: Tuple[Call, ...] = ()
    #: Whether he waits: enrolled, or with a time limit (timed), or released.
    wait: str = ""
    #: Whether what he waits for are bytes of a stream that he reads.
    own: bool = True
    #: The streams that he collects.
    collects: Tuple[int, ...] = ()


class State(NamedTuple):
    core: int
    pipes: Tuple[Optional[Pipe], ...]
    child: Child
    pumps: Tuple[Optional[Pump], ...]
    callers: Tuple[Caller, ...]
    #: Bytes handed over for stdin, and bytes of stdout and stderr that callers have got.
    passed: Tuple[int, int, int]
    #: How much polls have allowed each stream to hold.
    allowed: Tuple[int, int, int] = (0, 0, 0)


#: What happens, whether it counts as a move, and where it leads.
Step = Tuple[str, bool, State]


def replaced(row: Tuple[Any, ...], index: int, item: Any) -> Tuple[Any, ...]:
    """`row` with another item in one place."""
    return (*row[:index], item, *row[index + 1 :])


def there(thing: Any) -> Any:
    """A pump or a pipe that the world is known to have."""
    assert thing is not None
    return thing
