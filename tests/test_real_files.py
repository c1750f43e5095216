"""Rule 6: the streams are files: by type, by behaviour, and by their descriptors."""

import io
import os
import select
import shutil
import signal
import subprocess
import threading
from array import array
from pathlib import Path
from typing import Any, List

import pytest

from process import PIPE, Process, ProcessError
from process.core._flow import Flow
from tests.support import FOREVER, LARGE, MIB, PROMPT, Gate, free, lines, pattern, python, until


def read_with_os(stream: Any, size: int = -1) -> bytes:
    """Read from the descriptor of `stream`, once `select` says that there is something."""
    data = b""
    while size < 0 or len(data) < size:
        assert select.select([stream], [], [], 30)[0] == [stream]
        more = os.read(stream.fileno(), 65_536 if size < 0 else size - len(data))
        if not more:
            break
        data += more
    return data


@pytest.mark.parametrize(
    ("buffer_size", "reader", "writer"),
    [
        (None, io.BufferedReader, io.BufferedWriter),
        (1, io.BufferedReader, io.BufferedWriter),
        (0, io.FileIO, io.FileIO),
    ],
)
def test_types(buffer_size: Any, reader: type, writer: type) -> None:
    """Buffered files, or raw ones with `buffer_size=0`, that say what they can do."""
    with Process(["cat"], PIPE, PIPE, PIPE, buffer_size) as process:
        for readable in (process.stdout, process.stderr):
            assert isinstance(readable, reader)
            assert readable.readable()
            assert not readable.writable()
        assert isinstance(process.stdin, writer)
        assert process.stdin.writable()
        assert not process.stdin.readable()
        streams: List[Any] = [process.stdin, process.stdout, process.stderr]
        for stream in streams:
            assert not stream.seekable()
            assert not stream.isatty()
            assert not stream.closed
            with pytest.raises(io.UnsupportedOperation):
                stream.seek(0)
            assert stream.fileno() > 2
    for stream in streams:
        assert stream.closed
        with pytest.raises(ValueError, match="closed"):
            stream.fileno()
    with pytest.raises(ValueError, match="closed"):
        process.stdout.read()
    with pytest.raises(ValueError, match="closed"):
        process.stdout.readline()
    with pytest.raises(ValueError, match="closed"):
        process.stdin.write(b"x")
    with pytest.raises(ValueError, match="closed"):
        process.stdin.flush()


