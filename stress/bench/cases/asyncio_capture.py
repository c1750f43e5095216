"""All that a child writes, as one `bytes` object, in a loop."""

import asyncio
import subprocess

from process import AsyncProcess
from stress.bench import loop
from stress.bench.case import GIB, Case
from stress.bench.payload import all_zero, zeros


def ours(size: int) -> bytes:
    async def capture() -> bytes:
        async with AsyncProcess(zeros(size)) as child:
            return await child.output()

    return loop.run(capture())


def theirs(size: int) -> bytes:
    async def capture() -> bytes:
        child = await asyncio.create_subprocess_exec(
            *zeros(size), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return (await child.communicate())[0]

    return loop.run(capture())


CASES = (
    Case(
        name="asyncio-capture",
        module=__name__,
        job="all of stdout by output()",
        amounts=(GIB,),
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="create_subprocess_exec, communicate()",
        intact=all_zero,
        allowed=0.40,
        peak=1.1,
        memory=2,
        rounds=3,
    ),
)
