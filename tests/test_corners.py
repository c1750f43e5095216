"""Ways that are seldom gone: each has been thought of, so each is tried."""

import asyncio
import errno
import gc
import io
import os
import threading
import time
from typing import Any, List

import pytest

import process.threads._source
import process.threads._thread
from process import PIPE, AbstractProcess, Process, _platform
from process.core._buffer import Buffer
from process.core._ending import Ending
from process.core._flow import BOUND, Flow
from process.core._inbound import Inbound
from process.core._overflow import Overflow
from process.threads._in_flight import InFlight
from process.threads._monitor import Waiter
from tests.support import (
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
        stdout.source.returned.append((b"x",))
        stdout.source.restore()
        for call in (stdout.read, stdout.readline, stdout.fileno, stdout.peek):
            with pytest.raises(ValueError, match="closed"):
                call()


def test_interrupted_in_the_middle_of_readlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that were read already are there for the next call."""
    with Process(["printf", "a\\nb\\nc\\n"]) as child:
        source = process.threads._source.Source
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


def test_fileno_waits_for_its_turn() -> None:
    """Asked for while another thread collects everything, it comes when that is done."""
    data = pattern(1000)
    with Process(["cat"], stdin=PIPE) as child:
        reader = threading.Thread(target=child.stdout.read, args=(1_000_000,))
        reader.start()
        while not child.stdout.source.reader.inbound.busy:  # type: ignore[union-attr]
            pass
        asker = threading.Thread(target=child.stdout.fileno)
        asker.start()
        child.stdin.write(data)
        child.stdin.close()
        reader.join()
        asker.join()
    assert child.output() == b""


def test_a_small_write_does_not_wait_for_a_flush_while_a_caller_waits() -> None:
    """Not even the first one after a flush, which takes no lock as long as nobody waits."""
    with Process(["cat"], stdin=PIPE) as child:
        child.stdin.write(b"a\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"a\n"
        lines: List[bytes] = []
        reader = threading.Thread(target=lambda: lines.append(child.stdout.readline()))
        reader.start()
        until(lambda: child.stdout.source.monitor.flow.busy)  # type: ignore[union-attr]
        child.stdin.write(b"b\n")
        reader.join()
        assert lines == [b"b\n"]


def test_the_abstract_class_has_a_repr() -> None:
    """For variants that add nothing of their own."""
    kind: Any = type("Variant", (AbstractProcess,), {})
    kind.__abstractmethods__ = frozenset()
    assert repr(kind(["a", "b"], buffer_size=1)) == "Variant(arguments=['a', 'b'])"


async def test_corners_of_the_async_reader(loops: Kit) -> None:
    """What `asyncio.StreamReader` promises in its corners."""
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
    """What `asyncio.StreamWriter` promises in its corners."""
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
    """There is no child to be ended, only pipes to be closed."""

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
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        with thread.monitor.lock:
            assert not thread.read_directly()


def test_fileno_of_stdin_waits_for_a_write_under_way() -> None:
    """The descriptor blocks from then on, so no non-blocking write may be under way."""
    with Process(["cat"], stdin=PIPE) as child:
        thread: Any = child.stdin.sink.writer  # type: ignore[union-attr]
        with thread.monitor.lock:
            thread.writing = True
        asker = threading.Thread(target=child.stdin.fileno)
        asker.start()
        while not len(thread.monitor._waiters):
            pass
        with thread.monitor.lock:
            thread.writing = False
            thread.monitor.notify()
        asker.join()


def test_a_write_after_another_thread_has_closed() -> None:
    """Nothing is taken that would not be sent."""
    with Process(["cat"], stdin=PIPE) as child:
        child.stdin.sink.close_soon()  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="closed file"):
            child.stdin.write(b"x")


def test_an_exposed_stream_is_closed_while_another_thread_reads_it() -> None:
    """The reader is told, and the descriptor is closed."""
    before = descriptors()
    child = Process(["cat"], stdin=PIPE).run()
    child.stdout.fileno()
    relay: Any = child.stdout.source.reader.relay  # type: ignore[union-attr]
    errors: List[BaseException] = []

    def read() -> None:
        try:
            child.stdout.read()
        except ValueError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: relay.suspended)
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
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        inbound: Any = child.stdout.source.reader.inbound  # type: ignore[union-attr]
        before = inbound._buffer.position

        def interrupt() -> None:
            if inbound._buffer.position > before and not inbound.busy:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(thread, "touch", interrupt)
            with pytest.raises(KeyboardInterrupt):
                child.stdout.read(size)
        assert child.stdout.read(size) == data[1 : 1 + size]


@pytest.mark.parametrize("struck", [False, True], ids=["before", "after"])
def test_interrupted_while_bytes_are_put_back(
    monkeypatch: pytest.MonkeyPatch, struck: bool
) -> None:
    """It is done again, and not twice: the bytes are there for the next call, once."""
    real = Buffer.unread

    def unread(self: Buffer, data: bytes) -> None:
        if struck:
            real(self, data)
        raise KeyboardInterrupt

    with Process(["printf", "abcdef"]) as child:
        child.join()
        source: Any = child.stdout.source  # type: ignore[union-attr]
        assert child.stdout.read(2) == b"ab"
        with monkeypatch.context() as patch:
            patch.setattr(Buffer, "unread", unread)
            source.returned.append((b"ab",))
            with pytest.raises(KeyboardInterrupt):
                source.restore()
        assert child.stdout.read(4) == b"abcd"
        assert child.output() == b"ef"


def test_dropped_without_pipes() -> None:
    """A child that has no streams is ended like any other."""
    child = Process(["sleep", "1000"], stdout=None, stderr=None).run()
    pid = child.id
    del child
    assert not is_alive(pid)


@pytest.mark.parametrize("fed", [False, True])
def test_a_record_that_was_cut_off(monkeypatch: pytest.MonkeyPatch, fed: bool) -> None:
    """Interrupted before or after the bytes were fed, they come once."""
    feed = Inbound.feed

    def interrupt(inbound: Inbound, data: bytes) -> None:
        if fed:
            feed(inbound, data)
        raise KeyboardInterrupt

    inbound = Inbound(Flow())
    hand = InFlight(inbound)
    read, write = os.pipe()
    os.write(write, b"abcdef")
    hand.read(read, 4)
    with monkeypatch.context() as patch:
        patch.setattr(Inbound, "feed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            hand.record()
    hand.read(read, 4)
    assert hand.record() == 6
    assert not hand.chunks
    os.close(read)
    os.close(write)
    assert inbound.buffer.take(10) == b"abcdef"


def test_a_thread_goes_on_where_an_interrupted_caller_has_read() -> None:
    """What the caller has read and not recorded comes before what the thread reads."""
    data = pattern(300_000)
    with Process(["cat"], stdin=data) as child:
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        assert child.stdout.read(1) == data[:1]
        until(thread.end.pending)  # without the lock, which the thread that feeds the child needs
        with thread.monitor.lock:
            thread._in_flight.read(
                thread.end.descriptor.fileno(), 1000
            )  # and here an exception strikes
        assert child.output() == data[1:]


def test_a_thread_goes_on_where_an_interrupted_caller_has_written() -> None:
    """What the caller has written and not recorded is not written again."""
    with Process(["cat"], stdin=PIPE) as child:
        thread: Any = child.stdin.sink.writer  # type: ignore[union-attr]
        with thread.monitor.lock:
            thread.outbound.put(b"once")
            thread._written_begin = thread.outbound.buffer.position
            thread._written.append(os.write(thread.end.descriptor.fileno(), b"once"))  # and here
        child.stdin.close()
        assert child.output() == b"once"


def test_a_handler_reads_just_before_the_read_it_has_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it reads and records does not make what comes next count as recorded."""
    real = os.read

    def interrupted(number: int, size: int) -> bytes:
        monkeypatch.setattr(os, "read", real)
        hand.read(number, 2)
        hand.record()
        return real(number, size)

    inbound = Inbound(Flow())
    hand = InFlight(inbound)
    read, write = os.pipe()
    os.write(write, b"aaa")
    monkeypatch.setattr(os, "read", interrupted)
    hand.read(read, 1)
    assert hand.record() == 1
    os.close(read)
    os.close(write)
    assert inbound.buffer.take(10) == b"aaa"


def test_dropped_in_the_middle_of_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is not closed under the write, which would go to the next file of that number."""
    box = [Process(["cat"], stdin=PIPE).run()]
    stdin: Any = box[0].stdin
    thread = stdin.sink.writer
    real = Buffer.front
    numbers: List[int] = []

    def front(self: Buffer, size: int) -> memoryview:
        box.clear()  # as the collector may
        numbers.append(thread.end.descriptor.fileno())
        return real(self, size)

    monkeypatch.setattr(Buffer, "front", front)
    with pytest.raises(BrokenPipeError):
        stdin.write(pattern(LARGE))
    assert numbers[0] >= 0
    until(lambda: thread.end.descriptor.fileno() == -1)


def test_silence_is_not_believed_while_bytes_wait_in_the_pipe() -> None:
    """A thread that was kept from looking for as long as the silence takes looks once more."""
    with Process(["sh", "-c", "read line; printf x"], stdin=PIPE) as child:
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        waiter = Waiter()
        with thread.monitor.lock:
            thread.request(waiter)
        until(lambda: thread.claimable)
        with thread.monitor.lock:
            assert thread.claim(waiter)  # and the thread leaves the pipe alone
        os.write(child.stdin.fileno(), b"go\n")
        child.process.wait()
        until(thread.end.pending)
        with thread.monitor.lock:
            thread.inbound.ending = Ending()
            thread.inbound.ending.process_ended(0.0)  # long ago
            assert thread.inbound.ending.remaining(time.monotonic()) == 0
            assert not thread.silent()
            thread.release(waiter)
        del waiter
    assert child.output() == b"x"


@pytest.mark.parametrize("state", ["busy", "hand", "spilled", "no room"])
def test_silence_is_not_believed_while_bytes_are_on_their_way(state: str) -> None:
    """Held by a thread or a caller, in the overflow, or in a pipe that may not be read now.

    The pipe itself is empty each time, so it is this alone that speaks against the silence.
    """
    with Process(["cat"], stdin=PIPE) as child:
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        with thread.monitor.lock:
            thread.inbound.ending.process_ended(0.0)  # long ago
            if state == "busy":
                thread._busy = True
            elif state == "hand":
                thread._in_flight.chunks.append((b"x",))
            elif state == "spilled":
                thread.inbound.spilled = 1
            else:
                thread.inbound.feed(bytes(BOUND))
            assert thread.inbound.ending.remaining(time.monotonic()) == 0
            assert not thread.silent()
            thread._busy = False
            thread._in_flight.chunks.clear()
            thread.inbound.spilled = 0
            thread.inbound.buffer.take(BOUND)


def test_silence_is_not_believed_while_bytes_go_into_the_overflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What has left the pipe, and is not counted as spilled yet, is in the hands of the thread."""
    silent: List[bool] = []
    real = Overflow.append

    def append(self: Overflow, chunk: bytes) -> None:
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        if not silent:
            with thread.monitor.lock, monkeypatch.context() as patch:
                assert not thread.inbound.spilled
                patch.setattr(thread.end, "pending", bool)
                patch.setattr(thread.inbound, "ending", Ending())
                thread.inbound.ending.process_ended(0.0)  # long ago
                silent.append(thread.silent())
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
        thread: Any = child.stdout.source.reader  # type: ignore[union-attr]
        while thread.inbound.ending.remaining(0.0) is None:
            pass  # the thread is to notice that the process itself has ended
        child.stdin.close()
        until(lambda: thread.done)
        assert child.output(join=False) == data


def test_the_second_pipe_is_closed_while_a_read_looks_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By another thread, just before the look: the read says that the stream is closed."""
    with Process(["cat"], stdin=PIPE) as process:
        process.stdout.fileno()

        def close_first(descriptor: int) -> bool:
            process.stdout.close()
            return os.get_blocking(descriptor)

        monkeypatch.setattr(_platform, "is_blocking", close_first)
        with pytest.raises(ValueError, match="closed"):
            process.stdout.read(1)


def test_stdin_is_closed_while_its_descriptor_is_asked_for() -> None:
    """By another thread, while the thread of stdin is in the middle of a write."""
    with Process(["cat"], stdin=PIPE) as process:
        writer: Any = process.stdin.sink.writer  # type: ignore[union-attr]
        writer.writing = True
        found: List[Any] = []

        def ask() -> None:
            try:
                found.append(process.stdin.fileno())
            except ValueError as error:
                found.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: writer.monitor._waiters)
        closing = threading.Thread(target=process.stdin.close)
        closing.start()
        until(lambda: writer.outbound.closing)
        with writer.monitor.lock:
            writer.writing = False
            writer.monitor.notify()
        asking.join()
        closing.join()
        assert isinstance(found[0], ValueError)


@pytest.mark.parametrize("again", [False, True])
def test_no_thread_for_what_is_held_of_a_stream_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """`fileno` fails, and nothing is lost; asked for again, it comes with a thread."""
    data = pattern(LARGE)
    with Process(["cat"], stdin=data) as process:
        reader: Any = process.stdout.source.reader  # type: ignore[union-attr]
        assert process.stdout.read(10) == data[:10]
        reader.inbound._memory = 2 * LARGE
        process.join()
        until(lambda: (reader.monitor.poll_all(), reader.done)[1])
        with monkeypatch.context() as patch:
            refuse_threads(patch, RuntimeError("can't start new thread"))
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start"):
                    process.stdout.fileno()
        assert reader.done
        if again:
            number = process.stdout.fileno()
            assert b"".join(iter(lambda: os.read(number, 65_536), b"")) == data[10:]
            data = data[:10]
        assert process.output() == data[10:]


def test_interrupted_while_a_thread_is_started_for_what_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is started all the same, by another thread, and is not taken for ended."""
    real = process.threads._thread.start

    def start(threads: Any) -> None:
        real(threads)
        raise KeyboardInterrupt

    data = pattern(LARGE)
    with Process(["cat"], stdin=data) as child:
        reader: Any = child.stdout.source.reader  # type: ignore[union-attr]
        reader.inbound._memory = 2 * LARGE
        child.join()
        until(lambda: (reader.monitor.poll_all(), reader.done)[1])
        with monkeypatch.context() as patch:
            patch.setattr(process.threads._thread, "start", start)
            with pytest.raises(KeyboardInterrupt):
                child.stdout.fileno()
        assert not reader.done
        number = child.stdout.fileno()
        assert b"".join(iter(lambda: os.read(number, 65_536), b"")) == data
