"""Descriptors that belong to the library.

A descriptor is a number, and the kernel reuses a closed number at once. Code that closes a number
twice, or reads one that was closed elsewhere, closes or reads another file. So every descriptor has
one owner, a `Descriptor`, which closes it exactly once and is -1 from then on. A descriptor that
several threads use is closed when the last reference to its owner is dropped: a thread that polls
it holds a reference, so it is not closed during the poll, and an interrupted thread drops its
reference, too.

A fork inherits every descriptor. The forked copy of a stdin pipe would keep the child from ever
seeing end of file, so all of them are closed in a process that the caller forks.
"""

import os
import weakref
from collections import deque
from functools import partial
from itertools import chain, islice
from typing import Any, Callable, ClassVar, Dict, Iterator, List, Tuple


def when_freed(thing: Any, calls: Iterator[object]) -> "weakref.ref[Any]":
    """Return a reference that makes the calls of `calls`, all in C, when `thing` is freed.

    In place of a finalizer in Python, in which a signal handler might run and raise, and the
    exception would be lost. `sum` makes the calls; the filter drops their results.
    """
    add_up: Any = sum
    return weakref.ref(thing, partial(add_up, filter(().__contains__, calls)))


class Descriptor:
    """Owner of one descriptor.

    To open a descriptor and store its number, or to remove the number and close it, is one call
    into C, so neither an exception from a signal handler nor another thread can interrupt it.
    """

    __slots__ = ("__weakref__", "_number")

    #: Those that own one, for forks.
    owners: ClassVar[Dict[int, "weakref.ref[Descriptor]"]] = {}

    def __init__(self) -> None:
        number: List[int] = []
        self._number = number
        # `close` removes the reference from `owners`; without the GIL it may live a little longer
        # (another thread decrements it later), and then there is nothing left to do.
        calls: Iterator[Any] = chain(
            map(os.close, number), map(self.owners.pop, (id(self),), (None,))
        )
        self.owners[id(self)] = when_freed(self, calls)

    @classmethod
    def own(cls, make: Callable[..., int], *arguments: Any) -> "Descriptor":
        """The owner of the descriptor that `make` makes of the arguments."""
        descriptor = cls()
        descriptor._number.extend(map(make, *zip(arguments)))
        return descriptor

    @classmethod
    def pipe(cls) -> "Tuple[Descriptor, Descriptor]":
        """The owners of the reading and the writing end of a new pipe."""
        ends = cls(), cls()
        numbers = chain.from_iterable(islice(iter(os.pipe, None), 1))
        deque(map(list[int].append, [end._number for end in ends], numbers), maxlen=0)
        return ends

    @classmethod
    def reserve(cls, count: int) -> None:
        """See that there are as many descriptors left, by making them; they are closed at once.

        Raises:
            OSError: there are fewer.
        """
        held = cls.own(os.open, os.devnull, os.O_RDONLY)
        try:
            held._number.extend(map(os.dup, held._number * (count - 1)))
        finally:
            del held  # an error refers to this frame

    def fileno(self) -> int:
        """The number, or -1 once closed."""
        number = self._number
        try:
            return number[0]
        except IndexError:
            return -1

    def close(self) -> None:
        """Close it, unless that has been done."""
        try:
            deque(map(os.close, islice(iter(self._number.pop, None), 1)), maxlen=0)
        except IndexError:
            pass  # it has been done
        self.owners.pop(id(self), None)  # last: until then it is closed when it is freed


def _close_all_after_fork() -> None:
    for reference in list(Descriptor.owners.values()):
        descriptor = reference()
        try:
            if descriptor is not None:
                descriptor.close()
        except OSError:  # closed by other code; in a fork that is no reason to raise
            pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all_after_fork)
