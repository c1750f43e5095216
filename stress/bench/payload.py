"""The bytes that pass through the children."""

import random
from typing import List

#: A prime, so that no pipe, buffer or page is a multiple of the period.
_PERIOD = 1_000_003


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which whatever is lost, doubled or moved shows; in memory once."""
    block = random.Random(seed).randbytes(min(size, _PERIOD))
    whole, rest = divmod(size, _PERIOD)
    return b"".join([*[block] * whole, block[:rest]])


def zeros(size: int) -> List[str]:
    """A child that writes `size` zeros, as fast as a child can."""
    return ["head", "-c", str(size), "/dev/zero"]


def all_zero(size: int, data: bytes) -> bool:
    """Whether `data` is what such a child has written."""
    return data == bytes(size)
