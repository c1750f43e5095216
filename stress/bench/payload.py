"""The bytes that pass through the children."""

import random
from typing import List

#: A prime, so that no pipe, buffer or page is a multiple of the period.
_PERIOD = 1_000_003


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which any loss, duplicate or move shows; in memory once."""
    block = random.Random(seed).randbytes(min(size, _PERIOD))
    whole, rest = divmod(size, _PERIOD)
    return b"".join([*[block] * whole, block[:rest]])


def zeros(size: int) -> List[str]:
    """A child that writes `size` zeros, as fast as possible."""
    return ["head", "-c", str(size), "/dev/zero"]


def all_zero(size: int, data: bytes) -> bool:
    """Whether `data` is what such a child has written."""
    return data == bytes(size)


#: Lines of 100 bytes that are all different; nearly as long as an argument can be.
_PAGE = b"".join(b"%099d\n" % number for number in range(1000))

#: A child that writes them repeatedly, as fast as possible.
PAGES = ["yes", _PAGE[:-1].decode()]


def check_pages(end: int, last: bytes) -> None:
    """Check that `last` is what such a child has written before its byte number `end`.

    Raises:
        ValueError: it is not, or nothing.
    """
    begin = end - len(last)
    first_page = begin // len(_PAGE)
    pages = _PAGE * (-(-end // len(_PAGE)) - first_page)
    expected = pages[begin - first_page * len(_PAGE) :][: len(last)]
    if not last or last != expected:
        raise ValueError(f"{last[:120]!r} is not what ends at byte {end:,}")
