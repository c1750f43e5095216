"""Runs a job in a new loop."""

import asyncio
from typing import Any, Coroutine, List, TypeVar

R = TypeVar("R")


def run(job: Coroutine[Any, Any, R]) -> R:
    """Run `job` and return what it returns.

    The result does not pass through `asyncio.run`, which on Python 3.11 and 3.12 takes many seconds
    and GiB to return one GiB: when it restores the handler of Ctrl-C, `signal` makes the `repr` of
    the old one, and so of the main task and its whole result.
    """
    results: List[R] = []

    async def main() -> None:
        results.append(await job)

    asyncio.run(main())
    return results.pop()
