"""All of stdin through `cat` and back, as one `bytes` object each way, in a loop."""

import asyncio
import operator
import subprocess

from process import AsyncProcess
from stress.bench import loop
from stress.bench.case import GIB, Case
from stress.bench.payload import pattern


def ours(data: bytes) -> bytes:
    async def echo() -> bytes:
        async with AsyncProcess(["cat"], stdin=data) as child:
            return await child.output()

    return loop.run(echo())


def theirs(data: bytes) -> bytes:
    async def echo() -> bytes:
        pipe = subprocess.PIPE
        child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe, stderr=pipe)
        return (await child.communicate(data))[0]

    return loop.run(echo())


CASES = (
    Case(
        name="asyncio-echo",
        module=__name__,
        job="stdin bytes through cat and back by output()",
        amounts=(GIB,),
        prepare=pattern,
        ours=ours,
        theirs=theirs,
        against="create_subprocess_exec, communicate()",
        intact=operator.eq,
        allowed=0.60,
        memory=4,
        rounds=3,
    ),
)
