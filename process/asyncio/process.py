"""The asyncio process."""

import signal
from typing import TYPE_CHECKING, Optional, Type

from process.asyncio._child import Child
from process.asyncio._shutdown import watch_running_loop
from process.asyncio._start import start
from process.asyncio.constants import DEFAULT_BUFFER_SIZE
from process.asyncio.types import StreamReader, StreamWriter
from process.core._base import BaseProcess, normalize_timeout
from process.core.errors import (
    ProcessAlreadyRunError,
    ProcessError,
    ProcessTimeoutError,
)
from process.core.process import AbstractProcess, check_arguments

if TYPE_CHECKING:
    import asyncio.subprocess
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Process"]


class Process(BaseProcess[StreamWriter, StreamReader, Child]):
    __doc__ = AbstractProcess.__doc__

    _default_buffer_size = DEFAULT_BUFFER_SIZE
    #: `run` has been called, and has not failed.
    _taken = False

    @property
    def process(self) -> "asyncio.subprocess.Process":
        return self._started.process

    async def run(self) -> "Self":
        if self._taken:
            raise ProcessAlreadyRunError
        try:
            self._taken = True
            check_arguments(self._arguments)
            await watch_running_loop()
            redirections = (self._stdin, self._stdout, self._stderr)
            self._child = await start(self._arguments, redirections, self._buffer_size)
        except Exception as error:
            raise ProcessError(f"Failed to run process: {error!r}") from error
        finally:
            self._taken = self._child is not None
        self._stdin = None  # the stream has it now, and lets go of it once it is fed
        return self

    async def output(self, join: bool = True) -> bytes:
        return await self._everything("stdout", join)

    async def error(self, join: bool = True) -> bytes:
        return await self._everything("stderr", join)

    async def join(self, timeout: Optional[float] = None) -> None:
        if not await self._started.wait(normalize_timeout(timeout)):
            raise ProcessTimeoutError(f"Process did not complete within {timeout} seconds")

    async def close(self) -> None:
        child = self._started
        child.send_signal(signal.SIGTERM)
        self._warn(await child.finish(), stacklevel=3)

    async def __aenter__(self) -> "Self":
        return await self.run()

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: "Optional[TracebackType]",
    ) -> None:
        child = self._started
        if kind is None:
            self._warn(await child.finish(), stacklevel=3)
        else:
            child.close_streams()

    async def _everything(self, name: str, join: bool) -> bytes:
        child = self._started
        stream = self._stream(name)
        self._warn(await child.keep([stream], join), stacklevel=4)
        stream.check()
        kept: bytes = stream.inbound.kept
        return kept
