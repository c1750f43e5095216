"""The command: `python -m stress explore`."""

import argparse
import time
from typing import TYPE_CHECKING, Any, Dict, List

from rich.console import Console

from stress import report
from stress.explore.search import explore
from stress.explore.world import Result
from stress.explore.worlds import WORLDS

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

_LIMIT = 1_000_000


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `explore` to the command line."""
    parser = commands.add_parser("explore", help="search every interleaving of small worlds")
    parser.add_argument(
        "--world",
        action="append",
        choices=WORLDS,
        metavar="WORLD",
        help=f"only this one (may be repeated): {', '.join(WORLDS)}",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=_LIMIT,
        help=f"stop a world after that many states, of about 500 bytes (default: {_LIMIT:,})",
    )
    report.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    found: List[Dict[str, Any]] = []
    for name in options.world or WORLDS:
        begin = time.monotonic()
        with console.status(name) as status:

            def progress(known: int, left: int, name: str = name) -> None:
                status.update(f"{name}: {known:,} states, {left:,} of them still to visit")

            result = explore(WORLDS[name], options.limit, progress)
        seconds = time.monotonic() - begin
        console.print(_sentence(name, result, seconds))
        if result.violation is not None:
            console.print(str(result.violation), markup=False)
        found.append(_as_json(name, result, seconds))
    report.publish(options, "explore", {"worlds": found})
    return 1 if any(world["violation"] for world in found) else 0


def _sentence(name: str, result: Result, seconds: float) -> str:
    extent = "all of them" if result.complete else "not all of them"
    verdict = "[green]all is well[/]" if result.violation is None else "[red]violated[/]"
    return f"{name}: {result.states:,} states, {extent}, in {seconds:.0f} s: {verdict}"


def _as_json(name: str, result: Result, seconds: float) -> Dict[str, Any]:
    return {
        "name": name,
        "states": result.states,
        "steps": result.steps,
        "complete": result.complete,
        "seconds": seconds,
        "violation": None if result.violation is None else str(result.violation),
    }
