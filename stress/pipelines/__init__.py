"""Random pipelines, compared with a model.

A round is a pipeline of two to four stages, of both variants, which one to three callers start, use
and end (`round`), in ways and orders that follow from the seed (`plan`): some readers leave early,
some stages flood stderr, some streams get a `fileno()` or are closed, joined or dropped before or
after they are handed over. The output, and how each process ends, is compared with a model
(`model`), and at the end nothing may be left behind. Rounds are played in separate processes
(`worker`), so that one that hangs is found, with the stacks of all its threads (`stress.watch`).
"""

import argparse
import os
from collections import Counter
from typing import TYPE_CHECKING
from typing import Counter as CounterType

from rich.console import Console

from stress import rounds

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

    from stress.watch import Found

#: What plays rounds.
WORKER = "stress.pipelines.worker"


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `pipelines` to the command line."""
    parser = commands.add_parser("pipelines", help="random pipelines, compared with a model")
    rounds.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if os.name != "posix":
        console.print("These pipelines need signals and forks, which only POSIX has.")
        return 1
    seed = rounds.choose_seed(options, console)
    done: CounterType[str] = Counter()
    counts: CounterType[bool] = Counter()

    def add(found: "Found") -> str:
        done.update(found.strikes)
        counts[bool(found.problems)] += 1
        return f"python -m stress pipelines --seed {seed} --replay {found.round}"

    rounds.play(options, console, WORKER, seed, add)
    console.print("calls: " + ", ".join(f"{name} {count:,}" for name, count in done.most_common()))
    console.print(f"{sum(counts.values())} pipelines, {counts[True]} with a hang, a loss or a leak")
    return 1 if counts[True] else 0
