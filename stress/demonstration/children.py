"""The children of the demonstration: `python children.py NAME [NUMBER ...]`.

They are written in Python so that they run wherever the demonstration does, and import next to
nothing, because many of them are started.
"""

import os
import sys
import time

PIECE = 64 * 1024


def _pattern(size: int) -> bytes:
    import array

    return array.array("Q", range(size // 8)).tobytes()


def _flipped(data: bytes) -> bytes:
    return data.translate(bytes(255 - byte for byte in range(256)))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def mirror() -> None:
    """Copy stdin to stdout, and with every bit flipped to stderr, piece by piece."""
    while True:
        data = os.read(0, PIECE)
        if not data:
            return
        _write(1, data)
        _write(2, _flipped(data))


def flood(size: int) -> None:
    """Write `size` bytes to stdout."""
    _write(1, _pattern(size))


def complain(size: int) -> None:
    """Write `size` bytes to stderr before a line to stdout."""
    _write(2, _pattern(size))
    _write(1, b"result\n")


def flush_at_the_end(size: int) -> None:
    """Write a line when ready; on SIGTERM, write `size` bytes to stdout before ending."""
    import signal

    # Blocked and waited for: a handler might run just before `pause`, which would then not end.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    _write(1, b"ready\n")
    signal.sigwait([signal.SIGTERM])
    _write(1, _pattern(size))


def deaf() -> None:
    """Close stdin, then answer."""
    os.close(0)
    _write(1, b"result\n")


def background(seconds: int) -> None:
    """Leave a process behind that keeps the outputs open, and end."""
    import subprocess

    subprocess.Popen([*COMMAND, "sleep", str(seconds)])
    _write(1, b"result\n")


def sleep(seconds: int) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def interrupt(size: int) -> None:
    """Write half of `size` bytes, interrupt the parent as Ctrl-C would, write the other half."""
    import signal

    data = _pattern(size)
    _write(1, data[: size // 2])
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(0.5)
    _write(1, data[size // 2 :])


def pause(size: int, seconds: int) -> None:
    """Write half of `size` bytes, rest, write the other half."""
    data = _pattern(size)
    _write(1, data[: size // 2])
    time.sleep(seconds)
    _write(1, data[size // 2 :])


def endless() -> None:
    """Write lines for ever."""
    while True:
        _write(1, b"line\n" * 1000)


def first_line() -> None:
    """Read one line, write it, and end."""
    sys.stdout.write(sys.stdin.readline())


def converse() -> None:
    """Write two lines to stdout at once, one to stderr, and end when stdin does."""
    _write(1, b"one\ntwo\n")
    _write(2, b"warning\n")
    sys.stdin.read()


#: How to start one of them: `[*COMMAND, NAME, ...]`.
COMMAND = [sys.executable, "-S", "-E", os.path.abspath(__file__)]  # noqa: PTH100 - pathlib is slow


_CHILDREN = {
    child.__name__: child
    for child in (
        mirror,
        flood,
        complain,
        flush_at_the_end,
        deaf,
        background,
        sleep,
        interrupt,
        pause,
        endless,
        first_line,
        converse,
    )
}

if __name__ == "__main__":
    _CHILDREN[sys.argv[1]](*map(int, sys.argv[2:]))
