"""Types of the asyncio variant."""

from asyncio import StreamReader, StreamWriter

__all__ = ["StreamReader", "StreamWriter"]
