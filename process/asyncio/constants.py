"""Constants of the asyncio variant."""

#: Size in bytes of the stream buffers when `buffer_size` is `None`.
DEFAULT_BUFFER_SIZE: int = 2**16

__all__ = ["DEFAULT_BUFFER_SIZE"]
