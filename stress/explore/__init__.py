"""Every interleaving of a small world, visited.

Theory of operation. The core is pure, so a world that is small enough can be walked through
completely: pipes that hold one or two bytes, a child that may read, write and exit in any order,
the thread of each stream, and callers that call anything, stop waiting whenever they wait, and are
torn out of their waits. Where threads take turns in reality, the search takes every turn there is,
breadth first, so that the first violation it finds has the shortest way there.

What is real and what is modelled. Flow, streams, fronts, endings and overflow are the library's own
objects, with tiny bounds. Threads and callers are rewritten here as what they do between two points
where another thread may come in: a section under the lock, one system call, one wait. They follow
`process.threads` line by line and have to be changed with it. A wait is modelled as it is: the
thread, or the caller, moves on only when it is woken or when its pipe becomes ready. That callers
look again after a second (`LOOK_AGAIN`) is left out, so that a lost wake-up shows.

1. The thread of a stream is NEW, MOVING, STANDING_BY, SLEEPING or ENDED. It, or one caller, has the
   claim.
2. A caller reads and writes directly where it may, and polls the pipe with the claim.
3. A caller takes from the front of a stream without the lock.
4. A caller may hand a stream over to another process, which then reads the pipe; and it may wait
   for a process that is connected with this one (`Flow.connect`).

Not modelled are the relay, signal handlers that call, and pipes that cannot be polled.

What is looked for:

- stuck: a caller waits, and nothing can move. A caller that stops waiting, a signal from outside
  and what a grandchild might do do not count as moves. Two waits are the caller's own business: for
  a child that reads its stdin, has read everything that was written and is to get more; and a plain
  read from a pipe that a grandchild holds open.
- bound: a stream is read beyond the bound, or beyond what the waiting callers have asked for, while
  no caller obliges it to hold more.
- order: a byte comes twice, or not in its turn.
- lost: a byte is neither in a pipe, nor held, nor delivered.
- end: end of stream before the last byte.
- asleep: no caller calls, and a thread sleeps though it could move.

How it is fast. The real objects are mutable and slow to copy. So each state of them is kept once
and known by a number, and what a section under the lock does to it is computed once. The rest of a
state is tuples.
"""

from stress.explore.core import Core as _Core
from stress.explore.search import explore
from stress.explore.world import STDERR, STDIN, STDOUT, Call, Result, Shell, Violation, World
from stress.explore.worlds import WORLDS

__all__ = [
    "STDERR",
    "STDIN",
    "STDOUT",
    "WORLDS",
    "Call",
    "Result",
    "Shell",
    "Violation",
    "World",
    "_Core",
    "explore",
]
