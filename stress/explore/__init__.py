"""A search through every interleaving of a small world.

Theory of operation. The core is pure, so the states of a small world can be searched completely:
pipes that hold one or two bytes, a child that may read, write and exit in any order, the thread of
each stream, and callers that may make any call, stop waiting at any time, and be interrupted in
their waits. The search visits every order of events, breadth first, so the first violation that it
finds has a shortest path.

What is real and what is modelled. Flow, streams, fronts, endings and overflow are the library's own
objects, with tiny bounds. Threads and callers are modelled as what they do between two points where
another thread may run: a section under the lock, one system call, one wait. They follow
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
  and actions of a grandchild do not count as moves. Two waits are not violations: for a child that
  has read all that was written to its stdin and waits for more; and a plain read from a pipe that a
  grandchild holds open.
- bound: a stream is read beyond the bound, or beyond what the waiting callers have asked for, while
  no caller requires it to hold more.
- order: a byte comes twice, or out of order.
- lost: a byte is neither in a pipe, nor held, nor delivered.
- end: end of stream before the last byte.
- asleep: no caller calls, and a thread sleeps though it could move.

Speed. The real objects are mutable and slow to copy. So each of their states is stored once, with a
number, and the effect of a section under the lock on it is computed once. The rest of a state is
tuples.
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
