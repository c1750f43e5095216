"""Windows: the portable ways, and a process group of its own for the child.

Console control events (`CTRL_C_EVENT`, `CTRL_BREAK_EVENT`) are delivered to process groups; a child
in the group of its parent could not be sent one without hitting the parent.
"""

import subprocess
from typing import Any, Dict

from process._platform._portable import (
    ExitWatch,
    Hub,
    Port,
    Wakeup,
    exit_code,
    make_hub,
    wait_readable,
)

__all__ = [
    "ExitWatch",
    "Hub",
    "Port",
    "Wakeup",
    "exit_code",
    "make_hub",
    "spawn_options",
    "wait_readable",
]

spawn_options: Dict[str, Any] = {
    "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x00000200)
}
