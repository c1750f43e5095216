"""The standard library's names, for callers that know which streams they have requested.

To a type checker its streams may be `None`. Assertions that they are not would fill the scenarios.
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
