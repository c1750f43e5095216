"""Descriptors that belong to the library.

A descriptor is a number, and the kernel gives a closed number out again at once. Whoever closes a
number twice, or reads one that somebody else has closed, reads or closes a file that belongs to
someone else. So every descriptor has one owner, a `Descriptor`, which closes it exactly once and is
-1 from then on. A descriptor that several threads use is closed when the last of them lets go of
its owner: whoever is about to poll it refers to the owner, and so it cannot be closed under him,
and whoever is interrupted lets go of it all the same.

A fork inherits every descriptor. The forked copy of a stdin pipe would keep the child from ever
seeing end of file, so all of them are closed in a process that the caller forks.
"""

import os
import weakref
from collections import deque
from itertools import chain, islice
from typing import Any, Callable, ClassVar, Dict, List, Tuple


class Descriptor:
    """Owner of one descriptor.

    Making the descriptor and noting its number, or taking that out and closing it, happens inside
    one call into C, so that neither an exception from a signal handler nor a second thread can come
    between the two.
    """

    __slots__ = ("__weakref__", "_number")

    #: Those that own one, for forks.
    owners: ClassVar[Dict[int, "weakref.ref[Descriptor]"]] = {}

    def __init__(self) -> None:
        self._number: List[int] = []
        self.owners[id(self)] = weakref.ref(self)

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

    def fileno(self) -> int:
        """The number, or -1 once closed."""
        number = self._number
        try:
            return number[0]
        except IndexError:
            return -1

    def close(self) -> None:
        """Close it, unless that has been done."""
        self.owners.pop(id(self), None)
        try:
            deque(map(os.close, islice(iter(self._number.pop, None), 1)), maxlen=0)
        except IndexError:
            pass  # nothing to take out

    def __del__(self) -> None:
        try:
            if self._number or id(self) in self.owners:
                self.close()
        except AttributeError:
            pass  # an exception has struck before there was anything to own; or the interpreter
            # has emptied this module, and is about to end


def _close_all_after_fork() -> None:
    for reference in list(Descriptor.owners.values()):
        descriptor = reference()
        try:
            if descriptor is not None:
                descriptor.close()
        except OSError:  # closed behind our back; in a fork that is not worth a word
            pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all_after_fork)
