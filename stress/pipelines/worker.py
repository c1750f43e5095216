"""Plays pipelines in this process: `python -m stress.pipelines.worker`."""

import sys
import traceback
import warnings
from collections import Counter
from typing import IO, List, Optional

from stress import census, worker
from stress.pipelines.plan import Plan, draw
from stress.pipelines.round import Round

#: Seconds for what a round has released to end: a dropped child may need SIGKILL.
PATIENCE = 10.0


def play(plan: Plan, echo: Optional[IO[str]] = None) -> worker.Played:
    """Play one round."""
    before = census.take()
    problems: List[str] = []
    performance = Round(plan, problems)
    performance.echo = echo
    with worker.complaints(problems):
        try:
            if True in [stage.is_async for stage in plan.stages]:
                with worker.running_loop(plan.variant, problems) as loop:
                    loop.run_until_complete(performance.play())
            else:
                worker.run_without_a_loop(performance.play())
        except BaseException:
            problems.append(traceback.format_exc())
        log = performance.log
        del performance
        leaks = census.settle(before, PATIENCE)
        if leaks:
            problems.append(f"left behind: {', '.join(leaks)}")
    if problems:
        problems.append("; ".join(log))
    done = Counter([entry.split()[1] for entry in log])
    return worker.Played(str(plan), plan.variant, done, problems)


def _play(seed: int, number: int, variants: List[str]) -> worker.Played:
    # A stream that has to be taken as finished is held by somebody who should not have it.
    warnings.simplefilter("error", RuntimeWarning)
    plan = draw(seed, number, variants)
    print(plan, file=sys.stderr, flush=True)
    return play(plan, sys.stderr)


if __name__ == "__main__":
    worker.main(sys.argv[1:], _play)
