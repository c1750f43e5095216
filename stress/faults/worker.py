"""Plays rounds in this process: `python -m stress.faults.worker`, started by `watch`.

Writes a line of JSON about each round to stdout. A round that takes too long is a hang: the stacks
of all threads are written to stderr, and the process ends.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import sys
import threading
import time
import traceback
import warnings
from typing import Any, Dict, Iterator, List, Sequence

from stress import census
from stress.faults import company, interference, shortages
from stress.faults.ledger import Ledger
from stress.faults.plan import ASYNCIO, SYNC, UVLOOP, Plan, draw
from stress.faults.round import Round
from stress.faults.works import WORKS

#: Seconds that what a round has let go of has to go away: a dropped child may want SIGKILL.
PATIENCE = 10.0

#: Below this many children are run in a round.
CHILDREN = 8

_FAULTS: Dict[str, Any] = {
    fault.name: fault for fault in (*interference.FAULTS, *shortages.FAULTS, *company.FAULTS)
}


def variants() -> List[str]:
    """The variants that there are here."""
    try:
        import uvloop
    except ImportError:
        return [SYNC, ASYNCIO]
    uvloop.new_event_loop().close()  # the first one makes a pipe that stays for good
    return [SYNC, ASYNCIO, UVLOOP]


def play(plan: Plan) -> Round:
    """Play one round; what is wrong with it is in `problems`."""
    before = census.take()
    performance = Round(plan)
    with _complaints(performance.problems):
        try:
            with contextlib.ExitStack() as stack:
                work = _again_and_again(performance)
                if performance.is_async:
                    performance.loop = stack.enter_context(_loop(plan, performance.problems))
                for name in plan.faults:
                    stack.enter_context(_FAULTS[name](performance))
                if performance.loop is None:
                    _run_without_a_loop(work)
                else:
                    performance.loop.run_until_complete(work)
        except BaseException:
            performance.problems.append(traceback.format_exc())
        leaks = census.settle(before, PATIENCE)
        if leaks:
            performance.problems.append(f"left behind: {', '.join(leaks)}")
    return performance


async def _again_and_again(performance: Round) -> None:
    """Do the work with one child after another, and look at what has come each time."""
    for _ in range(performance.random.randrange(1, CHILDREN)):
        performance.ledger = Ledger(b"", b"")
        await WORKS[performance.plan.work](performance)
        performance.target = None
        performance.problems += performance.ledger.problems()


def _run_without_a_loop(work: Any) -> None:
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("the synchronous variant has nothing to await")


@contextlib.contextmanager
def _loop(plan: Plan, problems: List[str]) -> Iterator[asyncio.AbstractEventLoop]:
    if plan.variant == UVLOOP:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: problems.append(f"the loop says: {context}"))
    asyncio.set_event_loop(loop)
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextlib.contextmanager
def _complaints(problems: List[str]) -> Iterator[None]:
    """What is raised where nobody can catch it is a problem."""
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


def main(arguments: Sequence[str]) -> None:
    """Play the rounds that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, nargs="+", required=True)
    parser.add_argument("--limit", type=float, required=True)
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")
    # That an end was silence is what some rounds are about; that threads and forks do not go
    # together is a warning to those who do something in the fork.
    warnings.simplefilter("ignore", RuntimeWarning)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    there = variants()
    gc.collect()
    gc.freeze()
    for number in options.rounds:
        plan = draw(options.seed, number, there)
        faulthandler.dump_traceback_later(options.limit, exit=True)
        begin = time.monotonic()
        performance = play(plan)
        faulthandler.cancel_dump_traceback_later()
        found = {
            "round": number,
            "plan": str(plan),
            "variant": plan.variant,
            "seconds": time.monotonic() - begin,
            "strikes": performance.strikes,
            "problems": performance.problems,
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
