"""Faults at random moments, and what becomes of the caller's bytes.

A round runs some children, one after the other, for a caller who does one kind of work (`works`),
while one to three kinds of things go wrong (`interference`, `shortages`, `company`). What comes is
held against what the child has written (`ledger`), and at the end nothing may be left behind. What
a round will be follows from the seed (`plan`); the threads' turns do not, so a replay may need to
be repeated. Rounds are played in processes of their own (`worker`), so that one that hangs is
found, with the stacks of all its threads, and is not the last (`watch`).
"""

import argparse
import itertools
import os
import random
import time
from typing import TYPE_CHECKING, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stress import report

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

_ROUNDS = 200


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `faults` to the command line."""
    parser = commands.add_parser("faults", help="faults at random moments")
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
    report.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if os.name != "posix":
        console.print("These faults are made of signals and limits that only POSIX has.")
        return 1
    from stress.faults.tally import Tally
    from stress.faults.watch import Found, watch

    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    console.print(f"seed {seed}")
    tally = Tally(seed)
    columns = (TextColumn("rounds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        total = None if options.minutes else _extent(options)
        task = progress.add_task("", total=total)

        def add(found: Found) -> None:
            tally.add(found)
            progress.advance(task)
            if found.problems:
                console.print(f"[red]{found.plan or f'round {found.round}'}[/]")
                console.print("\n".join(found.problems), markup=False)
                console.print(f"again: {tally.replay(found)}", markup=False)

        watch(_numbers(options), seed, options.limit, options.jobs, add)
    report.publish(options, "faults", tally.as_json())
    struck = ", ".join(f"{name} {count:,}" for name, count in tally.strikes.items() if count)
    console.print(f"strikes: {struck}")
    bad, rounds = len(tally.bad), sum(tally.rounds.values())
    console.print(f"{rounds} rounds, {bad} with a hang, a loss or a leak")
    return 1 if bad else 0


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
