"""Waiting by polling, for what cannot wake a thread."""

import time
from typing import Callable

#: Seconds before the second check; what is about to happen has usually happened by then.
FIRST_PAUSE = 0.001

#: Seconds between two checks at most.
LONGEST_PAUSE = 0.05


def poll_until(holds: Callable[[], bool], timeout: float) -> bool:
    """Wait until `holds()`, or for `timeout` seconds. Return whether it holds.

    The pauses grow, but each is short and none is longer than what remains. So this ends at the
    timeout, or soon after the condition holds.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE
    while not holds():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(pause, remaining))
        pause = min(2 * pause, LONGEST_PAUSE)
    return True
