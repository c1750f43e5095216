"""Numbered lines of various lengths: what the children of the soak write, and what is expected.

`python lines.py [COUNT]` writes them to stdout and, under other numbers, to stderr, in turn, block
by block; without COUNT for ever.
"""

import os
import sys
from typing import List

#: Lines that are written at once to one stream, before it is the other one's turn.
BLOCK = 1000
#: The numbers on stderr begin here.
STDERR = 10**12

_PADDING = b"x" * 97


def line(number: int) -> bytes:
    """The line of that number."""
    return b"%d %s\n" % (number, _PADDING[: number % 97])


def block(first: int) -> bytes:
    """A block of lines."""
    return b"".join([line(number) for number in range(first, first + BLOCK)])


def command(blocks: int = -1) -> List[str]:
    """How to start a child that writes that many blocks; negative: for ever."""
    return [sys.executable, "-S", "-E", os.path.abspath(__file__), str(blocks)]  # noqa: PTH100


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main(blocks: int) -> None:
    """Write lines."""
    first = 0
    while blocks:
        _write(1, block(first))
        _write(2, block(STDERR + first))
        first += BLOCK
        blocks -= 1


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except OSError:  # there is no reader any more
        os._exit(1)
