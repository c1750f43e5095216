"""What a reading call of a stream asks for, as a decision about the bytes at hand.

All reading calls are the same loop: decide, take or wait, repeat. They differ in the decision.
No I/O, no event loop here.
"""

import asyncio
import math
from typing import Tuple

from process.core._buffer import Buffer
from process.core._flow import BOUND


class ReadOperation:
    """One reading call.

    Args:
        least: how many bytes must be held before the call can return, except at end of file.
        most: how many bytes the call returns at most.
        separators: if there are any, the call returns the bytes up to the end of the first one;
            `least` is infinite then, since nobody knows how many they are.
        strict: whether it is an error if the stream ends first.
    """

    __slots__ = ("_most", "_separators", "_strict", "large", "least")

    def __init__(
        self,
        least: float = math.inf,
        most: float = math.inf,
        separators: Tuple[bytes, ...] = (),
        strict: bool = False,
    ) -> None:
        self.least = least
        #: Whether the bytes are to be gathered for the caller, rather than held until they are all
        #: there.
        self.large = least > BOUND and not separators
        self._most = most
        self._separators = separators
        self._strict = strict

    def size(self, buffer: Buffer) -> int:
        """How many bytes of `buffer` to take; -1 if more must arrive first, or end of file."""
        if len(self._separators) == 1:
            return buffer.find(self._separators[0])
        if self._separators:
            sizes = [size for size in map(buffer.find, self._separators) if size >= 0]
            return min(sizes) if sizes else -1
        held = len(buffer)
        return int(min(held, self._most)) if held >= self.least else -1

    def check(self, data: bytes) -> None:
        """See whether `data`, which the call is about to return, is what it was asked for.

        Raises:
            IncompleteReadError: the stream has ended first. The error has the bytes.
        """
        if not self._strict:
            return
        if self._separators:
            if not data.endswith(self._separators):
                raise asyncio.IncompleteReadError(data, None)
        elif len(data) < self.least:
            raise asyncio.IncompleteReadError(data, int(self.least))


#: `readline()`.
LINE = ReadOperation(separators=(b"\n",))

#: `read()`.
ALL = ReadOperation()
