"""Rule 10: a fork of the caller neither delays an end of file nor touches its children."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import select
import signal
import subprocess
import threading
import warnings
import weakref
from typing import Any, Callable, Iterator, List

import pytest
from typing_extensions import Self

from process import PIPE, Process, ProcessError
from process._descriptor import Descriptor
from process.threads._child import end_all
from tests.support import (
    LARGE,
    PROMPT,
    Kit,
    pattern,
    start_library,
    start_talkative,
)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks"),
    # Python 3.12 and later warn of any fork while there are threads, and there always are.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class Fork:
    """A fork of this process that does `work`, and then runs until it is released.

    One that does not get on with either is ended.
    """

    def __init__(self, work: Callable[[], object] = bool) -> None:
        hold, self._release = os.pipe()
        self._done, tell = os.pipe()
        self._pid = os.fork()
        if not self._pid:  # pragma: no cover - in the fork
            try:
                os.close(self._release)
                work()
                os.write(tell, b"x")
                os.read(hold, 1)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(hold)
        os.close(tell)
        self.worked = self._hear() == b"x"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._release)
        self._hear()
        os.close(self._done)
        assert os.waitpid(self._pid, 0)[1] == 0

    def _hear(self) -> bytes:
        """What the fork says next, or nothing if it ends, or has to be ended."""
        if not select.select([self._done], [], [], 2 * PROMPT)[0]:
            os.kill(self._pid, signal.SIGKILL)
        return os.read(self._done, 1)


@pytest.mark.parametrize("streams", [["stdin"], ["stdin", "stdout"]])
async def test_a_fork_that_lives_on_delays_no_end_of_file(kit: Kit, streams: List[str]) -> None:
    """A fork holds no pipe of the child: not its stdin, not the relay of `fileno()`."""
    async with kit.opened(["cat"], stdin=PIPE) as process:
        if "stdout" in streams and not kit.is_async:
            process.stdout.fileno()
        with Fork():
            await kit.send(process.stdin, b"x")
            process.stdin.close()
            if kit.is_async:
                assert await asyncio.wait_for(process.stdout.read(), PROMPT) == b"x"
            else:
                assert process.stdout.read() == b"x"


async def test_a_fork_that_lives_on_keeps_no_reader(kit: Kit) -> None:
    """A child whose reader has left gets SIGPIPE though a fork has been made in between."""
    async with kit.opened(["yes"]) as process:
        with Fork():
            process.stdout.close()
            await kit.get(process.join(PROMPT))
            # The pipes of uvloop are sockets: if one is closed with bytes unread, a write to its
            # other end fails with ECONNRESET, and raises no signal (unix(7)).
            codes = [-signal.SIGPIPE, *([1] if kit.name == "uvloop" else [])]
            assert process.exit_code in codes


async def test_a_fork_in_the_middle_of_floods(kit: Kit) -> None:
    """Both directions under way: nothing is lost, doubled or late in the parent."""
    data = pattern(LARGE)
    async with kit.opened(["cat"], stdin=data) as process:
        first = await kit.read(process.stdout, 100_000)
        with Fork():
            output = kit.get(process.output())
            rest = await (asyncio.wait_for(output, PROMPT) if kit.is_async else output)
        assert first + rest == data


async def test_the_finalizers_of_a_fork_touch_nothing(kit: Kit) -> None:
    """What the fork drops is the parent's: the child runs on, and works."""
    box = [await kit.start(["cat"], stdin=PIPE)]

    def drop() -> None:  # pragma: no cover - in the fork
        box.clear()
        gc.collect()

    with Fork(drop) as fork:
        assert fork.worked
    process = box[0]
    assert process.running
    await kit.send(process.stdin, b"x")
    assert await kit.read(process.stdout, 1) == b"x"
    await kit.get(process.close())


def test_a_fork_runs_processes_of_its_own() -> None:
    """All that the library has works anew in a fork, while the parent's threads are at work."""
    data = pattern(LARGE)

    def work() -> None:  # pragma: no cover - in the fork
        with Process(["cat"], stdin=data) as own:
            assert own.output() == data

    with Process(["cat"], stdin=data) as process:
        with Fork(work) as fork:
            assert fork.worked
        assert process.output() == data


def test_forks_by_one_thread_while_another_runs_processes() -> None:
    """Whatever another thread is in the middle of, the fork's own processes work."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with Process(["cat"], stdin=b"x") as process:
                assert process.output() == b"x"

    def work() -> None:  # pragma: no cover - in the fork
        with Process(["cat"], stdin=b"y") as own:
            assert own.output() == b"y"

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(20):
            with Fork(work) as fork:
                assert fork.worked
    finally:
        stop.set()
        thread.join()


def test_multiprocessing_with_the_fork_method() -> None:
    """The same by `multiprocessing`, whose processes run finalizers before they end."""
    context = multiprocessing.get_context("fork")
    started, over = context.Event(), context.Event()
    with Process(["cat"], stdin=PIPE) as process:

        def work() -> None:  # pragma: no cover - in the fork
            started.set()
            over.wait()

        worker = context.Process(target=work)
        worker.start()
        try:
            started.wait()
            process.stdin.write(b"x")
            process.stdin.close()
            assert process.stdout.read() == b"x"
        finally:
            over.set()
            worker.join()
        assert worker.exitcode == 0
        worker.close()


_FORKS = {
    "sync": """
