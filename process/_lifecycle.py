"""What both variants know of the life of a child."""

import signal
from typing import NamedTuple, Optional, Union

from process.core.types import File

#: Seconds that a child has between SIGTERM and SIGKILL when nobody waits for it.
GRACE = 1.0

#: Windows has no SIGKILL; there SIGTERM means `TerminateProcess`, which is as final.
SIGKILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


class Redirections(NamedTuple):
    """Where the child's streams go."""

    stdin: Union[bytes, File, None]
    stdout: Optional[File]
    stderr: Optional[File]
