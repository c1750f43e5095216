"""Small processes, one after the other, in a loop."""

import asyncio
import subprocess

from process import AsyncProcess
from stress.bench import loop
from stress.bench.case import Case
from stress.bench.cases.true import Ends, intact


async def run_ours(count: int) -> Ends:
    ends: Ends = []
    for _ in range(count):
        async with AsyncProcess(["/bin/true"]) as child:
            output, error = await child.output(), await child.error()
        ends.append((child.exit_code, output, error))
    return ends


async def run_theirs(count: int) -> Ends:
    ends: Ends = []
    for _ in range(count):
        child = await asyncio.create_subprocess_exec(
            "/bin/true", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, error = await child.communicate()
        ends.append((child.returncode, output, error))
    return ends


def ours(count: int) -> Ends:
    return loop.run(run_ours(count))


def theirs(count: int) -> Ends:
    return loop.run(run_theirs(count))


CASES = (
    Case(
        name="asyncio-true",
        module=__name__,
        job="/bin/true, both outputs captured",
        amounts=(200,),
        unit="processes",
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="create_subprocess_exec, communicate()",
        intact=intact,
        allowed=1.10,
    ),
)
