"""The life cycle of a child: what both variants share."""

from typing import NamedTuple, Optional, Union

from process.core.types import File

#: Grace period: seconds between SIGTERM and SIGKILL for a child that no caller waits for.
GRACE = 1.0


class Redirections(NamedTuple):
    """Where the child's streams go."""

    stdin: Union[bytes, File, None]
    stdout: Optional[File]
    stderr: Optional[File]
