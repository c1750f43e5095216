"""Rules 1 and 6: pipelines. Connected processes count as one, and what is handed over arrives."""

import asyncio
import contextlib
import gc
import itertools
import os
import selectors
import signal
import subprocess
import threading
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from process import PIPE, AsyncProcess, Process
from process.core._flow import Flow
from process.core._inbound import Inbound
from tests.support import (
    CAT,
    PROMPT,
    Kit,
    descriptors,
    is_alive,
    pattern,
    python,
    start_library,
    until,
)

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGPIPE"), reason="a pipe without a reader raises no signal"
)

#: Copies stdin to stdout once it has flooded stderr.
#: More than the pipes and buffers of a process hold while nobody waits.
SIZE = 1_500_000

_COPY = "for data in iter(lambda: os.read(0, 65536), b''): put(1, data)"
_FLOOD = f"put(2, pattern({SIZE}, 2))"
_STAGE = f"{_FLOOD}\n{_COPY}"

_STAGES = {"before": python(_STAGE), "after": python(f"{_COPY}\n{_FLOOD}")}

#: Writes lines without end.
YES = ["yes"]


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Call what blocks, while the loop, if there is one, goes on."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return function()
    return await loop.run_in_executor(None, function)


async def _get(process: Any, call: Callable[[], Any]) -> Any:
    """Make a call of either variant."""
    if isinstance(process, AsyncProcess):
        return await call()
    return await _in_thread(call)


# A wait for one process is a wait for all that it is connected with.


@pytest.mark.parametrize("floods", ["before", "after"])
@pytest.mark.parametrize("call", ["output", "join", "error", "read", "leave"])
@pytest.mark.parametrize("waits", [0, 1, -1])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_all_stages_flood_stderr(count: int, waits: int, call: str, floods: str) -> None:
    """Whichever stage the caller waits for first, in whichever way."""
    data = pattern(SIZE)
    with contextlib.ExitStack() as stack:
        stages: List[Any] = []
        for _ in range(count):
            stdin = stages[-1].stdout if stages else data
            stages.append(stack.enter_context(Process(_STAGES[floods], stdin=stdin)))
        stage = stages[waits]
        if call == "read":
            assert stage.stderr.read() == pattern(SIZE, 2)
        elif call == "leave":
            stage.__exit__(None, None, None)
        else:
            getattr(stage, call)()
    assert stages[-1].output() == data
    for each in stages:
        if each is not stage or call != "read":
            assert each.error() == pattern(SIZE, 2)
        assert each.exit_code == 0


@pytest.mark.parametrize("waits", [0, 1])
@pytest.mark.parametrize("call", ["output", "join", "error", "leave"])
async def test_a_receiver_of_either_variant_floods_stderr(kit: Kit, call: str, waits: int) -> None:
    """And so does the synchronous giver; whichever the caller waits for."""
    data = pattern(SIZE)
    first = Process(python(_STAGE), stdin=data).run()
    second = await kit.start(python(_STAGE), stdin=first.stdout)
    for process in (first, second) if waits == 0 else (second, first):
        if call == "leave":
            leave = getattr(process, "__aexit__", None) or process.__exit__
            await _get(process, lambda leave=leave: leave(None, None, None))  # type: ignore[misc]
        elif call != "output" or process is second:
            await _get(process, getattr(process, call))
    assert await _get(second, second.output) == data
    for process in (first, second):
        assert await _get(process, process.error) == pattern(SIZE, 2)
        await _get(process, process.close)
        assert process.exit_code == 0


