"""The asyncio variant."""

from process.asyncio.constants import DEFAULT_BUFFER_SIZE
from process.asyncio.process import Process
from process.asyncio.types import StreamReader, StreamWriter

__all__ = ["DEFAULT_BUFFER_SIZE", "Process", "StreamReader", "StreamWriter"]
