"""Worlds to explore, and what the search finds."""

import enum
import functools
import operator
from typing import Any, Callable, NamedTuple, NoReturn, Optional, Tuple

from process.core._flow import Flow
from process.core._inbound import Inbound
from process.core._outbound import Outbound

#: A call, or a part of one: its name and what it is given.
Call = Tuple[Any, ...]

STDIN, STDOUT, STDERR = 0, 1, 2
NAMES = ("stdin", "stdout", "stderr")
#: What passes through each stream: no byte twice, so that order shows.
PATTERNS = (b"0123456789", b"abcdefghij", b"ABCDEFGHIJ")


class Shell(enum.Flag):
    """The duties of threads and callers; tests leave one out to see that it is missed."""

    NOTHING = 0
    #: The thread or one caller has the claim.
    ONE_CLAIM = enum.auto()
    #: A caller has the claim only where it can read the pipe.
    CLAIM_TO_READ = enum.auto()
    #: A caller that waits for its turn to read gives up the claim.
    TURN_RELEASES = enum.auto()
    #: A caller that gives up the claim wakes the thread.
    RELEASE_TOUCHES = enum.auto()
    #: And the caller that wants the claim.
    RELEASE_NOTIFIES = enum.auto()
    #: When a caller is interrupted in its wait, the thread is woken.
    ABANDON_WAKES = enum.auto()
    #: The thread stands by for a limited time.
    STAND_BY_ENDS = enum.auto()
    #: A caller that begins to wait wakes the threads that can move for it.
    ENTER_WAKES = enum.auto()
    #: And those of connected processes.
    ENTER_NUDGES = enum.auto()
    #: A thread that has recorded bytes wakes the callers that can go on.
    RECORD_NOTIFIES = enum.auto()
    #: And those that have the number of bytes that they needed, and need more.
    MORE_NEEDED = enum.auto()
    #: A caller that waits for the end of a stream is known to the flow.
    COMPLETE_ENTERS = enum.auto()
    #: A caller that has taken bytes wakes the thread, which may have room.
    TAKE_TOUCHES = enum.auto()
    #: A caller that has handed over bytes wakes the thread.
    PUT_TOUCHES = enum.auto()
    #: Bytes between the pipe and the buffer count as in transit.
    BUSY = enum.auto()
    #: So do bytes between the pipe and the overflow.
    SPILL_BUSY = enum.auto()
    #: And bytes in the overflow, even after end of file.
    SPILLED = enum.auto()

    @classmethod
    def all(cls) -> "Shell":
        """Every duty."""
        return functools.reduce(operator.or_, cls)


class World(NamedTuple):
    """A world to be explored."""

    #: What callers may call; see `_program`.
    calls: Tuple[Call, ...]
    #: How many calls a caller makes, one after the other.
    length: int = 2
    callers: int = 1
    #: How many bytes the child may write to stdout and stderr; `None`: no pipe.
    stdout: Optional[int] = 2
    stderr: Optional[int] = None
    #: Whether stdin is a pipe.
    stdin: bool = False
    #: Bytes given for stdin in advance, after which it is closed.
    given: Optional[int] = None
    #: Bytes that a pipe takes.
    capacity: int = 1
    bound: int = 1
    #: Bytes in memory before the rest overflows. At least 2: a stream is refilled below half of it.
    memory: int = 2
    #: Bytes of small writes that are kept until the next flush.
    buffer: int = 0
    #: Whether the child may close its streams before it exits.
    closes: bool = False
    #: Whether the child may leave a grandchild that holds its stdout and stderr.
    grandchild: bool = False
    #: Whether another process of the library is connected with this one.
    receiver: bool = False
    shell: Shell = Shell.all()
    flow: Callable[[], Flow] = Flow
    inbound: Callable[[Flow, int, int], Inbound] = Inbound
    outbound: Callable[[int], Outbound] = Outbound


class Violation(NamedTuple):
    """A property that does not hold, and how to get there."""

    kind: str
    text: str
    trace: Tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n{number:4}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.kind}: {self.text}{steps}"


class Result(NamedTuple):
    """What a search has found."""

    #: How many different states were visited.
    states: int
    #: How many steps were taken between them.
    steps: int
    #: Whether these are all states.
    complete: bool
    violation: Optional[Violation]


class BrokenError(Exception):
    """A property does not hold."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


def broken(kind: str, text: str) -> NoReturn:
    raise BrokenError(kind, text)


def name_of(call: Call) -> str:
    """A call, in words."""
    return " ".join(map(str, call))