from process import PIPE, Process
process = Process(["cat"], stdin=PIPE).run()
pid = os.fork()
if not pid:
    {way}
check(pid)
process.stdin.write(b"x")
process.stdin.close()
assert process.output() == b"x"
process.close()
""",
    "sync in a block": """
from process import PIPE, Process
with Process(["cat"], stdin=PIPE) as process:
    pid = os.fork()
    if not pid:
        {way}
    check(pid)
    process.stdin.write(b"x")
assert process.output() == b"x"
""",
    "asyncio before its loop runs again": """
import asyncio
from process import PIPE, AsyncProcess
loop = asyncio.new_event_loop()
process = loop.run_until_complete(AsyncProcess(["cat"], stdin=PIPE).run())
pid = os.fork()
if not pid:
    {way}
check(pid)
async def rest():
    process.stdin.write(b"x")
    process.stdin.close()
    assert await process.output() == b"x"
    await process.close()
loop.run_until_complete(rest())
loop.close()
""",
}


@pytest.mark.parametrize("script", _FORKS)
@pytest.mark.parametrize("way", ["sys.exit()", "del process; gc.collect(); os._exit(0)"])
def test_a_fork_that_exits(script: str, way: str) -> None:
    """Exit handlers and finalizers of a fork, by `sys.exit`: silent, and the child runs on."""
    prelude = """
import gc, os, sys, warnings
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
def check(pid):
    assert os.waitpid(pid, 0)[1] == 0
    assert process.running
"""
    command = start_talkative(prelude + _FORKS[script].format(way=way))
    done = subprocess.run(command, capture_output=True, timeout=10 * PROMPT, check=False)
    assert (done.stderr, done.returncode) == (b"", 0)


def _fork_runs_its_task(loops: Kit) -> bool:
    """Whether the task that has forked is still the loop's current one in the fork (gh-139894)."""

    async def fork() -> bool:
        loop = asyncio.get_running_loop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:  # pragma: no cover - in the fork
            os._exit(asyncio.current_task(loop) is None)
        return os.waitpid(pid, 0)[1] == 0

    return loops.run(fork())


@pytest.mark.parametrize(
    "way",
    [
        "sys.exit()",
        "os._exit(0)",
        "process.kill(); await process.close(); del process; os._exit(0)",
        "process.kill(); await process.close(); del process; sys.exit()",
        "loop.stop(); sys.exit()",
        "process.kill(); await process.close(); del process; loop.stop(); sys.exit()",
        "return",
    ],
)
def test_a_fork_of_a_running_loop_that_exits(loops: Kit, way: str) -> None:
    """A fork that unwinds `run_until_complete` and shuts the loop down ends, and ends no child."""
    if "sys.exit" in way and "stop" not in way and not _fork_runs_its_task(loops):
        pytest.skip("in a fork SystemExit does not end a loop, without children, too (gh-139894)")
    script = f"""
import asyncio, os, sys, warnings
from process import PIPE, AsyncProcess
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
async def main():
    process = await AsyncProcess(["cat"], stdin=PIPE).run()
    pid = os.fork()
    if not pid:
        {way}
    assert os.waitpid(pid, 0)[1] == 0
    assert process.running
    process.stdin.write(b"x")
    process.stdin.close()
    assert await process.output() == b"x"
    await process.close()
if {loops.name == "uvloop"}:
    import uvloop as loops
else:
    loops = asyncio
loop = loops.new_event_loop()
try:
    loop.run_until_complete(main())
finally:
    loop.run_until_complete(loop.shutdown_asyncgens())
"""
    with subprocess.Popen(start_library(script), start_new_session=True) as caller:
        try:
            assert caller.wait(2 * PROMPT) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(caller.pid, signal.SIGKILL)  # a fork that hangs


def test_what_a_fork_opens_is_not_closed_by_its_loop(loops: Kit) -> None:
    """The numbers of the parent's pipes stay in use until the loop's objects have released them."""
    script = f"""
import asyncio, contextlib, gc, os, warnings
from process import PIPE, AsyncProcess
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
own = []
async def main():
    process = await AsyncProcess(["cat"], stdin=PIPE).run()
    pid = os.fork()
    if not pid:
        own.extend(os.open(os.devnull, os.O_RDWR) for _ in range(20))
        return
    code = os.waitpid(pid, 0)[1]
    # It has closed what the two loops share; so here ours is over, too.
    process.kill()
    with contextlib.suppress(ChildProcessError):  # the watcher of asyncio before 3.12 has it
        os.waitpid(process.id, 0)
    os._exit(code != 0)
if {loops.name == "uvloop"}:
    import uvloop as loops
else:
    loops = asyncio
loop = loops.new_event_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_asyncgens())
sys.unraisablehook = bool  # a transport that is dropped after its loop has much to say
loop.close()
del loop
gc.collect()
for number in own:
    os.close(number)
os._exit(0)
"""
    with subprocess.Popen(start_library(script), start_new_session=True) as caller:
        try:
            assert caller.wait(2 * PROMPT) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(caller.pid, signal.SIGKILL)  # a fork that hangs


