"""What the commands have found, gathered in one place: `results.json`.

Each command of `python -m stress` contributes one part. `merge(directory, part, data)` puts it
beside what other commands have put there before.
"""

import argparse
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict

#: Where the parts lie in the directory of a report.
_RESULTS = "results.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--report` and `--json` to a command."""
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="gather the results of this and other commands there",
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
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _RESULTS
    results: Dict[str, Any] = {}
    if path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    results[part] = {"machine": machine(), "data": data}
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def machine() -> Dict[str, str]:
    """What the results were had on, and when."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
