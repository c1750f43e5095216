"""Bytes without repetition, so that a loss, a copy or a swap of any size shows."""

import array
from typing import Optional

#: Flips every bit, for a second stream that must not be mistaken for the first.
_FLIP = bytes(255 - byte for byte in range(256))


def pattern(size: int) -> bytes:
    """The first `size` bytes of the numbers from 0 on, eight bytes each."""
    return array.array("Q", range(-(-size // 8))).tobytes()[:size]


def flipped(data: bytes) -> bytes:
    """`data` with every bit flipped."""
    return data.translate(_FLIP)


def difference(expected: bytes, got: bytes) -> Optional[str]:
    """How `got` differs from `expected`, in words; `None` if it does not."""
    if got == expected:
        return None
    if len(got) != len(expected):
        return f"{len(got):,} of {len(expected):,} bytes"
    at = next(index for index, pair in enumerate(zip(expected, got)) if pair[0] != pair[1])
    return f"byte {at:,} of {len(expected):,} differs"