def test_select_and_os_read() -> None:
    """`select` and `os.read` alone see exactly the child's bytes."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    with Process(python(script)) as process:
        found = {process.stdout: b"", process.stderr: b""}
        left: List[Any] = list(found)
        while left:
            for stream in select.select(left, [], [], 30)[0]:
                data = os.read(stream.fileno(), 100_000)
                found[stream] += data
                if not data:
                    left.remove(stream)
        assert list(found.values()) == [pattern(LARGE, 1), pattern(LARGE, 2)]
        assert process.output() == b""


def test_os_read_goes_on_where_readline_has_got_to() -> None:
    """Nothing is read ahead: `os.read` has what follows the line, and `read` what follows that."""
    data = lines(40_000)
    assert sum(map(len, data)) > LARGE // 2
    with Process(["cat"], stdin=b"".join(data)) as process:
        first = [process.stdout.readline() for _ in range(3)]
        assert first == data[:3]
        rest = b"".join(data[3:])
        assert read_with_os(process.stdout, 100_000) == rest[:100_000]
        assert process.stdout.readline() == rest[100_000 : rest.index(b"\n", 100_000) + 1]
        rest = rest[rest.index(b"\n", 100_000) + 1 :]
        assert process.stdout.read(70_000) == rest[:70_000]
        assert read_with_os(process.stdout, 1 * MIB) == rest[70_000 : 70_000 + MIB]
        assert process.output() == rest[70_000 + MIB :]


def test_os_read_after_join_has_overflowed() -> None:
    """What `join` had to put aside comes out of the descriptor in order."""
    size = 3 * LARGE
    with Process(python(f"put(1, pattern({size}, 1))")) as process:
        process.join()
        assert process.stdout.read(1000) == pattern(size, 1)[:1000]
        assert read_with_os(process.stdout) == pattern(size, 1)[1000:]


def test_the_descriptor_stays_the_same() -> None:
    """`fileno` is one number for the life of the stream, and blocks as files do."""
    with Process(["cat"], stdin=PIPE) as process:
        number = process.stdout.fileno()
        assert os.get_blocking(number)
        assert not os.get_inheritable(number)
        process.stdin.write(b"x")
        process.stdin.flush()
        assert os.read(number, 100) == b"x"
        assert process.stdout.fileno() == number
        assert os.get_blocking(process.stdin.fileno())


def test_os_write_to_stdin() -> None:
    """`os.write` to the descriptor of stdin, after a flush, reaches the child in order."""
    data = pattern(MIB)
    with Process(["sh", "-c", "cat >/dev/null; echo read"], stdin=PIPE) as process:
        process.stdin.write(data)
        process.stdin.flush()
        view = memoryview(data)
        while view:
            view = view[os.write(process.stdin.fileno(), view) :]
    assert process.output() == b"read\n"
    with Process(["cat"], stdin=PIPE) as process:
        process.stdin.write(b"one")
        process.stdin.flush()
        os.write(process.stdin.fileno(), b"two")
        process.stdin.write(b"three")
    assert process.output() == b"onetwothree"


def test_join_while_the_descriptor_is_in_use() -> None:
    """Rule 1 holds for a stream whose `fileno` has been asked for."""
    script = f"put(1, pattern({LARGE}, 1)); put(2, pattern({LARGE}, 2))"
    with Process(python(script)) as process:
        assert process.stdout.fileno() != process.stderr.fileno()
        process.join()
        assert process.error() == pattern(LARGE, 2)
        assert read_with_os(process.stdout, 1000) == pattern(LARGE, 1)[:1000]
        assert process.output() == pattern(LARGE, 1)[1000:]
    assert process.output() == pattern(LARGE, 1)[1000:]


def test_leaving_the_block_while_the_descriptor_is_in_use() -> None:
    """What was not read from the descriptor is kept on leaving."""
    with Process(python(f"put(1, pattern({LARGE}, 1))")) as process:
        assert read_with_os(process.stdout, 12_345) == pattern(LARGE, 1)[:12_345]
    assert process.output() == pattern(LARGE, 1)[12_345:]


@pytest.mark.parametrize("given", [None, pattern(LARGE)], ids=["nothing", "input"])
def test_communicate_on_the_popen_object(given: Any) -> None:
    """`Popen.communicate` works on `process`, and sees each byte."""
    script = "data = get_all(); put(2, data); put(1, data)"
    with Process(python(script), stdin=PIPE) as process:
        out, err = process.process.communicate(given, timeout=30)
        assert out == err == (given or b"")
    assert process.exit_code == 0
    assert process.output() == b""


def test_communicate_with_a_timeout_goes_on(tmp_path: Path) -> None:
    """`communicate` after a timeout, then again: nothing is lost."""
    gate = Gate(tmp_path)
    script = f"put(1, pattern({LARGE}))\n" + Gate.WAIT + "put(1, b'end')"
    with Process(python(script, gate), stdin=PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.communicate(timeout=0.05)
        with gate.opening():
            out, err = process.process.communicate(timeout=30)
    assert out == pattern(LARGE) + b"end"
    assert err == b""


def test_text_wrapper_and_copyfileobj_and_iteration() -> None:
    """What takes files takes these."""
    data = lines(30_000)
    with Process(["cat"], stdin=b"".join(data)) as process:
        assert list(process.stdout) == data
    with Process(["cat"], stdin=b"".join(data)) as process:
        text = io.TextIOWrapper(process.stdout, encoding="ascii")
        assert [line.encode() for line in text] == data
    with Process(["cat"], stdin=PIPE) as process:
        shutil.copyfileobj(io.BytesIO(b"".join(data)), process.stdin)
        process.stdin.close()
        target = io.BytesIO()
        shutil.copyfileobj(process.stdout, target)
        assert target.getvalue() == b"".join(data)
    with Process(["cat"], stdin=PIPE) as process:
        process.stdin.writelines(data)
        process.stdin.close()
        assert process.stdout.readlines() == data


@pytest.mark.parametrize("buffer_size", [None, 0, 1, 100])
def test_every_way_of_reading(buffer_size: Any) -> None:
    """Reads of every kind, by turns, have each byte once; at the end they have none."""
    data = b"".join(lines(10_000))
    with Process(["cat"], stdin=data, buffer_size=buffer_size) as process:
        stdout: Any = process.stdout
        target = bytearray(1000)
        found = b""
        while True:
            before = len(found)
            found += stdout.read(100)
            found += stdout.readline()
            found += stdout.readline(7)
            found += b"".join(stdout.readlines(500))
            found += bytes(target[: stdout.readinto(target)])
            found += next(stdout, b"")
            if buffer_size != 0:
                found += stdout.read1(50)
                found += stdout.read1()
                found += bytes(target[: stdout.readinto1(target)])
                peeked = stdout.peek()
                assert stdout.read(len(peeked)) == peeked
                found += peeked
            if len(found) == before:
                break
        assert found == data
        assert stdout.read(0) == b""
        assert stdout.read() == b""


def test_reading_into_a_buffer_of_one_size() -> None:
    """Such calls are served by the front; it is short at the end only, and others can recall it."""
    data = pattern(100_001)
    with Process(["cat"], stdin=data) as process:
        target = memoryview(array("I", bytes(1000)))
        found = b""
        for number in range(100):
            size = process.stdout.readinto(target)
            assert size == min(1000, len(data) - len(found))
            found += bytes(target)[:size]
            if number % 10 == 5:
                found += process.stdout.read(10)
            if number % 10 == 7:
                found += process.stdout.read(1000)
        with pytest.raises(TypeError):
            process.stdout.readinto(b"read-only")
        with pytest.raises((BufferError, TypeError)):
            process.stdout.readinto(memoryview(bytearray(2000))[::2])
        assert found + process.output() == data


@pytest.mark.parametrize("buffer_size", [None, 0])
def test_a_closed_stream_answers_no_question(buffer_size: Any) -> None:
    """Nor is it iterated over: the old lines are not handed out, and no end is reported."""
    with Process(["printf", "a\\nb\\n"], buffer_size=buffer_size) as process:
        stdout: Any = process.stdout
        assert next(stdout) == b"a\n"
        stdout.close()
        for call in (lambda: iter(stdout), stdout.seekable, stdout.isatty):
            with pytest.raises(ValueError, match="closed"):
                call()


def test_a_size_that_means_nothing() -> None:
    """As `io` has it, -1 and `None` mean all, and less than that is a mistake."""
    with Process(["printf", "abc"]) as process:
        with pytest.raises(ValueError, match="non-negative or -1"):
            process.stdout.read(-2)
        assert process.stdout.read(None) == b"abc"


def test_raw_goes_on_where_the_buffered_stream_has_got_to() -> None:
    """It reads no descriptor of its own, on which what was read ahead would be missing."""
    data = b"".join(lines(1000))
    with Process(["cat"], stdin=data) as process:
        process.join()
        raw: Any = process.stdout.raw  # type: ignore[union-attr]
        assert repr(raw) == "<_Raw stdout>"
        target = bytearray(100)
        found = process.stdout.readline() + raw.read(10) + process.stdout.read(10)
        size = raw.readinto(target)
        found += bytes(target[:size])
        assert raw.fileno() == process.stdout.fileno()
        assert found + process.stdout.readline() + raw.read() == data
        raw.close()
        assert process.stdout.closed


def test_an_unbuffered_stream_is_read_into_a_buffer() -> None:
    """What there is, at most what fits, and 0 at the end."""
    data = pattern(2500)
    with Process(["cat"], stdin=data, buffer_size=0) as process:
        stdout: Any = process.stdout
        process.join()
        target = bytearray(1000)
        found = b""
        while True:
            size = stdout.readinto(target)
            if not size:
                break
            found += bytes(target[:size])
        assert found == data


def test_a_reader_is_detached_in_the_middle_of_its_lines() -> None:
    """`raw` goes on behind the last line, and the stream hands out nothing that it has still had.

    What was read ahead for the next lines, or the next blocks, is not lost with it.
    """
    data = b"".join(lines(1000))
    with Process(["cat"], stdin=data) as process:
        process.join()
        stdout: Any = process.stdout
        found = next(stdout) + stdout.readline() + stdout.read(7) + stdout.read(7)
        raw = stdout.detach()
        assert repr(stdout) == "<Reader detached>"
        for call in (
            stdout.read,
            stdout.readline,
            stdout.readlines,
            stdout.peek,
            stdout.fileno,
            stdout.detach,
            lambda: stdout.read(7),
            lambda: stdout.read1(7),
            lambda: stdout.readinto(bytearray(7)),
            lambda: next(stdout),
        ):
            with pytest.raises(ValueError, match="detached"):
                call()
        assert found + raw.read() == data


def test_a_writer_is_detached_with_bytes_that_were_not_flushed() -> None:
    """They are sent first, as by `io`; what `raw` writes comes behind them."""
    with Process(["cat"], stdin=PIPE) as process:
        stdin: Any = process.stdin
        stdin.write(b"one ")
        raw = stdin.detach()
        for call in (lambda: stdin.write(b"lost"), stdin.flush, stdin.fileno, stdin.detach):
            with pytest.raises(ValueError, match="detached"):
                call()
        assert raw.write(b"two") == 3
        raw.flush()
        raw.close()
        assert process.output() == b"one two"


@pytest.mark.parametrize("buffer_size", [None, 0])
def test_a_buffer_with_gaps_is_not_written(buffer_size: Any) -> None:
    """Its bytes do not lie side by side: nothing is sent, and the stream is as it was."""
    with Process(["cat"], stdin=PIPE, buffer_size=buffer_size) as process:
        process.stdin.write(b"before ")
        with pytest.raises(BufferError, match="not C-contiguous"):
            process.stdin.write(memoryview(b"abcdef")[::2])
        process.stdin.write(b"after")
        process.stdin.close()
        assert process.output() == b"before after"


def test_small_writes_of_every_kind_come_in_order() -> None:
    """Only `bytes` are appended to what small writes have in one step; the rest comes behind."""
    with Process(["cat"], stdin=PIPE) as process:
        assert process.stdin.write(b"") == 0
        for data in (b"a", bytearray(b"b"), memoryview(b"c"), b"", bytearray(), b"d"):
            assert process.stdin.write(data) == len(data)
        process.stdin.close()
        assert process.output() == b"abcd"


def test_unbuffered_streams() -> None:
    """`buffer_size=0`: a read returns what there is, and a write has been sent when it returns."""
    with Process(["cat"], stdin=PIPE, buffer_size=0) as process:
        for data in (b"one", b"two\nthree"):
            assert process.stdin.write(data) == len(data)
            found = b""
            while len(found) < len(data):  # `cat` may cut
                found += process.stdout.read(1000) or b""
            assert found == data
        assert process.stdin.write(pattern(LARGE)) == LARGE
        process.stdin.close()
        assert process.stdout.readall() == pattern(LARGE)  # type: ignore[union-attr]


def test_small_unbuffered_writes_fill_the_pipe(tmp_path: Path) -> None:
    """Past the queue as long as there is room, and then in their order, by way of it."""
    gate = Gate(tmp_path)
    data = [pattern(5000), *[pattern(1000, seed) for seed in range(2000)]]
    script = f"{Gate.WAIT}put(1, get_all())"
    with Process(python(script, gate), stdin=PIPE, buffer_size=0) as process:
        outbound: Any = process.stdin.sink.outbound  # type: ignore[union-attr]
        writing = threading.Thread(target=lambda: [process.stdin.write(piece) for piece in data])
        writing.start()
        until(lambda: len(outbound) > 0)  # the child does not read yet
        gate.open()
        writing.join()
        process.stdin.close()
        assert process.output() == b"".join(data)


def test_output_of_one_process_as_input_of_the_next() -> None:
    """A pipeline, with bytes beyond every buffer."""
    data = pattern(2 * LARGE)
    with (
        Process(["cat"], stdin=data) as first,
        Process(["gzip", "-1"], stdin=first.stdout) as second,
        Process(["gzip", "-d"], stdin=second.stdout) as third,
    ):
        assert third.output() == data
    assert [process.exit_code for process in (first, second, third)] == [0, 0, 0]


def test_a_pipeline_that_the_caller_waits_for_in_order() -> None:
    """The first process of a pipeline can be waited for first."""
    data = pattern(2 * LARGE)
    first = Process(["cat"], stdin=data).run()
    second = Process(["cat"], stdin=first.stdout).run()
    first.join()
    second.join()
    assert second.output() == data
    first.close()
    second.close()


def test_bytes_read_before_are_not_lent() -> None:
    """What the caller has read is not passed on; the next process gets the rest."""
    data = lines(40_000)
    with Process(["cat"], stdin=b"".join(data)) as first:
        assert first.stdout.readline() == data[0]
        with Process(["cat"], stdin=first.stdout) as second:
            assert second.output() == b"".join(data[1:])


def test_leaving_the_giver_first_steals_nothing() -> None:
    """`first` is closed while `second` still reads: the bytes are `second`'s."""
    data = pattern(2 * LARGE)
    first = Process(["cat"], stdin=data).run()
    second = Process(["cat"], stdin=first.stdout).run()
    first.__exit__(None, None, None)
    assert first.output() == b""
    assert second.output() == data
    second.close()


