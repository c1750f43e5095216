"""Ways that are seldom gone: each has been thought of, so each is tried."""

import asyncio
import errno
import gc
import io
import os
import threading
import time
import weakref
from typing import Any, Deque, List

import pytest

import process._source
from process import PIPE, AbstractProcess, Process
from process._descriptor import Descriptor
from process._hand import Hand
from process._plumbing import Plumbing
from process._waiting import Waiter, Waiters
from process.core._ending import Ending
from process.core._flow import BOUND, Flow
from process.core._inbound import Inbound
from process.core._outbound import Outbound
from process.core._overflow import Overflow
from tests.support import (
    FOREVER,
    LARGE,
    Kit,
    descriptors,
    is_alive,
    pattern,
    python,
    refuse_threads,
    until,
)


@pytest.mark.parametrize("buffer_size", [0, None])
def test_pipes_have_no_position(buffer_size: Any) -> None:
    """`seek`, `tell` and `truncate` say so, and are not tried on the descriptor."""
    with Process(["cat"], stdin=PIPE, buffer_size=buffer_size) as child:
        streams: List[Any] = [child.stdin, child.stdout]
        for stream in streams:
            assert not stream.seekable()
            assert not stream.isatty()
            for call in (lambda: stream.seek(0), stream.tell, stream.truncate):  # noqa: B023
                with pytest.raises(io.UnsupportedOperation):
                    call()


@pytest.mark.parametrize("buffer_size", [0, None])
def test_a_closed_stdin_says_so(buffer_size: Any) -> None:
    """Every method of a closed file is a `ValueError`."""
    with Process(["cat"], stdin=PIPE, buffer_size=buffer_size) as child:
        child.stdin.close()
        for call in (lambda: child.stdin.write(b"x"), child.stdin.flush, child.stdin.fileno):
            with pytest.raises(ValueError, match="closed"):
                call()
        child.stdin.close()


def test_a_closed_stdout_says_so() -> None:
    """The same of the reading side; what has been read cannot be put back."""
    with Process(["echo", "x"]) as child:
        stdout: Any = child.stdout
        child.join()
        stdout.close()
        assert stdout.source.closed
        stdout.source.unread(b"x")
        for call in (stdout.read, stdout.readline, stdout.fileno, stdout.peek):
            with pytest.raises(ValueError, match="closed"):
                call()


def test_interrupted_in_the_middle_of_readlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that were read already are there for the next call."""
    with Process(["printf", "a\\nb\\nc\\n"]) as child:
        source = process._source.Source
        real = source.read_line
        calls = []

        def read_line(self: Any, size: int) -> bytes:
            calls.append(size)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(self, size)

        with monkeypatch.context() as patch:
            patch.setattr(source, "read_line", read_line)
            with pytest.raises(KeyboardInterrupt):
                child.stdout.readlines(100)
        assert child.stdout.readlines(100) == [b"a\n", b"b\n", b"c\n"]


def test_readlines_up_to_a_hint() -> None:
    """As with any file: no more lines once there are that many bytes."""
    with Process(["printf", "a\\nb\\nc\\n"]) as child:
        assert child.stdout.readlines(3) == [b"a\n", b"b\n"]
        assert child.stdout.readlines(3) == [b"c\n"]


def test_no_thread_for_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fileno` fails, and leaves no descriptor once the process is closed."""
    before = descriptors()
    child = Process(["cat"], stdin=b"x").run()

    with monkeypatch.context() as patch:
        refuse_threads(patch, RuntimeError("can't start new thread"))
        with pytest.raises(RuntimeError):
            child.stdout.fileno()
    child.join()
    child.stdout.close()
    child.close()
    assert descriptors() == before


def test_fileno_waits_for_its_turn() -> None:
    """Asked for while another thread collects everything, it comes when that is done."""
    data = pattern(1000)
    with Process(["cat"], stdin=PIPE) as child:
        reader = threading.Thread(target=child.stdout.read, args=(1_000_000,))
        reader.start()
        while not child.stdout.source.pump.inbound.busy:  # type: ignore[union-attr]
            pass
        asker = threading.Thread(target=child.stdout.fileno)
        asker.start()
        child.stdin.write(data)
        child.stdin.close()
        reader.join()
        asker.join()
    assert child.output() == b""


