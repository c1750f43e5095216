"""Collectors that run for any time, to check that nothing grows.

Each kind of collector (`collectors`) runs in a separate process, verifies every line, and reports
its memory, temporary files, descriptors and threads every second (`collector`). At the end there is
a verdict on each (`drift`).
"""

import argparse
import math
import time
from typing import TYPE_CHECKING, List, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stress import report
from stress.soak.drift import MIB
from stress.soak.watch import Watched, as_json

if TYPE_CHECKING:
    # The class has a name only for the type checker.
    from argparse import _SubParsersAction

_BARS = "▁▂▃▄▅▆▇█"
#: Most samples that a long soak takes of each collector.
_SAMPLES = 2000


def add_command(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `soak` to the command line."""
    parser = commands.add_parser("soak", help="long runs, in which nothing may grow")
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long (default: 1)")
    report.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from stress.soak.collectors import COLLECTORS

    console = Console(highlight=False)
    seconds = 60 * options.minutes
    interval = max(min(1.0, seconds / 60), seconds / _SAMPLES)
    watched = [Watched(name, seconds, interval) for name in COLLECTORS]
    try:
        with Live(_table(watched), console=console, refresh_per_second=2) as live:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and not all(one.over for one in watched):
                time.sleep(0.2)
                live.update(_table(watched))
    finally:
        for one in watched:
            one.end()
    whats = {name: (collect.__doc__ or "").strip() for name, collect in COLLECTORS.items()}
    report.publish(options, "soak", as_json(watched, whats, options.minutes))
    return _conclude(console, watched)


def _table(watched: Sequence[Watched]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("collector", "verified", "MiB/s", "memory", "on disk", "fds", "threads"):
        table.add_column(heading, justify="left" if heading == "collector" else "right")
    table.add_column("memory, from its least to its most")
    for one in watched:
        if not one.samples:
            table.add_row(one.name, "starting")
            continue
        last = one.samples[-1]
        table.add_row(
            one.name,
            f"{last.lines:,} lines" if last.lines else f"{last.bytes / MIB:,.0f} MiB",
            f"{one.throughput / MIB:.1f}",
            f"{last.memory / MIB:.1f} MiB",
            f"{last.overflow / MIB:.1f} MiB",
            str(last.descriptors),
            str(last.threads),
            _curve([sample.memory for sample in one.samples]),
        )
    return table


def _curve(values: List[int], width: int = 30) -> str:
    """A picture of numbers in one line of text."""
    step = max(1, len(values) // width)
    means = [sum(values[i : i + step]) / step for i in range(0, len(values) - step + 1, step)]
    lowest, highest = min(means), max(means)
    scale = (len(_BARS) - 1) / (highest - lowest) if highest > lowest else 0
    return "".join(_BARS[round((mean - lowest) * scale)] for mean in means[-width:])


def _conclude(console: Console, watched: Sequence[Watched]) -> int:
    good = True
    console.print()
    for one in watched:
        verdict = one.verdict
        for problem in verdict.problems:
            good = False
            console.print(f"[red]{one.name}:[/]", end=" ")
            console.print(problem, markup=False)
        if not verdict.problems:
            hourly = "" if math.isnan(verdict.slope) else f", {verdict.slope / MIB:+.2f} an hour"
            console.print(
                f"{one.name}: memory {verdict.growth / MIB:+.2f} MiB after the warm-up{hourly};"
                f" descriptors {verdict.descriptors:+d}, threads {verdict.threads:+d}"
            )
    console.print("Nothing grows." if good else "[red]Something is wrong.[/]")
    return 0 if good else 1
