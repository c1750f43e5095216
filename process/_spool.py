"""Temporary files for what overflows."""

from typing import IO, cast

from process.core._overflow import File


def open_spool() -> File:
    """An unnamed temporary file, mode 0600, not inherited by any child.

    Raises:
        OSError: there is no usable directory, or no descriptor left.
    """
    import tempfile  # costs more to import than the rest of the library, and is rarely needed

    file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    return cast("File", file)
