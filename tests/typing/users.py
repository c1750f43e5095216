"""What users may rely on when their code is checked, by mypy and by pyright, both strictly.

`assert_type` says what a type has to be. A mistake that has to be found is forgiven to each checker
in its own words, and each complains about what needs no forgiveness.
"""

import asyncio
from io import BufferedReader, BufferedWriter, FileIO
from pathlib import Path
from subprocess import Popen
from typing import IO, Any, List, Optional, Union

from typing_extensions import assert_type

import process.asyncio
from process import (
    DEVNULL,
    PIPE,
    STDOUT,
    AbstractProcess,
    AsyncProcess,
    Process,
    ProcessError,
    ProcessProtocol,
    ProcessTimeoutError,
    StreamReader,
    StreamWriter,
)


def arguments(path: Path, file: IO[bytes], parts: List[Union[str, Path]]) -> None:
    """A line, a path or a sequence of both; bytes only for stdin."""
    Process("cat -n")
    Process(path)
    Process([path, "-n"])
    Process(("cat", "-n"))
    Process(parts)
    Process("cat", b"data", PIPE, STDOUT, 0)
    Process("cat", stdin=file, stdout=3, stderr=DEVNULL, buffer_size=None)
    AsyncProcess([path], stdin=b"data", stderr=STDOUT)
    Process(b"cat")  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    Process("cat", stdin="text")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    Process("cat", stdout=b"data")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    Process("cat", shell=True)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


def members() -> None:
    """Of the synchronous variant."""
    process = Process("cat")
    assert_type(process.run(), Process)
    assert_type(process.arguments, List[str])
    assert_type(process.process, Popen[bytes])
    assert_type(process.id, int)
    assert_type(process.running, bool)
    assert_type(process.exit_code, Optional[int])
    assert_type(process.stdin, StreamWriter)
    assert_type(process.stdin, Union[FileIO, BufferedWriter])
    assert_type(process.stdout, StreamReader)
    assert_type(process.stderr, Union[FileIO, BufferedReader])
    assert_type(process.output(), bytes)
    assert_type(process.error(join=False), bytes)
    process.join(1)
    process.stdin.write(b"data")
    process.stdin.write("text")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    process.stdout = process.stderr  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    with process as entered:
        assert_type(entered, Process)
        for line in entered.stdout:
            assert_type(line, bytes)


async def async_members() -> None:
    """Of the asyncio variant: the same, and some are coroutines."""
    process = AsyncProcess("cat")
    assert_type(await process.run(), AsyncProcess)
    assert_type(process.arguments, List[str])
    assert_type(process.process, asyncio.subprocess.Process)
    assert_type(process.id, int)
    assert_type(process.running, bool)
    assert_type(process.exit_code, Optional[int])
    assert_type(process.stdin, asyncio.StreamWriter)
    assert_type(process.stdout, asyncio.StreamReader)
    assert_type(process.stderr, asyncio.StreamReader)
    assert_type(await process.output(), bytes)
    assert_type(await process.error(False), bytes)
    await process.join(timeout=0.5)
    await process.close()
    process.terminate()
    async with process as entered:
        assert_type(entered, AsyncProcess)
        async for line in entered.stdout:
            assert_type(line, bytes)
    with process:  # type: ignore[attr-defined] # pyright: ignore[reportGeneralTypeIssues]
        pass


def one_class(process_class: process.asyncio.Process) -> AsyncProcess:
    """`AsyncProcess` is that of `process.asyncio`."""
    return process_class


def either(process: ProcessProtocol[Any, Any]) -> Optional[int]:
    """A function that takes both variants."""
    assert_type(process.id, int)
    process.kill()
    return process.exit_code


def synchronous(process: ProcessProtocol[StreamWriter, StreamReader]) -> bytes:
    """A function that takes the synchronous variant by its streams."""
    assert_type(process.stdout, StreamReader)
    return process.stdout.readline()


def abstract(process: AbstractProcess[StreamWriter, StreamReader]) -> List[str]:
    """A function that takes what has the abstract class as its base."""
    return process.arguments


def takes() -> None:
    """Which variant goes where."""
    either(Process("cat"))
    either(AsyncProcess("cat"))
    synchronous(Process("cat"))
    synchronous(AsyncProcess("cat"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    abstract(Process("cat"))


class Loud(Process):
    """A subclass is what `run` and `with` return."""

    def shout(self) -> bytes:
        """What it said, but louder."""
        return self.output().upper()


def subclasses() -> None:
    """They keep their type."""
    assert_type(Loud("cat").run(), Loud)
    with Loud("cat") as loud:
        assert_type(loud.shout(), bytes)


def errors() -> None:
    """One base for all."""
    try:
        Process("cat").run().join(1)
    except ProcessTimeoutError as error:
        base: ProcessError = error
        assert_type(base.__cause__, Optional[BaseException])
