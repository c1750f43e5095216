"""Calls that are interrupted and made again."""

import asyncio
import contextlib

from process import PIPE, AsyncProcess, Process
from stress.demonstration.scenario import Result, Scenario
from stress.demonstration.scenarios.plain import Popen, child, create
from stress.pattern import pattern

_DATA = pattern(2 * 1024 * 1024)
_PAUSE = 1
_LESS_THAN_THE_PAUSE = 0.5


class AskAgain(Scenario):
    name = "interrupted, asked again"
    rule = 4
    trap = "What the first call has read already is dropped with it. (asyncio: a timeout.)"
    expected = _DATA
    #: Sends its parent a SIGINT half way, as Ctrl-C does.
    interrupting = child("interrupt", len(_DATA))
    #: Pauses half way, for longer than the caller's timeout.
    resting = child("pause", len(_DATA), _PAUSE)
    posix = True

    def popen(self) -> Result:
        with Popen(self.interrupting, stdout=PIPE) as process:
            with contextlib.suppress(KeyboardInterrupt):
                return process.communicate()[0]
            return process.communicate()[0]

    def process(self) -> Result:
        with Process(self.interrupting) as process:
            with contextlib.suppress(KeyboardInterrupt):
                return process.output()
            return process.output()

    async def asyncio(self) -> Result:
        process = await create(*self.resting, stdout=PIPE)
        with contextlib.suppress(asyncio.TimeoutError):
            return (await asyncio.wait_for(process.communicate(), _LESS_THAN_THE_PAUSE))[0]
        return (await process.communicate())[0]

    async def async_process(self) -> Result:
        async with AsyncProcess(self.resting) as process:
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(process.output(), _LESS_THAN_THE_PAUSE)
            return await process.output()


SCENARIOS = (AskAgain,)
