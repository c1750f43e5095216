"""One round under way: the caller's side, which both variants share.

A work is a coroutine function (see `works`). For the synchronous variant it never suspends, so it
can be run to its end without a loop; for the asyncio variant it runs in a loop.
"""

import asyncio
import contextlib
import inspect
from collections import Counter
from typing import Any, Awaitable, Callable, Iterator, List, Optional
from typing import Counter as CounterType

import process as library
from process import ProcessAlreadyRunError, ProcessError
from stress.faults import child
from stress.faults.ledger import STDERR, STDOUT, Ledger
from stress.faults.plan import Plan
from stress.worker import SYNC

#: Of the causes of a start that fails, those that a fault may bring about.
_SHORTAGES = (OSError, RuntimeError, MemoryError)


class Interrupted(BaseException):
    """What the signal handler raises, as the one for Ctrl-C raises `KeyboardInterrupt`."""


class Round:
    """What works and faults share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = plan.random("work")
        self.is_async = plan.variant != SYNC
        self.Process: Any = library.AsyncProcess if self.is_async else library.Process
        self.ledger = Ledger(b"", b"")
        #: The process that faults strike, while there is one.
        self.target: Any = None
        #: How often each fault has struck.
        self.strikes: CounterType[str] = Counter()
        self.problems: List[str] = []
        self.may_be_interrupted = False
        self.loop: Optional[asyncio.AbstractEventLoop] = None
        #: Draws how long an awaitable may take before it is cancelled; `None`: for ever.
        self.patience: Callable[[], Optional[float]] = lambda: None
        #: Wraps each attempt to start a process.
        self.starting: Callable[[], Any] = contextlib.nullcontext

    @property
    def short_of_something(self) -> bool:
        """Whether a start may fail."""
        return not {"descriptors", "threads"}.isdisjoint(self.plan.faults)

    def do(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function` from another thread, in the loop if there is one."""
        if self.loop is None:
            function(*arguments)
        else:
            self.loop.call_soon_threadsafe(function, *arguments)

    async def insist(self, call: Callable[[], Any]) -> Any:
        """Make a call of the library, repeated until it is not interrupted."""
        while True:
            try:
                with self.interruptible():
                    value = call()
                return await self._awaited(value) if inspect.isawaitable(value) else value
            except (Interrupted, asyncio.CancelledError):
                continue

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """The code in this block is prepared for `Interrupted`."""
        self.may_be_interrupted = True
        try:
            yield
        finally:
            self.may_be_interrupted = False

    async def _awaited(self, value: "Awaitable[Any]") -> Any:
        patience = self.patience()
        if patience is None:
            return await value
        task = asyncio.ensure_future(value)
        handle = asyncio.get_running_loop().call_later(patience, task.cancel)
        try:
            return await task
        finally:
            handle.cancel()

    async def start(self, stdin: Any = None, **spec: Any) -> Any:
        """Start a child; see `child.command` for what it may be told to do."""
        return await self.run(self.Process(child.command(**spec), stdin))

    async def run(self, process: Any) -> Any:
        """Run `process`, repeated while there is a shortage."""
        while True:
            try:
                with self.starting():
                    await self.insist(process.run)
            except ProcessAlreadyRunError:
                pass  # cut off when it was done
            except ProcessError as error:
                if not self.short_of_something or not isinstance(error.__cause__, _SHORTAGES):
                    raise
                continue
            return process

    async def take(self, stream: str, call: Callable[[], Any]) -> bytes:
        """Make a call that reads from `stream`; a stream that a fault has closed is at its end."""
        try:
            data: bytes = await self.insist(call)
        except asyncio.IncompleteReadError as error:
            data = error.partial
        except ValueError:
            if not self.ledger.cut_short:
                raise
            data = b""
        self.ledger.add(stream, data)
        return data

    async def finish(self, process: Any) -> None:
        """End in one of the possible ways, and account for what is left."""
        how = self.random.choice(("leave", "close", "output"))
        if how == "output":
            for call in self.random.sample((process.output, process.error), 2):
                await self.insist(call)
        if how == "leave":
            await self.leave(process)
        else:
            await self.close(process)
        await self.settle(process)

    async def leave(self, process: Any) -> None:
        """As at the end of a `with` block."""
        leave = process.__aexit__ if self.is_async else process.__exit__
        await self.insist(lambda: leave(None, None, None))

    async def close(self, process: Any) -> None:
        """Close a child that may still write."""
        if await self.insist(lambda: process.exit_code) is None:
            self.ledger.cut_short = True
        await self.insist(process.close)

    async def settle(self, process: Any) -> None:
        """Account for what is left of a process that has been closed."""
        self.target = None
        self.ledger.add(STDOUT, await self.insist(process.output))
        self.ledger.add(STDERR, await self.insist(process.error))

    def signal(self, number: int, cuts: bool = False) -> bool:
        """Send a signal to the target, if there is one, which may cut its output short."""
        target = self.target
        if target is None:
            return False
        self.ledger.cut_short = self.ledger.cut_short or cuts
        self.do(target.signal, number)
        return True
