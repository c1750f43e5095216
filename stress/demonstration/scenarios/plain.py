"""The standard library's names, for callers who know which streams they have asked for.

Its streams may be `None` to a type checker. Asserting that they are not would be most of what there
is to read in a scenario.
"""

import asyncio
import subprocess
from typing import Any

from stress.demonstration.children import COMMAND

Popen: Any = subprocess.Popen
create: Any = asyncio.create_subprocess_exec


def child(name: str, *numbers: int) -> "list[str]":
    """The command of one of the children."""
    return [*COMMAND, name, *map(str, numbers)]