def test_connected_with_a_process_for_which_a_caller_waits_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait counts for the receiver, too, whose stderr is full by then."""
    full = threading.Event()
    connect, room = Flow.connect, Inbound.room

    def noted_room(self: Inbound, *arguments: Any) -> int:
        result = room(self, *arguments)
        if self.held and not result:
            full.set()
        return result

    def connect_late(self: Flow, other: Flow) -> None:
        full.wait()
        connect(self, other)

    script = f"get(1); put(1, pattern({SIZE}))"
    with Process(python(script), stdin=PIPE, stderr=None) as first:
        monkeypatch.setattr(Flow, "connect", connect_late)
        monkeypatch.setattr(Inbound, "room", noted_room)
        waits = threading.Thread(target=first.join)
        waits.start()
        until(lambda: first._child.monitor.flow.busy)  # type: ignore[union-attr]
        second = Process(_STAGES["before"], stdin=first.stdout).run()
        first.stdin.write(b"x")
        first.stdin.flush()
        waits.join()
    assert second.output() == pattern(SIZE)
    second.close()


@pytest.mark.parametrize("redirected", ["stdout", "stderr"])
@pytest.mark.parametrize("waits", [0, 1])
@pytest.mark.parametrize("call", ["join", "leave"])
async def test_a_giver_of_either_variant_writes_to_the_stdin_of_another(
    kit: Kit, call: str, waits: int, redirected: str
) -> None:
    """The second process, which is started first, floods stderr before it reads."""
    data = pattern(SIZE)
    number = 1 if redirected == "stdout" else 2
    second = Process(python(_STAGE), stdin=PIPE).run()
    script = f"put({number}, pattern({SIZE})); put({3 - number}, pattern({SIZE}, 3))"
    first = await kit.start(python(script), **{redirected: second.stdin})
    await _in_thread(second.stdin.close)
    for process in (first, second) if waits == 0 else (second, first):
        if call == "leave":
            leave = getattr(process, "__aexit__", None) or process.__exit__
            await _get(process, lambda leave=leave: leave(None, None, None))  # type: ignore[misc]
        else:
            await _get(process, process.join)
    assert await _in_thread(second.output) == data
    assert await _in_thread(second.error) == pattern(SIZE, 2)
    rest = first.error if redirected == "stdout" else first.output
    assert await _get(first, rest) == pattern(SIZE, 3)
    for process in (first, second):
        await _get(process, process.close)
        assert process.exit_code == 0


async def test_a_poll_of_one_is_a_poll_of_all(kit: Kit) -> None:
    """A loop that looks whether the second process still runs ends."""
    data = pattern(SIZE)
    first = Process(python(_STAGE), stdin=data).run()
    second = await kit.start(python(_STAGE), stdin=first.stdout)
    while second.running:
        await kit.pause()
    assert await _get(second, second.output) == data
    for process in (first, second):
        await _get(process, process.close)
        assert process.exit_code == 0


def test_nothing_is_done_in_the_block_of_a_pipeline() -> None:
    """Leaving the blocks is enough."""
    with (
        Process(python(_STAGE), stdin=pattern(SIZE)) as first,
        Process(["wc", "-c"], stdin=first.stdout) as second,
    ):
        pass
    assert int(second.output()) == SIZE


# What is handed over is the receiver's.

#: How a receiver is told what its stdin is.
_GIVE: Dict[str, Callable[[Any], Any]] = {
    "file": lambda stream: stream,
    "number": lambda stream: stream.fileno(),
    "duplicate": lambda stream: os.dup(stream.fileno()),
}


@contextlib.contextmanager
def _given(stream: Any, how: str) -> Iterator[Any]:
    given = _GIVE[how](stream)
    yield given
    if how == "duplicate":
        os.close(given)


#: What becomes of the first process once the second one has been started.
_AFTERWARDS: Dict[str, Callable[[Any], Any]] = {
    "close stdout": lambda process: process.stdout.close(),
    "leave": lambda process: process.__exit__(None, None, None),
    "join": lambda process: process.join(),
    "join and close stdout": lambda process: (process.join(), process.stdout.close()),
    "join and close": lambda process: (process.join(), process.close()),
    "join and drop": lambda process: process.join(),
    "leave and drop": lambda process: process.__exit__(None, None, None),
    "join and abort": lambda process: (process.join(), process.__exit__(OSError, OSError(), None)),
}


@pytest.mark.parametrize("read", [0, 1, 100_000], ids="read {}".format)
@pytest.mark.parametrize("afterwards", list(_AFTERWARDS))
@pytest.mark.parametrize("how", list(_GIVE))
@pytest.mark.parametrize("receiver", ["Process", "Popen"])
def test_the_receiver_gets_every_byte(receiver: str, how: str, afterwards: str, read: int) -> None:
    """The end of the first process, and closed copies, make no difference."""
    data = pattern(SIZE)
    first = Process(CAT, stdin=data).run()
    assert first.stdout.read(read) == data[:read]
    with _given(first.stdout, how) as stdin:
        second: Any
        if receiver == "Popen":
            second = subprocess.Popen(CAT, stdin=stdin, stdout=PIPE)
        else:
            second = Process(CAT, stdin=stdin).run()
    _AFTERWARDS[afterwards](first)
    if "drop" in afterwards:
        del first
        gc.collect()
    found = second.communicate()[0] if receiver == "Popen" else second.output()
    assert found == data[read:]
    if receiver == "Process":
        second.close()
    if "drop" not in afterwards:
        first.join()
        first.close()
        assert first.exit_code == 0


@pytest.mark.parametrize("read", [0, 1], ids="read {}".format)
@pytest.mark.parametrize("afterwards", list(_AFTERWARDS))
async def test_an_asyncio_receiver_gets_every_byte(loops: Kit, afterwards: str, read: int) -> None:
    """The same in a loop."""
    data = pattern(SIZE)
    first = Process(CAT, stdin=data).run()
    assert first.stdout.read(read) == data[:read]
    second = await loops.start(CAT, stdin=first.stdout)
    await _in_thread(lambda: _AFTERWARDS[afterwards](first))
    if "drop" in afterwards:
        del first
        gc.collect()
    assert await second.output() == data[read:]
    await second.close()
    if "drop" not in afterwards:
        first.join()
        first.close()
        assert first.exit_code == 0


@pytest.mark.parametrize("read", [0, 1], ids="read {}".format)
@pytest.mark.parametrize("how", list(_GIVE))
def test_a_first_process_that_is_over_before_the_second_one_begins(how: str, read: int) -> None:
    """Joined, handed over, and dropped."""
    data = pattern(SIZE)
    first = Process(CAT, stdin=data).run()
    assert first.stdout.read(read) == data[:read]
    first.join()
    with _given(first.stdout, how) as stdin:
        second = Process(["wc", "-c"], stdin=stdin).run()
    del first
    gc.collect()
    assert int(second.output()) == SIZE - read
    second.close()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("way", ["leave", "join and close", "join and drop"])
def test_stages_are_ended_in_any_order(order: Tuple[int, ...], way: str) -> None:
    """Three of them; the last one is read when its turn comes."""
    data = pattern(SIZE)
    stages: List[Any] = [Process(CAT, stdin=data).run()]
    for _ in range(2):
        stages.append(Process(CAT, stdin=stages[-1].stdout).run())
    for index in order:
        if index == 2:
            assert stages[index].output() == data
        if way == "leave":
            stages[index].__exit__(None, None, None)
        else:
            stages[index].join()
            if way == "join and close":
                stages[index].close()
        assert stages[index].exit_code == 0
        stages[index] = None


@pytest.mark.parametrize("read", [0, 1], ids="read {}".format)
@pytest.mark.parametrize("join", [False, True])
def test_a_stream_that_was_handed_over_is_at_its_end(read: int, join: bool) -> None:
    """Here there is nothing left, and nothing to be handed over again."""
    with Process(CAT, stdin=b"abc\ndef\n") as first:
        assert first.stdout.read(read) == b"abc"[:read]
        if join:
            first.join()
        with Process(CAT, stdin=first.stdout) as second:
            assert first.stdout.read() == b""
            assert first.stdout.read(1) == b""
            assert first.stdout.readline() == b""
            assert first.stdout.peek() == b""  # type: ignore[union-attr]
            assert list(first.stdout) == []
            assert first.output() == b""
            with pytest.raises(ValueError, match="handed over"):
                first.stdout.fileno()
            assert second.output() == b"abc\ndef\n"[read:]
    assert first.output() == b""


# Readers that leave.


@pytest.mark.parametrize("waits", [0, 1, 2])
@pytest.mark.parametrize("read", [0, 2], ids="read {}".format)
@pytest.mark.parametrize("count", [2, 3])
def test_a_stage_behind_a_reader_that_has_left_can_be_joined(
    count: int, read: int, waits: int
) -> None:
    """It gets its SIGPIPE, though the caller has not closed anything."""
    stages: List[Any] = [Process(YES).run()]
    assert stages[0].stdout.read(read) == b"y\n"[:read]
    for _ in range(count - 2):
        stages.append(Process(CAT, stdin=stages[-1].stdout).run())
    stages.append(Process(["head", "-n", "2"], stdin=stages[-1].stdout).run())
    stages[min(waits, count - 1)].join()
    assert stages[-1].output() == b"y\ny\n"
    for stage in stages[:-1]:
        stage.join()
        assert stage.exit_code == -signal.SIGPIPE
    for stage in stages:
        stage.close()


@pytest.mark.parametrize("read", [0, 2], ids="read {}".format)
async def test_a_receiver_of_either_variant_is_closed_early(kit: Kit, read: int) -> None:
    """The first process, which writes without end, can be joined then."""
    first = Process(YES).run()
    assert first.stdout.read(read) == b"y\n"[:read]
    second = await kit.start(CAT, stdin=first.stdout)
    assert await kit.read(second.stdout, 4) == b"y\ny\n"
    await _get(second, second.close)
    await _in_thread(first.join)
    assert first.exit_code == -signal.SIGPIPE
    first.close()


@pytest.mark.parametrize("how", ["number", "duplicate"])
def test_a_reader_that_has_got_a_number_leaves(how: str) -> None:
    """Once the caller has closed its stream, too, the first process gets SIGPIPE."""
    first = Process(YES).run()
    with _given(first.stdout, how) as stdin:
        second = Process(["head", "-n", "2"], stdin=stdin).run()
    first.stdout.close()
    first.join()
    assert first.exit_code == -signal.SIGPIPE
    assert second.output() == b"y\ny\n"
    for process in (first, second):
        process.close()


async def test_a_writer_of_either_variant_to_a_reader_that_leaves(kit: Kit) -> None:
    """With `stdout=second.stdin`: the second one is closed, and the first one gets SIGPIPE."""
    second = Process(CAT, stdin=PIPE).run()
    first = await kit.start(YES, stdout=second.stdin)
    assert await _in_thread(lambda: second.stdout.read(4)) == b"y\ny\n"
    await _in_thread(second.close)
    await _get(first, first.join)
    assert first.exit_code == -signal.SIGPIPE
    await _get(first, first.close)


@pytest.mark.parametrize("how", [*_GIVE, "relay"])
def test_a_grandchild_of_the_first_process_keeps_nothing_here(how: str) -> None:
    """It holds the writing end, and lives on; its reader has left, and all is closed."""
    before, threads = descriptors(), threading.active_count()
    script = "pid = os.fork()\nif not pid: os.read(0, 1)\nelse: put(1, b'%d\\n' % pid)"
    hold, release = os.pipe()
    first = Process(python(script), stdin=hold).run()
    if how == "relay":
        number = first.stdout.readline()
        second = Process(CAT, stdin=first.stdout).run()
        assert second.running
        second.close()
    else:
        with _given(first.stdout, how) as stdin:
            second = Process(["head", "-n", "1"], stdin=stdin).run()
        second.join()
        number = second.output()
        second.close()
    first.join()
    first.stdout.close()
    first.stderr.close()
    first.close()
    os.close(hold)
    until(lambda: threading.active_count() == threads)
    assert is_alive(int(number))
    os.close(release)
    until(lambda: descriptors() == before)


#: What would be ended by SIGPIPE if the library wrote where it may strike.
_BY_DEFAULT = {
    "a reader leaves": """