def test_the_abstract_class_has_a_repr() -> None:
    """For variants that add nothing of their own."""
    kind: Any = type("Variant", (AbstractProcess,), {})
    kind.__abstractmethods__ = frozenset()
    assert repr(kind(["a", "b"], buffer_size=1)) == "Variant(arguments=['a', 'b'])"


async def test_corners_of_the_async_reader(loops: Kit) -> None:
    """What `asyncio.StreamReader` promises where nobody looks."""
    async with loops.opened(["printf", "a;b,c"]) as child:
        with pytest.raises(ValueError, match="less than zero"):
            await child.stdout.readexactly(-1)
        with pytest.raises(ValueError, match="at least one-byte"):
            await child.stdout.readuntil(b"")
        assert await child.stdout.readuntil(b";") == b"a;"
        assert child.stdout.exception() is None
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await child.stdout.readuntil(b"!")
        assert caught.value.partial == b"b,c"
        assert child.stdout.at_eof()
        assert repr(child.stdout) == "<Reader stdout>"


async def test_several_separators(loops: Kit) -> None:
    """The first of them that comes ends what is read, whichever it is."""
    async with loops.opened(["printf", "a;b,c;;d"]) as child:
        separators = (b";;", b",", b";")
        found = [await child.stdout.readuntil(separators) for _ in range(2)]
        assert found == [b"a;", b"b,"]
        assert await child.stdout.readuntil(b";;") == b"c;;"
        with pytest.raises(ValueError, match="at least one-byte"):
            await child.stdout.readuntil(())
        with pytest.raises(asyncio.IncompleteReadError):
            await child.stdout.readuntil(separators)


async def test_a_pipe_that_cannot_be_read_to_its_end(loops: Kit) -> None:
    """What has come is read, and then the error is raised; `output` has what it has."""
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    async with loops.opened(["cat"], stdin=PIPE) as child:
        child.stdin.write(b"line\nrest")
        assert await child.stdout.readline() == b"line\n"
        child._child.protocol.pipe_connection_lost(1, error)
        assert child.stdout.exception() is error
        assert await child.stdout.read() == b"rest"
        for call in (child.stdout.read, child.stdout.readline, lambda: child.stdout.read(5)):
            with pytest.raises(OSError, match=error.strerror):
                await call()
        assert await child.output(join=False) == b""


async def test_a_read_during_output_has_its_turn_afterwards(loops: Kit) -> None:
    """There is nothing left for it then."""
    async with loops.opened(["cat"], stdin=PIPE) as child:
        output = asyncio.ensure_future(child.output())
        await asyncio.sleep(0)
        others = [
            asyncio.ensure_future(call)
            for call in (child.stdout.read(5), child.stdout.read(), child.output(join=False))
        ]
        await asyncio.sleep(0)
        child.stdin.write(pattern(100_000))
        child.stdin.close()
        assert await output == pattern(100_000)
        assert await asyncio.gather(*others) == [b"", b"", pattern(100_000)]


async def test_the_stream_of_a_synchronous_process_as_stdin(loops: Kit) -> None:
    """A pipeline of both variants; the first process can be left before the second has read."""
    data = pattern(300_000)
    with Process(["cat"], stdin=data) as first:
        assert first.stdout.read(1000) == data[:1000]
        child = await loops.start(["cat"], stdin=first.stdout)
    assert await child.output() == data[1000:]
    await child.close()


async def test_corners_of_the_async_writer(loops: Kit) -> None:
    """What `asyncio.StreamWriter` promises where nobody looks."""
    async with loops.opened(["cat"], stdin=PIPE) as child:
        child.stdin.writelines([b"a", bytearray(b"b")])
        child.stdin.write_eof()
        assert child.stdin.is_closing()
        with pytest.raises(ValueError, match="closed"):
            child.stdin.write(b"x")
        assert await child.output() == b"ab"


async def test_a_large_read_of_a_closed_stream(loops: Kit) -> None:
    """A stream of a process that is closed is at its end."""
    child = await loops.start(["cat"], stdin=b"x")
    await child.close()
    assert await child.stdout.read() == b""
    assert await child.stdout.read(5) == b""


