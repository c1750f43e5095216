"""Rule 2: while nobody waits, a stream holds at most its bound, and then the child blocks."""

import os
import sys
from typing import TYPE_CHECKING, Any, List

import pytest

from process import PIPE, ProcessTimeoutError
from process.core._flow import BOUND
from tests.support import KIB, MIB, TERMINATED, YES, Kit, pattern, python, reached

if TYPE_CHECKING:
    from typing_extensions import Self

#: What may lie between the child's last byte and the caller's: our bound, a chunk that a
#: thread has in its hands, what the transport or a relay holds, and what the kernel's pipes hold.
SLACK = 1 * MIB

#: libuv reads a pipe up to 32 times before it can be paused. A read may give more than the pipe
#: holds at once, if the child writes meanwhile; the buffers of uvloop have 256,000 bytes.
LIBUV = 32 * 256_000

#: A child stops by itself here, so that a failure does not fill the machine.
LIMIT = 256 * MIB

#: Writes to stdout until `LIMIT`, and says on stderr how much is gone each time it has been blocked
#: for a while; where it is not blocked it has the word at the end.
_METER = (
    f"""
import select
done, chunk = 0, b"0123456789abcde\\n" * 1024
os.set_blocking(1, False)
while done < {LIMIT}:
    if not select.select([], [1], [], 0.2)[1]:
        put(2, b"%d\\n" % done)
        select.select([], [1], [])
    try:
        done += os.write(1, chunk[done % 16:])
    except BlockingIOError:
        pass
put(2, b"%d\\n" % done)
"""
    if sys.platform != "win32"  # where `select` knows only sockets
    else f"""
import threading, time
done, chunk = 0, b"0123456789abcde\\n" * 256
def watch():
    told = before = 0
    while True:
        time.sleep(0.2)
        if done == before != told:
            put(2, b"%d\\n" % done)
            told = done
        before = done
threading.Thread(target=watch, daemon=True).start()
while done < {LIMIT}:
    put(1, chunk)
    done += len(chunk)
put(2, b"%d\\n" % done)
"""
)


