"""The demonstration: what hangs with the standard library, and what happens here.

Each scenario is a trap that the contract is about, written four times in the same way
(`scenarios`). Each runs in a separate process (`play`), which is killed when its time is up
(`stage`), because many of them never end.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Dict, List

from rich.console import Console
from rich.live import Live

from stress import report
from stress.demonstration.scenario import Library, Scenario
from stress.demonstration.scenarios import SCENARIOS
from stress.demonstration.stage import perform
from stress.demonstration.table import Outcomes

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser("demo", help="the traps of pipes, side by side (the default)")
    parser.add_argument(
        "--patience",
        type=float,
        default=3.0,
        metavar="SECONDS",
        help="time limit of the standard library (default: 3)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SCENARIOS,
        metavar="SCENARIO",
        help="play this one, by its name in the table (may be repeated)",
    )
    parser.add_argument(
        "--jobs", type=int, default=3, help="scenarios played at the same time (default: 3)"
    )
    report.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    scenarios = _chosen(options.only or list(SCENARIOS))
    console.print(
        f"{len(scenarios)} traps, each with the standard library and with this one, each in a"
        f" separate process.\nThe standard library has {options.patience:g} seconds for each;"
        " what has not finished by then has hung.\n"
    )
    outcomes = Outcomes(scenarios)
    with Live(outcomes.table(), console=console, refresh_per_second=8) as live:
        _perform_all(list(scenarios), options, outcomes, live)
    report.publish(options, "demonstration", outcomes.as_json())
    failures = outcomes.failures()
    if failures:
        console.print("\n[red]This library has failed:[/]")
        for failure in failures:
            console.print(f"  {failure}", markup=False)
        return 1
    console.print("\nThis library did not hang, lose a byte, fail or leave anything behind.")
    return 0


def _chosen(names: List[str]) -> Dict[str, Scenario]:
    return {
        name: SCENARIOS[name] for name in names if os.name == "posix" or not SCENARIOS[name].posix
    }


def _perform_all(
    names: List[str], options: argparse.Namespace, outcomes: Outcomes, live: Live
) -> None:
    """Play every scenario with every library, several at a time, and show the progress."""

    def perform_one(name: str, library: Library) -> None:
        outcomes.begin(name, library)
        outcomes.end(name, library, perform(name, library, options.patience))

    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [pool.submit(perform_one, name, library) for name in names for library in Library]
        try:
            for done in as_completed(pending):
                done.result()
                live.update(outcomes.table())
        except BaseException:
            for future in pending:
                future.cancel()
            raise