def test_a_process_that_has_ended_is_dropped_in_its_loop(loops: Kit) -> None:
    """There is nobody to be ended, only pipes to be closed."""

    async def scenario() -> None:
        child = await loops.start(["cat"], stdin=b"x")
        await child.join()
        del child
        gc.collect()
        await loops.settle()

    loops.run(scenario())


def test_unbuffered_streams_say_what_they_are() -> None:
    """As the buffered ones do."""
    with Process(["cat"], stdin=PIPE, buffer_size=0) as child:
        assert repr(child.stdin) == "<RawWriter stdin>"
        assert repr(child.stdout) == "<RawReader stdout>"


def test_a_pipe_that_was_ready_and_is_empty() -> None:
    """Somebody else was quicker, or the kernel thought better of it: nothing is moved."""
    with Process(["cat"], stdin=PIPE) as child:
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        with pump.plumbing.lock:
            assert not pump.move()


def test_a_thread_that_begins_after_its_start_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It finds that it is not wanted, and leaves the pipe to callers."""
    late: List[threading.Thread] = []

    def interrupt(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    with Process(["cat"], stdin=b"x") as child:
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        with monkeypatch.context() as patch:
            patch.setattr("process._pump._start", interrupt)
            with pytest.raises(KeyboardInterrupt):
                pump.employ()
        late[0].start()
        late[0].join()
        assert not pump.attended
        assert not pump.done
        assert child.output() == b"x"


def test_fileno_of_stdin_waits_for_a_write_under_way() -> None:
    """The descriptor blocks from then on, so nobody must be inside a write that must not."""
    with Process(["cat"], stdin=PIPE) as child:
        pump: Any = child.stdin.sink.pump  # type: ignore[union-attr]
        pump.employ()
        with pump.plumbing.lock:
            pump._writing = True
        asker = threading.Thread(target=child.stdin.fileno)
        asker.start()
        while not len(pump.plumbing._waiters):
            pass
        with pump.plumbing.lock:
            pump._writing = False
            pump.plumbing.notify(pump)
        asker.join()


def test_a_write_after_another_thread_has_closed() -> None:
    """Nothing is taken that would not be sent."""
    with Process(["cat"], stdin=PIPE) as child:
        child.stdin.sink.close_soon()  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="closed file"):
            child.stdin.write(b"x")


def test_an_exposed_stream_is_closed_while_another_thread_reads_it() -> None:
    """The reader is told, and it is he who closes the descriptor that he polls."""
    before = descriptors()
    child = Process(["cat"], stdin=PIPE).run()
    child.stdout.fileno()
    exposure: Any = child.stdout.source._exposure  # type: ignore[union-attr]
    errors: List[BaseException] = []

    def read() -> None:
        try:
            child.stdout.read()
        except ValueError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while not exposure.reader:
        pass
    child.stdout.close()
    reader.join()
    assert len(errors) == 1
    child.close()
    assert descriptors() == before


@pytest.mark.parametrize("size", [3, 10**6])
def test_interrupted_after_the_bytes_were_taken(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A handler raises between taking them and returning them: they are put back."""
    data = pattern(2 * 10**6)
    with Process(["cat"], stdin=data) as child:
        child.stdout.read(1)
        plumbing: Any = child.stdout.source._plumbing  # type: ignore[union-attr]
        inbound: Any = child.stdout.source.pump.inbound  # type: ignore[union-attr]
        before = inbound._buffer.position

        def interrupt() -> None:
            if inbound._buffer.position > before and not inbound.busy:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(plumbing, "kick", interrupt)
            with pytest.raises(KeyboardInterrupt):
                child.stdout.read(size)
        assert child.stdout.read(size) == data[1 : 1 + size]


def test_dropped_without_pipes() -> None:
    """A child that has no streams is ended like any other."""
    child = Process(["sleep", "1000"], stdout=None, stderr=None).run()
    pid = child.id
    del child
    assert not is_alive(pid)


