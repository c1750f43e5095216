"""Temporary files for what overflows."""

import tempfile
from typing import IO, cast

from process.core._overflow import File


def open_spool() -> File:
    """An unnamed temporary file, mode 0600, not inherited by any child.

    Raises:
        OSError: there is no usable directory, or no descriptor left.
    """
    file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    return cast("File", file)