@pytest.mark.parametrize("close", [True, False])
def test_a_reader_that_leaves_early_is_passed_on(close: bool) -> None:
    """`yes | head`: the writer gets SIGPIPE, whether or not the caller closes its copy."""
    with Process(["yes"]) as first, Process(["head", "-n", "3"], stdin=first.stdout) as second:
        if close:
            first.stdout.close()
        assert second.output() == b"y\ny\ny\n"
    assert second.exit_code == 0
    assert first.exit_code == -signal.SIGPIPE


def test_a_reader_of_the_standard_library_leaves_early() -> None:
    """The same with `subprocess` as the reader."""
    with Process(["yes"]) as first:
        done = subprocess.run(
            ["head", "-n", "1"], stdin=first.stdout, stdout=PIPE, check=True, timeout=30
        )
        assert done.stdout == b"y\n"
        first.stdout.close()
        first.join()
    assert first.exit_code == -signal.SIGPIPE


def test_closing_stdout_is_passed_on() -> None:
    """A caller that closes `stdout` early: the child gets SIGPIPE."""
    with Process(["yes"]) as process:
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        process.join()
    assert process.exit_code == -signal.SIGPIPE
    assert process.output() == b""


def test_a_caller_in_select_while_the_other_stream_floods() -> None:
    """What waits in `select` moves nothing itself: threads do, as far as the bound goes."""
    script = "put(2, pattern(200_000)); put(1, b'x')"
    with Process(python(script)) as process:
        number = process.stdout.fileno()
        assert select.select([number], [], [], PROMPT)[0] == [number]
        assert os.read(number, 10) == b"x"
    assert process.error() == pattern(200_000)


