"""Fault injection at random points, and the effect on the caller's bytes.

A round runs several children, one after the other, for a caller that does one kind of work
(`works`), while one to three kinds of faults occur (`interference`, `shortages`, `company`). The
bytes that arrive are compared with what the child has written (`ledger`), and at the end nothing
may be left behind. The plan of a round follows from the seed (`plan`); thread switches do not, so a
replay may need to be repeated. Rounds are played in separate processes (`worker`), so one that
hangs is reported, with the stacks of all its threads, and the others go on (`stress.watch`).
"""

import argparse
import os
from typing import TYPE_CHECKING

from rich.console import Console

from stress import report, rounds

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

    from stress.watch import Found

#: What plays rounds.
WORKER = "stress.faults.worker"


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `faults` to the command line."""
    parser = commands.add_parser("faults", help="fault injection at random points")
    rounds.add_options(parser)
    report.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if os.name != "posix":
        console.print("These faults need signals and limits that only POSIX has.")
        return 1
    from stress.faults.tally import Tally

    seed = rounds.choose_seed(options, console)
    tally = Tally(seed)

    def add(found: "Found") -> str:
        tally.add(found)
        return tally.replay(found)

    rounds.play(options, console, WORKER, seed, add)
    report.publish(options, "faults", tally.as_json())
    struck = ", ".join(f"{name} {count:,}" for name, count in tally.strikes.items() if count)
    console.print(f"strikes: {struck}")
    bad, count = len(tally.bad), sum(tally.rounds.values())
    console.print(f"{count} rounds, {bad} with a hang, a loss or a leak")
    return 1 if bad else 0
