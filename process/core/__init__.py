"""What the synchronous and the asyncio process share.

The interface (`process`, `protocol`), its types, constants and errors are public. The modules that
begin with an underscore are the core of the library: pure state, without a thread, a descriptor or
a loop.
"""

from process.core.constants import DEVNULL, PIPE, STDOUT
from process.core.errors import (
    ProcessAlreadyRunError,
    ProcessError,
    ProcessInvalidStreamError,
    ProcessNotRunError,
    ProcessTimeoutError,
)
from process.core.process import AbstractProcess
from process.core.protocol import ProcessProtocol
from process.core.types import File, StrOrPath

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AbstractProcess",
    "File",
    "ProcessAlreadyRunError",
    "ProcessError",
    "ProcessInvalidStreamError",
    "ProcessNotRunError",
    "ProcessProtocol",
    "ProcessTimeoutError",
    "StrOrPath",
]
