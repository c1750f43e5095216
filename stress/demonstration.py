"""The main job, shown: megabytes through a child that floods both of its outputs while it reads.

Every scenario runs in a process of its own with a time limit, because the point of the standard
library's ones is that they never end.
"""

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from stress.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

#: Seconds until a scenario of ours has failed.
_LIMIT = 60.0


class _Result(NamedTuple):
    """What has become of one scenario."""

    verdict: str
    style: str
    detail: str


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser("demo", help="megabytes through a child that floods both outputs")
    parser.add_argument("--mebibytes", type=int, default=64, help="size of the input (default: 64)")
    parser.add_argument(
        "--patience",
        type=float,
        default=3.0,
        help="seconds given to what is expected to hang (default: 3)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    console.print(
        f"{options.mebibytes} MiB go to a child that copies what it reads to stdout and, with every"
        " bit flipped, to stderr. Both are compared with the input byte for byte.\n"
    )
    good = True
    for name, scenario in SCENARIOS.items():
        limit = _LIMIT if scenario.ours else options.patience
        with console.status(f"{scenario.library}: {scenario.order}"):
            result = _play(name, options.mebibytes, limit)
        _show(console, scenario, result)
        good = good and (result.verdict == "intact" or not scenario.ours)
    if good:
        console.print("\nNothing of ours hung, and every byte came back.")
    else:
        console.print("\n[red]The library has not kept its promise.[/]")
    return 0 if good else 1


def _play(name: str, mebibytes: int, limit: float) -> _Result:
    command = [sys.executable, "-m", "stress.scenarios", name, str(mebibytes)]
    try:
        # Its stderr is ours, for a traceback. The flooding child of one that is killed ends when
        # its pipes break.
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return _Result("hung", "red", f"killed after {limit:g} s")
    if done.returncode != 0:
        return _Result("failed", "red", f"exit code {done.returncode}")
    return _Result("intact", "green", f"{float(done.stdout):.2f} s")


def _show(console: Console, scenario: Scenario, result: _Result) -> None:
    console.print(
        f"{scenario.library:<22}{scenario.order:<20}"
        f"[{result.style}]{result.verdict:<8}[/]{result.detail}"
    )
