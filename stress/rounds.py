"""Commands that play rounds: their options, and the progress they show."""

import argparse
import itertools
import random
import time
from typing import TYPE_CHECKING, Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from stress.watch import Found

#: How many there are by default.
_ROUNDS = 200


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all of these commands have."""
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--rounds", type=int, help=f"how many (default: {_ROUNDS})")
    extent.add_argument("--minutes", type=float, help="or for how long")
    parser.add_argument("--seed", type=int, help="of the whole run (default: a new one)")
    parser.add_argument(
        "--replay", type=int, metavar="ROUND", help="play this round only, `--rounds` times"
    )
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds until a round has hung (default: 60)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="rounds played at the same time (default: 2)"
    )


def choose_seed(options: argparse.Namespace, console: Console) -> int:
    """The seed of the run, which is printed."""
    seed: int = options.seed
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    console.print(f"seed {seed}")
    return seed


def play(
    options: argparse.Namespace,
    console: Console,
    module: str,
    seed: int,
    report: "Callable[[Found], str]",
) -> None:
    """Play what the options ask for, in worker processes, and show how far that has got.

    Args:
        options: of the command line.
        console: where to show it.
        module: that plays rounds in a process of its own, see `worker.main`.
        seed: of the run.
        report: called with each outcome; returns the command that plays the round again.
    """
    from stress.watch import watch

    columns = (TextColumn("rounds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        total = None if options.minutes else _extent(options)
        task = progress.add_task("", total=total)

        def add(found: "Found") -> None:
            again = report(found)
            progress.advance(task)
            if found.problems:
                console.print(f"[red]{found.plan or f'round {found.round}'}[/]")
                console.print("\n".join(found.problems), markup=False)
                console.print(f"again: {again}", markup=False)

        watch(
            module,
            _numbers(options),
            seed=seed,
            limit=options.limit,
            workers=options.jobs,
            report=add,
        )


def _extent(options: argparse.Namespace) -> int:
    if options.rounds is not None:
        return int(options.rounds)
    return _ROUNDS if options.replay is None else 1


def _numbers(options: argparse.Namespace) -> Iterator[int]:
    """The numbers of the rounds that the command line asks for."""
    numbers = itertools.count(1) if options.replay is None else itertools.repeat(options.replay)
    if options.minutes is None:
        return itertools.islice(numbers, _extent(options))
    deadline = time.monotonic() + 60 * options.minutes
    return itertools.takewhile(lambda _: time.monotonic() < deadline, numbers)