@pytest.mark.parametrize("fed", [False, True])
def test_a_record_that_was_cut_off(monkeypatch: pytest.MonkeyPatch, fed: bool) -> None:
    """Whoever interrupts it, before or after the bytes were fed, they come once."""
    feed = Inbound.feed

    def interrupt(inbound: Inbound, data: bytes) -> None:
        if fed:
            feed(inbound, data)
        raise KeyboardInterrupt

    inbound = Inbound(Flow())
    hand = Hand(inbound)
    read, write = os.pipe()
    os.write(write, b"abcdef")
    hand.read(read, 4)
    with monkeypatch.context() as patch:
        patch.setattr(Inbound, "feed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            hand.record()
    hand.read(read, 4)
    assert hand.record() == 6
    assert not hand
    os.close(read)
    os.close(write)
    assert inbound.buffer.take(10) == b"abcdef"


def test_a_thread_goes_on_where_an_interrupted_caller_has_read() -> None:
    """What he has read and not recorded comes before what it reads."""
    data = pattern(300_000)
    with Process(["cat"], stdin=data) as child:
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        assert child.stdout.read(1) == data[:1]
        until(pump.port.pending)  # without the lock, which the thread that feeds the child needs
        with pump.plumbing.lock:
            pump._hand.read(pump.port.descriptor.fileno(), 1000)  # and here an exception strikes
        pump.employ()
        assert child.output() == data[1:]


def test_a_thread_goes_on_where_an_interrupted_caller_has_written() -> None:
    """What he has written and not recorded is not written again."""
    with Process(["cat"], stdin=PIPE) as child:
        pump: Any = child.stdin.sink.pump  # type: ignore[union-attr]
        with pump.plumbing.lock:
            pump.outbound.put(b"once")
            pump._hand_begin = pump.outbound.position
            pump._hand.append(os.write(pump.port.descriptor.fileno(), b"once"))  # and here
        pump.employ()
        child.stdin.close()
        assert child.output() == b"once"


def test_a_handler_reads_just_before_the_read_it_has_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it reads and records makes nobody believe that what comes next was recorded as well."""
    real = os.read

    def interrupted(number: int, size: int) -> bytes:
        monkeypatch.setattr(os, "read", real)
        hand.read(number, 2)
        hand.record()
        return real(number, size)

    inbound = Inbound(Flow())
    hand = Hand(inbound)
    read, write = os.pipe()
    os.write(write, b"aaa")
    monkeypatch.setattr(os, "read", interrupted)
    hand.read(read, 1)
    assert hand.record() == 1
    os.close(read)
    os.close(write)
    assert inbound.buffer.take(10) == b"aaa"


def test_whoever_reads_an_exposed_stream_closes_its_descriptor() -> None:
    """It is not closed under his poll, by a thread that closes the stream meanwhile."""
    with Process(["cat"], stdin=PIPE) as child:
        number = child.stdout.fileno()
        exposure: Any = child.stdout.source._exposure  # type: ignore[union-attr]
        turn = process._source._Turn()
        exposure.turn = weakref.ref(turn)
        child.stdout.close()
        assert exposure.descriptor.fileno() == number
        exposure.descriptor.close()


def test_closed_while_the_descriptor_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, or by a signal handler: that is a closed file, and nothing is left."""
    real = Descriptor.pipe

    def pipe() -> Any:
        monkeypatch.setattr(Descriptor, "pipe", real)
        ends = real()
        child.close()
        return ends

    child = Process(["cat"], stdin=PIPE).run()
    monkeypatch.setattr(Descriptor, "pipe", pipe)
    with pytest.raises(ValueError, match="closed file"):
        child.stdout.fileno()


def test_stdin_is_closed_while_its_descriptor_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the other direction."""
    real = Plumbing.employ_all

    def employ_all(self: Plumbing) -> None:
        real(self)
        child.stdin.close()

    with Process(["cat"], stdin=PIPE) as child:
        monkeypatch.setattr(Plumbing, "employ_all", employ_all)
        with pytest.raises(ValueError, match="closed file"):
            child.stdin.fileno()


def test_dropped_in_the_middle_of_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is not closed under the write, which would go to whoever is given its number."""
    box = [Process(["cat"], stdin=PIPE).run()]
    stdin: Any = box[0].stdin
    pump = stdin.sink.pump
    real = Outbound.front
    numbers: List[int] = []

    def front(self: Outbound, size: int) -> memoryview:
        box.clear()  # as the collector may
        numbers.append(pump.port.descriptor.fileno())
        return real(self, size)

    monkeypatch.setattr(Outbound, "front", front)
    with pytest.raises(BrokenPipeError):
        stdin.write(pattern(LARGE))
    assert numbers[0] >= 0
    assert pump.port.descriptor.fileno() == -1


def test_a_relay_that_has_ended_is_not_used_again() -> None:
    """What may be done twice, in case of an exception, makes no cycle the second time."""
    with Process(["echo", "x"]) as child:
        number = child.stdout.fileno()
        while os.read(number, 10):
            pass
        source: Any = child.stdout.source  # type: ignore[union-attr]
        source._exposure.relay.join()
        source._use(source._exposure)
        assert source.pump.relay is None


def test_two_release_the_same_waiters() -> None:
    """One of them finds that the other has got the last."""

    class Gone(Deque[Waiter]):
        def __bool__(self) -> bool:
            return True

    waiters = Waiters()
    waiters._waiters = Gone()
    waiter = waiters.enrol()
    waiters.notify()
    waiter.wait(FOREVER)
    assert len(waiters) == 0


def test_silence_is_not_believed_while_bytes_wait_in_the_pipe() -> None:
    """Whoever was kept from looking for as long as the silence takes looks once more."""
    with Process(["printf", "x"]) as child:
        child.process.wait()  # behind the library's back, which moves nothing meanwhile
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        with pump.plumbing.lock:
            pump.inbound.ending.process_ended(0.0)  # long ago
            assert pump.inbound.ending.remaining(time.monotonic()) == 0
            assert not pump.silent()
    assert child.output() == b"x"


@pytest.mark.parametrize("state", ["busy", "hand", "spilled", "no room"])
def test_silence_is_not_believed_while_bytes_are_on_their_way(state: str) -> None:
    """In the hands of a thread or of a caller, in the overflow, or in a pipe that nobody may read.

    The pipe itself is empty each time, so it is this alone that speaks against the silence.
    """
    with Process(["cat"], stdin=PIPE) as child:
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        with pump.plumbing.lock:
            pump.inbound.ending.process_ended(0.0)  # long ago
            if state == "busy":
                pump._busy = True
            elif state == "hand":
                pump._hand._chunks.append((b"x",))
            elif state == "spilled":
                pump.inbound.spilled = 1
            else:
                pump.inbound.feed(bytes(BOUND))
            assert pump.inbound.ending.remaining(time.monotonic()) == 0
            assert not pump.silent()
            pump._busy = False
            pump._hand._chunks.clear()
            pump.inbound.spilled = 0
            pump.inbound.buffer.take(BOUND)


def test_silence_is_not_believed_while_bytes_go_into_the_overflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What has left the pipe, and is not counted as spilled yet, is in the hands of the thread."""
    silent: List[bool] = []
    real = Overflow.append

    def append(self: Overflow, chunk: bytes) -> None:
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        if not silent:
            with pump.plumbing.lock, monkeypatch.context() as patch:
                assert not pump.inbound.spilled
                patch.setattr(pump.port, "pending", bool)
                patch.setattr(pump.inbound, "ending", Ending())
                pump.inbound.ending.process_ended(0.0)  # long ago
                silent.append(pump.silent())
        real(self, chunk)

    monkeypatch.setattr(Overflow, "append", append)
    with Process(python(f"put(1, pattern({2 * LARGE}))"), stderr=None) as child:
        child.join()
        assert silent == [False]
        assert child.output() == pattern(2 * LARGE)


def test_what_is_left_in_an_exposed_pipe_after_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has ended and its own pipe is closed: that says nothing of the pipe in between."""
    monkeypatch.setattr("process.core._ending.SILENCE", 0.0)
    data = pattern(50_000)  # less than a pipe holds
    script = f"os.fork() and os._exit(0)\nget_all(); put(1, pattern({len(data)}))"
    with Process(python(script), PIPE, stderr=None) as child:
        child.stdout.fileno()
        pump: Any = child.stdout.source.pump  # type: ignore[union-attr]
        threads = pump._thread, pump.relay._thread
        while pump.inbound.ending.remaining(0.0) is None:
            pass  # the thread is to notice that the process itself has ended
        child.stdin.close()
        for thread in threads:
            thread.join()
        assert child.output(join=False) == data
