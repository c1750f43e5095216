"""The life cycle of a child: what both variants share."""

import signal
from typing import NamedTuple, Optional, Union

from process.core.types import File

#: Grace period: seconds between SIGTERM and SIGKILL for a child that no caller waits for.
GRACE = 1.0

#: Windows has no SIGKILL; there SIGTERM means `TerminateProcess`, which is as final.
SIGKILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


class Redirections(NamedTuple):
    """Where the child's streams go."""

    stdin: Union[bytes, File, None]
    stdout: Optional[File]
    stderr: Optional[File]
