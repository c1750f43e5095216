"""Plays one scenario with one library, in this process: `python -m stress.demonstration.play`.

The arguments are the name of the scenario, the value of the `Library`, and a file in which the play
is recorded as JSON. One that hangs records nothing, and is killed by the process that started it.
"""

import asyncio
import json
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import List, Tuple

from stress import census
from stress.demonstration.scenario import Library, Outcome, Play, Result, Scenario, judge
from stress.demonstration.scenarios import SCENARIOS

#: What was returned, after how many seconds, and what was left behind.
_Ending = Tuple[Result, float, List[str]]


def _play_sync(scenario: Scenario, library: Library) -> _Ending:
    before = census.take()
    begin = time.monotonic()
    got: Result = getattr(scenario, library.value)()
    seconds = time.monotonic() - begin
    return got, seconds, census.settle(before)


async def _play_async(scenario: Scenario, library: Library) -> _Ending:
    before = census.take()
    begin = time.monotonic()
    got: Result = await getattr(scenario, library.value)()
    seconds = time.monotonic() - begin
    # The loop takes some iterations for closed pipes and ended children.
    deadline = time.monotonic() + census.PATIENCE
    while True:
        leaks = census.settle(before, patience=0)
        if not leaks or time.monotonic() > deadline:
            return got, seconds, leaks
        await asyncio.sleep(0.01)


def play(scenario: Scenario, library: Library) -> Play:
    """Play `scenario` and judge the outcome."""
    begin = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", RuntimeWarning)
        try:
            if library in (Library.ASYNCIO, Library.ASYNC_PROCESS):
                got, seconds, leaks = asyncio.run(_play_async(scenario, library))
            else:
                got, seconds, leaks = _play_sync(scenario, library)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            return Play(Outcome.ERROR, time.monotonic() - begin, detail)
    outcome, detail = judge(scenario.expected, got, leaks)
    if caught and not detail:
        detail = f"with a {caught[0].category.__name__}"
    return Play(outcome, seconds, detail)


def main(name: str, library: str, record: str) -> None:
    """Play one scenario and record the outcome."""
    # A shell may have started us with SIGINT ignored, which one scenario needs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    played = play(SCENARIOS[name], Library(library))
    text = json.dumps([played.outcome.value, played.seconds, played.detail])
    Path(record).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
