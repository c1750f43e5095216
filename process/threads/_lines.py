"""Iteration over the lines of a stream, each line at the speed of C."""

import io
import weakref
from collections import deque
from itertools import chain, repeat
from typing import Callable, Deque, Iterator, Optional

from process.threads._source import Source


def next_line_of(source: Source) -> Callable[[], bytes]:
    """The method `__next__` of an iterator over the lines of the stream."""
    if source.has_fronts:
        return _iterate_batches(source).__next__

    def next_line() -> bytes:
        line = source.read_line(-1)
        if not line:
            raise StopIteration
        return line

    return next_line


class _Batches:
    """Makes an iterator of lines out of batches of lines; see `_iterate_batches`."""

    def __init__(self, source: Source, queue: "_Queue") -> None:
        self._source = source
        #: Weak: the queue refers to us.
        self._queue = weakref.ref(queue)

    def waits(self) -> Iterator[bytes]:
        """An iterator of nothing that waits until there is another batch."""
        return map(self._wait, repeat(None))

    def _wait(self, _: None) -> bytes:
        batch: Optional[io.BytesIO] = None
        if self._pending():
            raise StopIteration
        try:
            batch = self._source.batch()
            queue = self._queue()
            if queue is None:  # the lines have come to an end in the meantime
                self._source.unread_batch(batch)
            elif batch.getvalue():
                queue.extendleft((self.waits(), batch))
            else:
                queue.append(None)
        except BaseException:
            if batch is not None:
                # What the queue has of it is empty then, or is the front.
                self._source.unread_batch(batch)
            raise
        raise StopIteration

    def _pending(self) -> bool:
        """Whether there is a batch that another call has taken, and not come to.

        If so, put something behind it that waits, for the call that comes to it first.
        """
        queue = self._queue()
        try:
            if queue is None or not isinstance(queue[0], io.BytesIO):
                return False
            queue.append(self.waits())
            return True
        except IndexError:  # there is nothing in the queue
            return False


_Queue = Deque[Optional[Iterator[bytes]]]


def _iterate_batches(source: Source) -> Iterator[bytes]:
    """The lines of batch after batch.

    For a line only `chain`, a `BytesIO`, and in between a `map` that waits, are run: all written in
    C, so no line is lost between them. The wait can be interrupted, by an exception or by a handler
    that wants a line itself, and other threads may wait as well. So

    - the wait is in the iterator that `chain` is at, and not in the one that it gets those from: an
      error in the former is passed on, and the next call begins there again; an error in the latter
      would be the end of it.
    - It is not a generator, which cannot be entered twice.
    - What comes next lies in a queue which always ends in something that waits, or in the end. A
      second batch is put in front of one that is there already, and the wait between the two does
      not begin while that one is next.
    - Each call whose wait is over takes something out of the queue. So each puts something in that
      waits, even if there is a batch: others may take that, and what follows it, before.
    """
    queue: _Queue = deque()
    queue.append(_Batches(source, queue).waits())
    return chain.from_iterable(iter(queue.popleft, None))
