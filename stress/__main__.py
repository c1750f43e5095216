"""The command line: `python -m stress [COMMAND]`."""

import argparse
import sys
from typing import List

from stress import demonstration, faults, pipelines, soak, storms
from stress.bench import command as bench
from stress.explore import command as explore

#: Each adds a command of its own.
_COMMANDS = (demonstration, bench, soak, faults, pipelines, storms, explore)


def main(arguments: List[str]) -> int:
    """Run one command and return the exit code: 0 if the library has passed."""
    parser = argparse.ArgumentParser(
        prog="python -m stress", description="Tests the library from outside."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_command(commands)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["demo", *arguments]  # the command for newcomers
    options = parser.parse_args(arguments)
    exit_code: int = options.run(options)
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