def test_descriptors_that_a_fork_has_not_got() -> None:
    """What the caller has closed behind our back, or dropped just now, is no matter in a fork."""
    kept = Descriptor.own(os.dup, 1)
    stolen = Descriptor.own(os.dup2, 1, 200)  # a number that is not reused meanwhile
    os.close(200)
    # What the collector leaves before it runs a finalizer.
    Descriptor.owners[0] = weakref.ref(Descriptor.own(os.dup, 1))

    def work() -> None:  # pragma: no cover - in the fork
        assert kept.fileno() == -1
        kept.close()

    try:
        with Fork(work) as fork:
            assert fork.worked
    finally:
        del Descriptor.owners[0]
    os.dup2(1, 200)
    for descriptor in (stolen, kept):
        descriptor.close()
        descriptor.close()
        assert descriptor.fileno() == -1


@pytest.mark.parametrize("leave", ["close", "__exit__"])
def test_a_fork_that_falls_off_the_end_of_the_block(leave: str) -> None:
    """A fork that closes its parent's process waits for nothing and ends no child."""
    with Process(["cat"], stdin=PIPE) as process:
        work = process.close if leave == "close" else lambda: process.__exit__(None, None, None)
        with Fork(work) as fork:
            assert fork.worked
        assert process.running
        process.stdin.write(b"on")
    assert process.output() == b"on"


#: What a fork does on its way out, or may always ask.
_LEAVES: List[Any] = [
    pytest.param(lambda process: process.__exit__(None, None, None), id="leave"),
    pytest.param(lambda process: process.__exit__(KeyError, KeyError(), None), id="exception"),
    pytest.param(lambda process: process.close(), id="close"),
    pytest.param(lambda process: process.kill(), id="kill"),
    pytest.param(lambda process: process.__del__(), id="drop"),
    pytest.param(lambda _: end_all(), id="exit"),
    pytest.param(lambda process: process.running, id="running"),
    pytest.param(lambda process: process.exit_code, id="exit_code"),
    pytest.param(repr, id="repr"),
]

#: What it cannot have, and is told so.
_CALLS: List[Any] = [
    pytest.param(lambda process: process.output(), id="output"),
    pytest.param(lambda process: process.error(), id="error"),
    pytest.param(lambda process: process.join(), id="join"),
    pytest.param(lambda process: process.stdout.read(), id="read"),
    pytest.param(lambda process: process.stdout.read(1), id="read-size"),
    pytest.param(lambda process: process.stdout.readline(), id="readline"),
    pytest.param(lambda process: list(process.stdout), id="iterate"),
    pytest.param(lambda process: process.stdout.fileno(), id="fileno"),
    pytest.param(lambda process: process.stdout.close(), id="stdout-close"),
    pytest.param(lambda process: process.stdin.write(b"no"), id="write"),
    pytest.param(lambda process: process.stdin.write(bytes(LARGE)), id="write-much"),
    pytest.param(lambda process: process.stdin.flush(), id="flush"),
    pytest.param(lambda process: process.stdin.close(), id="stdin-close"),
    pytest.param(lambda process: process.stdin.fileno(), id="stdin-fileno"),
]


@contextlib.contextmanager
def _lock_held(process: Any) -> Iterator[None]:
    """Another thread has the lock of a process."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with process._child.monitor.lock:
            held.set()
            go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait()
        yield
    finally:
        go.set()
        thread.join()


def _call_in_a_fork(work: Callable[[Any], object]) -> None:
    """A fork does that with its parent's process, of which another thread has the lock.

    It gets on with it, and the child runs on, and works.
    """
    with Process(["cat"], stdin=PIPE) as process:
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        with _lock_held(process), Fork(lambda: work(process)) as fork:
            assert fork.worked
        assert process.running
        process.stdin.write(b"on")
    assert process.output() == b"on"


@pytest.mark.parametrize("leave", _LEAVES)
def test_a_fork_made_while_another_thread_holds_the_lock(leave: Callable[[Any], object]) -> None:
    """It does not wait for a thread that it has not got."""
    _call_in_a_fork(leave)


@pytest.mark.parametrize("call", _CALLS)
def test_a_fork_is_told_what_it_cannot_have(call: Callable[[Any], object]) -> None:
    """That the process is its parent's, or that the file is closed, even if the lock is held."""

    def work(process: Any) -> None:  # pragma: no cover - in the fork
        with contextlib.suppress(ProcessError, ValueError):
            call(process)

    _call_in_a_fork(work)