class Meter:
    """A child that says, on a pipe of the test's own, where it has been blocked."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.read, self.write = os.pipe()
        self.process: Any = None

    async def __aenter__(self) -> "Self":
        self.process = await self.kit.start(python(_METER), stderr=self.write)
        os.close(self.write)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        os.close(self.read)
        await self.kit.get(self.process.close())

    async def blocked(self) -> int:
        """How much the child had written when it was blocked next."""
        word = b""
        while not word.endswith(b"\n"):
            word += await self.kit.blocking(os.read, self.read, 100)
        return int(word.split()[-1])


async def test_a_child_that_nobody_reads_is_blocked(kit: Kit) -> None:
    """Nobody waits: the child gets rid of the bound and no more."""
    async with Meter(kit) as meter:
        assert await meter.blocked() <= SLACK


async def test_a_child_that_is_read_slowly_is_blocked(kit: Kit) -> None:
    """What is held beyond what was read stays the same, however much has been read."""
    async with Meter(kit) as meter:
        taken = 0
        for size in (10, 3 * MIB, 5 * MIB):
            await kit.read(meter.process.stdout, size)
            taken += size
            assert taken <= await meter.blocked() <= taken + SLACK


async def test_a_line_is_read_now_and_then(kit: Kit) -> None:
    """`readline` takes a line; the child gets no further than the bound beyond it."""
    async with Meter(kit) as meter:
        for _ in range(3):
            assert await kit.read_line(meter.process.stdout) == b"0123456789abcde\n"
        assert await meter.blocked() <= SLACK


async def test_a_poll_commits_to_little(kit: Kit) -> None:
    """Looking at `running` again obliges to one more bound, not to everything."""
    async with Meter(kit) as meter:
        before = await meter.blocked()
        assert meter.process.running
        assert meter.process.running
        after = await meter.blocked()
        assert before < after <= before + SLACK


async def test_what_polls_have_granted_is_used_up_by_reading(kit: Kit) -> None:
    """A caller that looks at `running` before each read does not pile up room."""
    async with Meter(kit) as meter:
        taken = 0
        for _ in range(200):
            assert meter.process.running
            taken += len(await kit.read(meter.process.stdout, 10 * KIB))
        assert await meter.blocked() <= taken + SLACK


async def test_what_was_taken_makes_room_though_nobody_waits(loops: Kit) -> None:
    """The loop had stopped reading, and begins again when what it has read is used up."""
    async with loops.opened(YES, stderr=None) as process:
        inbound = process.stdout.inbound
        await reached(lambda: process.stdout._paused_pipe)
        assert len(await process.stdout.read(inbound.held - 1)) > BOUND // 2
        assert len(await process.stdout.read(1)) == 1  # uses the last chunk up, and does not wait
        await reached(lambda: inbound.held > 1)
        await process.close()


async def test_what_polls_have_granted_is_used_up_while_the_loop_runs(loops: Kit) -> None:
    """The same where the loop has all the time to read what it may, between read and poll."""
    async with loops.opened(YES, stderr=None) as process:
        most = 0
        for _ in range(20):
            assert process.running
            assert len(await process.stdout.read(1)) == 1
            await reached(lambda: process.stdout._paused_pipe)
            most = max(most, process.stdout.inbound.held)
        await process.close()
    # A bound, one more for a poll, and a chunk that came when there was still room.
    assert most <= 2 * BOUND + (LIBUV if loops.name == "uvloop" else 256 * KIB)


async def test_a_join_that_timed_out_no_longer_counts(kit: Kit) -> None:
    """After a `join` that timed out the child is blocked again, at whatever it has got rid of."""
    async with Meter(kit) as meter:
        with pytest.raises(ProcessTimeoutError):
            await kit.get(meter.process.join(0.001))
        assert await meter.blocked() < LIMIT


async def test_yes_read_slowly_and_closed(kit: Kit) -> None:
    """A child that never stops: what is held stays within the bound, and `close` ends it."""
    process = await kit.start([*YES, "0123456789abcde"])
    most = 0
    slack = LIBUV if kit.name == "uvloop" else 0
    for _ in range(2000):
        assert await kit.read_line(process.stdout) == b"0123456789abcde\n"
        most = max(most, *held(process))
    assert most <= BOUND + 128 * KIB + slack
    await kit.read(process.stdout, 8 * MIB)
    assert max(held(process)) <= BOUND + 128 * KIB + slack
    await kit.get(process.close())
    assert process.exit_code == TERMINATED
    # It may have been in the middle of a line at both ends: what was kept is the plain rest.
    kept = (await kit.get(process.output())).split(b"\n")
    assert set(kept[:-1]) <= {b"0123456789abcde"}
    assert b"0123456789abcde".startswith(kept[-1])


async def test_input_to_a_child_that_does_not_read_waits(kit: Kit) -> None:
    """A caller that writes without end to a child that reads slowly blocks at the bound."""
    script = f"""
import select
for _ in range(16):
    get({64 * KIB}); put(1, b".")
"""
    data = pattern(16 * 64 * KIB)
    async with kit.opened(python(script), stdin=PIPE) as process:
        for begin in range(0, len(data), 16 * KIB):
            await kit.write(process.stdin, data[begin : begin + 16 * KIB])
            assert unsent(process) <= BOUND + 16 * KIB
        await kit.close(process.stdin)
        assert await kit.get(process.output()) == b"." * 16


def held(process: Any) -> List[int]:
    """What the library holds of stdout and stderr right now."""
    if hasattr(process.stdout, "source"):
        return [stream.source.reader.inbound.held for stream in (process.stdout, process.stderr)]
    return [stream.inbound.held for stream in (process.stdout, process.stderr)]


def unsent(process: Any) -> int:
    """What the library holds of stdin right now."""
    if hasattr(process.stdin, "sink"):
        return len(process.stdin.sink.writer.outbound)
    size: int = process.stdin.transport.get_write_buffer_size()
    return size
