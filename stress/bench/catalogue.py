"""All cases, in the order in which they are measured."""

from typing import Any, Tuple

from stress.bench.case import Case
from stress.bench.cases import (
    asyncio_calls,
    asyncio_capture,
    asyncio_echo,
    asyncio_overflow,
    asyncio_true,
    busy,
    calls,
    capture,
    capture_bare,
    crowd,
    echo,
    feed,
    idle,
    importing,
    linear,
    lines,
    read,
    round_trips,
    transfers,
    true,
)

CASES: Tuple[Case[Any, Any], ...] = (
    *true.CASES,
    *capture.CASES,
    *capture_bare.CASES,
    *echo.CASES,
    *feed.CASES,
    *lines.CASES,
    *read.CASES,
    *round_trips.CASES,
    *crowd.CASES,
    *busy.CASES,
    *asyncio_capture.CASES,
    *asyncio_echo.CASES,
    *asyncio_true.CASES,
    *importing.CASES,
    *linear.CASES,
    *calls.CASES,
    *transfers.CASES,
    *asyncio_calls.CASES,
    *asyncio_overflow.CASES,
    *idle.CASES,
)
