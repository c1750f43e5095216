"""The special values for a stream, the same as those of `subprocess`."""

import subprocess

#: Make a pipe to the child.
PIPE: int = subprocess.PIPE

#: For `stderr`, the same destination as `stdout`.
STDOUT: int = subprocess.STDOUT

#: The null device.
DEVNULL: int = subprocess.DEVNULL

__all__ = ["DEVNULL", "PIPE", "STDOUT"]