def test_a_stream_is_closed_while_its_receiver_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, just before the child inherits it: it is the receiver's by then."""
    data = pattern(LARGE)
    real = subprocess.Popen.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        giver.stdout.close()
        real(self, *arguments, **options)

    with Process(["cat"], stdin=data) as giver:
        receiver = Process(["cat"], stdin=giver.stdout)
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "__init__", init)
            receiver.run()
        assert receiver.output() == data
        receiver.close()


def test_a_stream_is_closed_while_a_receiver_is_started_in_vain() -> None:
    """What is taken back is not there any more, nor is it taken back twice."""
    with Process(["cat"], stdin=PIPE) as giver:
        source: Any = giver.stdout.source  # type: ignore[union-attr]
        offer = source.offer()
        giver.stdout.close()
        until(lambda: source.reader.done)
        for _ in range(2):
            offer.withdraw()
        offer.descriptor.close()
        with pytest.raises(ValueError, match="closed"):
            giver.stdout.read(1)


def test_a_receiver_waits_for_another_one_that_is_started_in_vain() -> None:
    """By another thread: as soon as that has failed, the child's own pipe is the second one's."""
    data = pattern(LARGE)
    with Process(["cat"], stdin=PIPE) as giver:
        source: Any = giver.stdout.source  # type: ignore[union-attr]
        first = source.offer()
        second = Process(["cat"], stdin=giver.stdout)
        starting = threading.Thread(target=second.run)
        starting.start()
        until(lambda: source.reader.requested)
        first.withdraw()
        first.descriptor.close()
        starting.join()
        giver.stdin.write(data)
        giver.stdin.close()
        assert second.output() == data
        second.close()
        assert source.handed_over


