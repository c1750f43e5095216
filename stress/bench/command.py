"""The command `bench`: measures one case after the other, and prints the results."""

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stress import report, session
from stress.bench.case import Case, Measurement
from stress.bench.catalogue import CASES
from stress.bench.summary import Outcome, exit_code
from stress.bench.table import size, table, verdict

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

#: Columns in a file, where the width is not limited.
_PAPER = 150


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bench` to the command line."""
    parser = commands.add_parser(
        "bench",
        help="time and memory, against the standard library",
        description="Measures this library and the standard library in turn. POSIX only. The exit "
        "code is 0 if everything could be measured, whatever the ratios are.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[case.name for case in CASES],
        metavar="NAME",
        help="measure only this case (may be repeated)",
    )
    parser.add_argument(
        "--group",
        action="append",
        choices=sorted({case.group for case in CASES}),
        help="measure the cases of this group (may be repeated)",
    )
    parser.add_argument(
        "--rounds", type=_positive(int), metavar="N", help="measure each case N times"
    )
    parser.add_argument(
        "--scale",
        type=_positive(float),
        default=1.0,
        metavar="X",
        help="multiply the amounts by X; the limits are for 1",
    )
    report.add_options(parser)
    parser.add_argument("--list", action="store_true", help="list the cases, measure nothing")
    parser.set_defaults(run=_run)


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError(text)
        return value

    return number


def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _PAPER)
    names, groups = options.only or (), options.group or ()
    chosen = [case for case in CASES if case.name in names or case.group in groups]
    if not names and not groups:
        chosen = list(CASES)
    if options.list:
        for case in chosen:
            console.print(f"{case.group:<10}{case.name:<24}{case.job}", soft_wrap=True)
        return 0
    outcomes = _measure_all(console, chosen, options.rounds, options.scale)
    console.print(table(outcomes))
    console.print(f"\n{verdict(outcomes)}")
    report.publish(options, "bench", _as_json(outcomes, options.scale))
    return exit_code(outcomes)


def _as_json(outcomes: List[Outcome], scale: float) -> Dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "scale": scale,
        "cases": [outcome.to_json() for outcome in outcomes],
    }


def _measure_all(
    console: Console, cases: List[Case[Any, Any]], rounds: Optional[int], scale: float
) -> List[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        plan = [
            (case, max(1, round(scale * usual)), rounds or case.rounds)
            for case in cases
            for usual in case.amounts
        ]
        total = sum(times * len(_sides(case)) for case, _, times in plan)
        task = progress.add_task("", total=total)
        outcomes: List[Outcome] = []
        for case, much, times in plan:
            goal = progress.tasks[task].completed + times * len(_sides(case))

            def tell(side: str, case: Case[Any, Any] = case) -> None:
                progress.update(task, advance=1, description=f"{case.name}, {side}")

            outcomes.append(_measure_case(case, much, times, tell))
            progress.update(task, completed=goal)  # not all of it, if it has failed
        return outcomes


def _measure_case(
    case: Case[Any, Any], much: int, rounds: int, tell: Callable[[str], None]
) -> Outcome:
    if case.needs and importlib.util.find_spec(case.needs) is None:
        return Outcome(case, much, left_out=f"left out: {case.needs} is not installed")
    needed, available = int(case.memory * much), _available_memory()
    if available is not None and needed > available:
        return Outcome(
            case, much, left_out=f"left out: needs {size(needed)}, free are {size(available)}"
        )
    found: Dict[str, List[Measurement]] = {"ours": [], "theirs": []}
    try:
        for _ in range(rounds):
            for side in _sides(case):
                tell(side)
                found[side].append(_measure(case, side, much))
    except RuntimeError as failure:
        return Outcome(case, much, error=str(failure))
    return Outcome(case, much, found["ours"], found["theirs"])


def _sides(case: Case[Any, Any]) -> List[str]:
    return ["ours"] if case.theirs is None else ["ours", "theirs"]


def _measure(case: Case[Any, Any], side: str, much: int) -> Measurement:
    """Measure once, in a process of its own.

    Raises:
        RuntimeError: it has failed, or the result was wrong; its traceback has been printed.
    """
    command = [sys.executable, "-m", "stress.bench.measure", case.module, case.name]
    # Files, since children that are left behind may keep a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        process = session.start([*command, side, str(much)], output, complaints)
        try:
            exit_code = process.wait(case.limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{side} took more than {case.limit:g} s") from None
        finally:
            session.end(process)
        complaints.seek(0)
        text = complaints.read().decode(errors="replace")
        sys.stderr.write(text)
        if exit_code != 0:
            *_, reason = ["", *text.splitlines()]
            raise RuntimeError(f"{side} failed with exit code {exit_code}: {reason}")
        output.seek(0)
        return Measurement(**json.loads(output.read()))


def _available_memory() -> Optional[int]:
    """Bytes of free memory, where the system reports them."""
    names = ("SC_AVPHYS_PAGES", "SC_PAGE_SIZE")
    if not all(name in os.sysconf_names for name in names):
        return None
    return math.prod(map(os.sysconf, names))
