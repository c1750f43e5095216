"""Numbers with their units, as people read them."""

import math
from typing import Optional

#: In place of a missing number, and after a ratio.
NONE, _TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def seconds(number: Optional[float]) -> str:
    """A time, from nanoseconds to hours."""
    if number is None:
        return NONE
    if number >= 120:
        return f"{number / 60:,.0f} min"
    if number >= 10:
        return f"{number:.0f} s"
    if number >= 0.1:
        return f"{number:.1f} s" if number >= 1 else f"{number:.2f} s"
    if number >= 1e-3:
        return f"{number * 1e3:.1f} ms"
    if number >= 1e-6:
        return f"{number * 1e6:.{0 if number >= 1e-5 else 1}f} µs"
    return f"{number * 1e9:.0f} ns"


def size(number: Optional[float]) -> str:
    """An amount of memory, from bytes to TiB."""
    if number is None:
        return NONE
    if math.isnan(number):
        return "unknown"
    power = 0
    while abs(number) >= 1024 and power < len(_UNITS) - 1:
        number /= 1024
        power += 1
    digits = 0 if power == 0 or abs(number) >= 100 else 1
    return f"{number:.{digits}f} {_UNITS[power]}"


def growth(number: float) -> str:
    """How much more memory there is."""
    return f"{number / 1024**2:+.2f} MiB"


def rise(number: float) -> str:
    """How much memory rises in an hour."""
    return f"{growth(number)} an hour"


def many(number: float) -> str:
    """A number of things: in full up to some thousands, then in millions."""
    return f"{number / 1e6:,.1f} million" if number >= 1e6 else f"{number:,.0f}"


def ratio(number: Optional[float]) -> str:
    """How many times as long."""
    return NONE if number is None else f"{number:.2f} {_TIMES}"