def test_a_wait_during_the_start_of_the_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the stream does not read what is being handed over, though a caller waits."""
    data = pattern(10_000)
    monkeypatch.setattr("process.threads._thread.STAND_BY", FOREVER)
    with Process(["cat"], stdin=PIPE) as giver:
        source: Any = giver.stdout.source  # type: ignore[union-attr]
        offer = source.offer()

        def join() -> None:
            giver.stdin.write(data)
            giver.stdin.flush()
            giver.join()

        # Not by this thread, which only a signal handler could do while it starts the receiver.
        joining = threading.Thread(target=join)
        joining.start()
        until(source.reader.end.pending)
        until(lambda: source.monitor.flow.busy)
        with source.monitor.lock:
            assert not source.reader._available
        number = offer.descriptor.fileno()
        receiver = subprocess.Popen(["cat"], stdin=number, stdout=subprocess.PIPE)
        offer.accept(Flow())
        offer.descriptor.close()
        giver.stdin.close()
        assert receiver.communicate()[0] == data
        joining.join()
        assert source.inbound.end == 0


def test_two_receivers_of_one_stream() -> None:
    """The first one has the child's own pipe, so the second one is refused, and nothing is lost."""
    with (
        Process(["cat"], stdin=pattern(LARGE)) as giver,
        Process(["wc", "-c"], stdin=giver.stdout) as receiver,
    ):
        with pytest.raises(ProcessError, match="handed over"):
            Process(["wc", "-c"], stdin=giver.stdout).run()
        assert int(receiver.output()) == LARGE


def test_a_giver_is_dropped() -> None:
    """Its child is ended; what it has written until then is the receiver's."""
    data = pattern(10_000)
    giver = Process(["cat"], stdin=PIPE).run()
    with Process(["cat"], stdin=giver.stdout) as receiver:
        giver.stdin.write(data)
        giver.stdin.flush()
        assert receiver.stdout.read(len(data)) == data
        del giver
        free()
        assert receiver.output() == b""