with Process(["yes"]) as first, Process(["head", "-n", "2"], stdin=first.stdout) as second:
    assert second.output() == b"y\\ny\\n"
assert first.exit_code == -signal.SIGPIPE
""",
    "a reader leaves a relay": """
with Process(["yes"]) as first:
    first.stdout.readline()
    with Process(["head", "-n", "2"], stdin=first.stdout) as second:
        assert second.output() == b"y\\ny\\n"
assert first.exit_code == -signal.SIGPIPE
""",
    "a reader leaves a number": """
with Process(["yes"]) as first:
    with Process(["head", "-n", "2"], stdin=first.stdout.fileno()) as second:
        first.stdout.close()
        assert second.output() == b"y\\ny\\n"
assert first.exit_code == -signal.SIGPIPE
""",
    "a reader leaves while what it has not read is put back": """
import os
from process.threads import _relay
process = Process(["sh", "-c", "echo one; cat"], stdin=PIPE).run()
copy = [os.dup(process.stdout.fileno())]
assert os.read(copy[0], 2) == b"on"
real = _relay._platform.has_reader
def has_reader(outlet):
    found = real(outlet)
    if copy:
        os.close(copy.pop())
    return found
_relay._platform.has_reader = has_reader
process.__exit__(None, None, None)
assert not copy
assert process.exit_code == 0
""",
    "input is not read": """
