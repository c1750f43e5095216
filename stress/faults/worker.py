"""Plays rounds of faults in this process: `python -m stress.faults.worker`."""

import contextlib
import sys
import traceback
from typing import Any, Dict, List

from stress import census, worker
from stress.faults import company, interference, shortages
from stress.faults.ledger import Ledger
from stress.faults.plan import Plan, draw
from stress.faults.round import Round
from stress.faults.works import WORKS

#: Seconds for what a round has released to end: a dropped child may need SIGKILL.
PATIENCE = 10.0

#: Below this many children are run in a round.
CHILDREN = 8

_FAULTS: Dict[str, Any] = {
    fault.name: fault for fault in (*interference.FAULTS, *shortages.FAULTS, *company.FAULTS)
}


def play(plan: Plan) -> Round:
    """Play one round; what is wrong with it is in `problems`."""
    before = census.take()
    performance = Round(plan)
    problems = performance.problems
    with worker.complaints(problems):
        try:
            with contextlib.ExitStack() as stack:
                work = _again_and_again(performance)
                if performance.is_async:
                    loop = worker.running_loop(plan.variant, problems)
                    performance.loop = stack.enter_context(loop)
                for name in plan.faults:
                    stack.enter_context(_FAULTS[name](performance))
                if performance.loop is None:
                    worker.run_without_a_loop(work)
                else:
                    performance.loop.run_until_complete(work)
        except BaseException:
            problems.append(traceback.format_exc())
        leaks = census.settle(before, PATIENCE)
        if leaks:
            problems.append(f"left behind: {', '.join(leaks)}")
    return performance


async def _again_and_again(performance: Round) -> None:
    """Do the work with one child after another, and check the bytes each time."""
    for _ in range(performance.random.randrange(1, CHILDREN)):
        performance.ledger = Ledger(b"", b"")
        await WORKS[performance.plan.work](performance)
        performance.target = None
        performance.problems += performance.ledger.problems()


def _play(seed: int, number: int, variants: List[str]) -> worker.Played:
    plan = draw(seed, number, variants)
    played = play(plan)
    return worker.Played(str(plan), plan.variant, played.strikes, played.problems)


if __name__ == "__main__":
    worker.main(sys.argv[1:], _play)
