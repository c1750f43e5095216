"""Plays rounds in this process, one after the other; `watch` starts such processes.

Writes a line of JSON about each round to stdout. A round that takes too long is a hang: the stacks
of all threads are written to stderr, and the process ends.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import os
import sys
import threading
import time
import traceback
import warnings
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

#: Who runs a child: the synchronous variant, or the asyncio one on one of the loops.
SYNC, ASYNCIO, UVLOOP = "sync", "asyncio", "uvloop"


class Played(NamedTuple):
    """The outcome of a round."""

    #: What was played, in words.
    plan: str
    variant: str
    #: How often what has happened.
    strikes: Dict[str, int]
    problems: List[str]


def variants() -> List[str]:
    """The variants that can be tested here."""
    try:
        import uvloop
    except ImportError:
        return [SYNC, ASYNCIO]
    uvloop.new_event_loop().close()  # the first one makes a pipe that stays for good
    return [SYNC, ASYNCIO, UVLOOP]


@contextlib.contextmanager
def running_loop(variant: str, problems: List[str]) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed at the end; its complaints are problems."""
    if variant == UVLOOP:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: problems.append(f"the loop says: {context}"))
    asyncio.set_event_loop(loop)
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def run_without_a_loop(work: Any) -> None:
    """Run a coroutine that has nothing to await."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("the synchronous variant has nothing to await")


@contextlib.contextmanager
def complaints(problems: List[str]) -> Iterator[None]:
    """What is raised where no caller can catch it is a problem."""
    hooks = sys.unraisablehook, threading.excepthook

    def complain(complaint: Any) -> None:
        kind, value, trace = complaint[:3] if isinstance(complaint, tuple) else _parts(complaint)
        problems.append("".join(traceback.format_exception(kind, value, trace)))

    sys.unraisablehook = complain
    threading.excepthook = complain
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks


def _parts(complaint: Any) -> Sequence[Any]:
    return complaint.exc_type, complaint.exc_value, complaint.exc_traceback


def main(arguments: Sequence[str], play: Callable[[int, int, List[str]], Played]) -> None:
    """Play the rounds that the command line asks for.

    Args:
        arguments: of the command line.
        play: plays one round, given the seed of the run, the number of the round, and the variants.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, nargs="+", required=True)
    parser.add_argument("--limit", type=float, required=True)
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")
    # Some rounds end streams by silence; and the warning about forks with threads is for programs
    # that do more in the fork.
    warnings.simplefilter("ignore", RuntimeWarning)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    there = variants()
    gc.collect()
    gc.freeze()
    for number in options.rounds:
        with contextlib.suppress(OSError):  # it is no file
            os.ftruncate(2, 0)  # what other rounds have said is of no interest
            os.lseek(2, 0, os.SEEK_SET)
        faulthandler.dump_traceback_later(options.limit, exit=True)
        begin = time.monotonic()
        played = play(options.seed, number, there)
        faulthandler.cancel_dump_traceback_later()
        found = {"round": number, "seconds": time.monotonic() - begin, **played._asdict()}
        print(json.dumps(found), flush=True)
