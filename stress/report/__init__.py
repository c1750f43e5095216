"""The results of the commands, in one directory: a page for people, a file for machines.

Each command of `python -m stress` contributes a part; `merge(directory, part, data)` puts it beside
what other commands have put there before, in `results.json`, and renders `index.html` anew, a page
that needs no other file. `results.json` has for each part the `machine` that it ran on and its
`data`:

`demonstration`
    `libraries`: a list of `name`, `ours` and `tally` (how often each outcome was had).
    `scenarios`: a list of `name`, `rule`, `trap` and `plays`, in the order of the libraries, each
    with `outcome`, `seconds` and `detail`.
`bench`
    `cases`: a list of `name`, `job`, `against` (empty without an opponent), `ours` and `theirs`
    (each with the times that count, `seconds` of wall time and `processor`, `null` if there is
    none), `ratio` and `allowed`, `processor_ratio`, `memory` and `memory_limit` in bytes,
    `too_slow`, `too_large`, `error` and `left_out` (empty if there is none). This is what
    `bench --json` writes; what else is in it is kept and not shown.
`soak`
    `minutes`, and `collectors`: a list of `name`, `what`, `verdict` (see `soak.drift.Verdict`),
    `fields` (see `soak.drift.Sample`) and `samples`, each a list of values in that order.
`faults`
    `seed`, `rounds`, `variants` (rounds by variant), `seconds`, `strikes` (by fault) and
    `problems`: a list of `round`, `plan`, `text` and `replay`, the command that plays it again.
`explore`
    `worlds`: a list of `name`, `states`, `steps`, `complete`, `seconds` and `violation`, which is
    `null` where all is well.
"""

import argparse
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict

_RESULTS, _PAGE = "results.json", "index.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--report` and `--json` to a command."""
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="add the results to those of other commands there, as a page",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the results of this command to a file (-: stdout)"
    )


def publish(options: argparse.Namespace, part: str, data: Dict[str, Any]) -> None:
    """Do what `--report` and `--json` ask for with the results of a command."""
    if options.json is not None:
        text = json.dumps(data, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    if options.report is not None:
        merge(options.report, part, data)


def merge(directory: Path, part: str, data: Dict[str, Any]) -> None:
    """Put the results of one command into the report in `directory`, which is made if need be."""
    from stress.report.page import render  # its imports are not needed without a report

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _RESULTS
    results: Dict[str, Any] = {}
    if path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    results[part] = {"machine": machine(), "data": data}
    path.write_text(json.dumps(results) + "\n", encoding="utf-8")
    (directory / _PAGE).write_text(render(results), encoding="utf-8")


def machine() -> Dict[str, str]:
    """Where and when the results were measured."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
