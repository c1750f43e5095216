"""All cases, in the order in which they are measured."""

from typing import Any, Tuple

from stress.bench.case import Case
from stress.bench.cases import (
    asyncio_capture,
    asyncio_echo,
    asyncio_true,
    busy,
    capture,
    capture_bare,
    crowd,
    echo,
    feed,
    importing,
    linear,
    lines,
    read,
    round_trips,
    true,
)

CASES: Tuple[Case[Any, Any], ...] = (
    true.CASE,
    capture.CASE,
    capture_bare.CASE,
    echo.CASE,
    feed.CASE,
    lines.CASE,
    read.CASE,
    round_trips.CASE,
    crowd.CASE,
    busy.CASE,
    asyncio_capture.CASE,
    asyncio_echo.CASE,
    asyncio_true.CASE,
    importing.CASE,
    linear.CASE,
)
