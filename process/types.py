"""Types of the synchronous variant."""

from io import BufferedReader, BufferedWriter, FileIO
from typing import Union

#: What `stdout` and `stderr` are.
StreamReader = Union[FileIO, BufferedReader]

#: What `stdin` is.
StreamWriter = Union[FileIO, BufferedWriter]

__all__ = ["StreamReader", "StreamWriter"]