with Process(["true"], stdin=bytes(4_000_000)) as process:
    pass
assert process.exit_code == 0
""",
    "input is written and not read": """
with Process(["true"], stdin=PIPE) as process:
    try:
        while True:
            process.stdin.write(bytes(100_000))
            process.stdin.flush()
    except BrokenPipeError:
        pass
assert process.exit_code == 0
""",
}


@pytest.mark.parametrize("what", list(_BY_DEFAULT))
def test_a_program_with_the_default_action_for_sigpipe_is_not_ended(what: str) -> None:
    """As command-line tools set it."""
    script = (
        "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "from process import *\n" + _BY_DEFAULT[what]
    )
    assert subprocess.run(start_library(script), timeout=10 * PROMPT, check=False).returncode == 0


# Descriptors.


@pytest.mark.parametrize("buffer_size", [None, 0])
def test_a_descriptor_that_does_not_block_makes_reads_that_do_not(buffer_size: Any) -> None:
    """As with the files of `Popen`: `None`, or no line, if there is nothing yet."""
    with Process(CAT, stdin=PIPE, buffer_size=buffer_size) as process:
        stdout: Any = process.stdout
        os.set_blocking(stdout.fileno(), False)
        target = bytearray(3)
        for call in (stdout.read, lambda: stdout.read(3), lambda: stdout.readinto(target)):
            assert call() is None
        assert stdout.readline() == b""
        process.stdin.write(b"one\ntwo")
        process.stdin.flush()
        found = b""
        while len(found) < 7:
            found += stdout.read(3) or b""
        assert found == b"one\ntwo"
        assert stdout.readline() == b""
        process.stdin.write(b"a piece")
        process.stdin.flush()
        until(lambda: stdout.source.reader.relay.empty is False)
        assert stdout.readline() == b"a piece"  # it is all that there is
        process.stdin.close()
        process.join()
        assert stdout.read() == b""
        assert stdout.readline() == b""


@pytest.mark.parametrize("buffer_size", [None, 0])
@pytest.mark.parametrize("first", ["read", "readline"])
def test_what_is_held_can_be_read_when_fileno_returns(buffer_size: Any, first: str) -> None:
    """Not only when the relay has come to it (CPython's `test_select_unbuffered`)."""
    for _ in range(20):
        with Process(["printf", "app\nle"], buffer_size=buffer_size) as process:
            process.join()
            read: Dict[str, Callable[[], bytes]] = {
                "read": lambda process=process: process.stdout.read(4),  # type: ignore[misc]
                "readline": process.stdout.readline,
            }
            assert read[first]() == b"app\n"
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                assert selector.select(0)
            assert os.read(process.stdout.fileno(), 10) == b"le"


@pytest.mark.parametrize("read", ["os.read", "readline"])
def test_two_streams_are_tailed_with_selectors(read: str) -> None:
    """Every line comes, and at the end the end."""
    count = 2000
    script = f"for n in range({count}): put(1, b'%d out\\n' % n); put(2, b'%d err\\n' % n)"
    with (
        Process(python(script)) as process,
        selectors.DefaultSelector() as selector,
    ):
        found: Dict[Any, bytes] = {process.stdout: b"", process.stderr: b""}
        for file in found:
            selector.register(file, selectors.EVENT_READ)
        left = 2
        while left:
            events = selector.select(PROMPT)
            assert events
            for key, _ in events:
                stream: Any = key.fileobj
                data = stream.readline() if read == "readline" else os.read(key.fd, 5000)
                found[stream] += data
                if not data:
                    selector.unregister(stream)
                    left -= 1
    assert list(found.values()) == [
        b"".join(b"%d %s\n" % (number, name) for number in range(count))
        for name in (b"out", b"err")
    ]


@pytest.mark.parametrize("anew", [True, False])
def test_a_shared_stdin_that_others_fill_does_not_keep_the_process_from_being_closed(
    monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """Our own writes never block, though the descriptor that callers have does."""
    if not anew:
        monkeypatch.setattr("process._platform._posix.reopen", lambda *_: None)
    with Process(["sleep", "1000"], stdin=PIPE) as process:
        number = process.stdin.fileno()
        assert os.get_blocking(number)
        other = subprocess.Popen(YES, stdout=number)
        process.stdin.write(pattern(200_000))  # which has no room
        process.close()
        other.kill()
        other.wait()
    assert process.exit_code == -signal.SIGTERM


# What it costs.


@pytest.mark.parametrize("count", [2, 3])
def test_the_kernel_moves_the_bytes_of_a_pipeline(count: int) -> None:
    """No thread here has anything to do with them."""
    with contextlib.ExitStack() as stack:
        stages: List[Any] = []
        for _ in range(count):
            # The first one has nothing to write yet, so nothing can have been read from it.
            stdin = stages[-1].stdout if stages else PIPE
            stages.append(stack.enter_context(Process(CAT, stdin=stdin)))
            for giver in stages[:-1]:
                (source, _) = giver._child.sources
                assert source.reader.done
                assert not source.inbound.held
        stages[0].stdin.write(pattern(SIZE))
        stages[0].stdin.close()
        assert stages[-1].output() == pattern(SIZE)
