"""Constants of the synchronous variant."""

import io

#: Size in bytes of the stream buffers when `buffer_size` is `None`.
DEFAULT_BUFFER_SIZE: int = io.DEFAULT_BUFFER_SIZE

__all__ = ["DEFAULT_BUFFER_SIZE"]
