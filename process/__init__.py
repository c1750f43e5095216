"""Child processes that cannot deadlock.

Importing this package is cheap: `AsyncProcess`, and with it `asyncio`, is imported on first use.
"""

from typing import TYPE_CHECKING, Any, List

from process.core import (
    DEVNULL,
    PIPE,
    STDOUT,
    AbstractProcess,
    File,
    ProcessAlreadyRunError,
    ProcessError,
    ProcessInvalidStreamError,
    ProcessNotRunError,
    ProcessProtocol,
    ProcessTimeoutError,
    StrOrPath,
)
from process.process import Process
from process.types import StreamReader, StreamWriter

if TYPE_CHECKING:
    from process.asyncio import Process as AsyncProcess

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AbstractProcess",
    "AsyncProcess",
    "File",
    "Process",
    "ProcessAlreadyRunError",
    "ProcessError",
    "ProcessInvalidStreamError",
    "ProcessNotRunError",
    "ProcessProtocol",
    "ProcessTimeoutError",
    "StrOrPath",
    "StreamReader",
    "StreamWriter",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncProcess":
        from process.asyncio import Process as AsyncProcess

        globals()[name] = AsyncProcess
        return AsyncProcess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
