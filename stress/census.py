"""The descriptors, threads and children of this process. Taken before and after, it shows leaks."""

import gc
import os
import threading
import time
from typing import Any, List, NamedTuple

import psutil

#: Seconds for what was released to end: a thread to exit, a child to be reaped.
PATIENCE = 1.0


class Census(NamedTuple):
    """How much of each there is."""

    descriptors: int
    threads: int
    #: Running ones and zombies.
    children: int


def take() -> Census:
    """Count. Windows has handles in place of descriptors."""
    me: Any = psutil.Process()  # what it has depends on the platform
    descriptors = me.num_fds() if os.name == "posix" else me.num_handles()
    return Census(descriptors, threading.active_count(), len(me.children()))


def growth(before: Census, after: Census) -> List[str]:
    """What has leaked, in words."""
    return [
        f"{name} +{now - then}"
        for name, then, now in zip(Census._fields, before, after)
        if now > then
    ]


def settle(before: Census, patience: float = PATIENCE) -> List[str]:
    """Wait until everything that was added since `before` is gone; return what is left."""
    deadline = time.monotonic() + patience
    while True:
        gc.collect()
        left = growth(before, take())
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)
