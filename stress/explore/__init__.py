"""Every interleaving of a small world, visited.

Theory of operation. The core is pure, so a world that is small enough can be walked through
completely: pipes that hold one or two bytes, a child that may read, write, close and exit in any
order, the pumps, and callers who call anything and may stop waiting whenever they wait. Where
threads take turns in reality, the search takes every turn there is, breadth first, so that the
first violation it finds has the shortest way there.

What is real and what is modelled. Flow, streams, endings and overflow are the library's own
objects, with tiny bounds. Pumps and callers are rewritten here as what they do between two points
where another thread may come in: a section under the lock, one system call, one wait. They follow
`process._pump`, `process._source`, `process._sink` and `process._child` line by line and have to be
changed with them. A wait is modelled as it is: who waits moves on only when he is rung, when he is
released, or when his pipe becomes ready, so that a forgotten wake-up shows.

What is looked for:

- stuck: a caller waits, and nothing can move. The caller's own impatience, a signal from outside
  and what a grandchild might do do not count as moves. Two waits are the caller's own business: for
  a child that reads its stdin, has got everything he has written and is to get more; and a plain
  read from a pipe that a grandchild holds open.
- bound: a pump reads beyond the bound, or beyond what the callers who wait have asked for, while
  nobody obliges it to.
- order: a byte comes twice, or not in its turn.
- lost: a byte is neither in a pipe, nor held, nor delivered.
- end: end of stream before the last byte.
- asleep: nobody calls, and a pump rests though it may move.

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
