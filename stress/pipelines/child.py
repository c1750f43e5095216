"""One stage of a pipeline: `python child.py SPEC`, where SPEC is what `command` gives.

It writes patterned bytes, or copies stdin, with some bits of each byte flipped; and it floods
stderr before, meanwhile or afterwards.
"""

import itertools
import json
import os
import sys
from typing import Any, Iterator, List

#: How much it moves at once.
PIECE = 20_000


def command(**spec: Any) -> List[str]:
    """How to start one.

    Args:
        **spec: `size`: how many bytes to write, -1: without end; without it, copy stdin; `key`: the
            bits to flip; `limit`: how many bytes of stdin to copy before it leaves; `stderr`: how
            many bytes to write there; `when`: "before", "while" or "after"; `code`: of its exit.
    """
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), json.dumps(spec)]  # noqa: PTH100


def _pattern() -> Iterator[bytes]:
    """The same as `stress.pattern.pattern`, piece by piece, without end."""
    import array

    step = PIECE // 8
    for begin in itertools.count(0, step):
        yield array.array("Q", range(begin, begin + step)).tobytes()


def _limited(size: int) -> Iterator[bytes]:
    for piece in _pattern():
        yield piece[:size] if size >= 0 else piece
        if size >= 0:
            size -= min(size, PIECE)
            if not size:
                return


def _copied(limit: float) -> Iterator[bytes]:
    while limit > 0:
        data = os.read(0, int(min(PIECE, limit)))
        if not data:
            return
        limit -= len(data)
        yield data


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    """Be the stage."""
    import signal

    # As of a program that is not written in Python.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    spec = json.loads(sys.argv[1])
    errors = _limited(spec["stderr"])
    key = bytes(byte ^ spec["key"] for byte in range(256))
    limit = float("inf") if spec["limit"] is None else spec["limit"]
    flip = bytes(255 - byte for byte in range(256))
    if spec["when"] == "before":
        for data in errors:
            _write(2, data.translate(flip))
    for data in _copied(limit) if spec["size"] is None else _limited(spec["size"]):
        _write(1, data.translate(key))
        if spec["when"] == "while":
            _write(2, next(errors, b"").translate(flip))
    for data in errors:
        _write(2, data.translate(flip))
    os._exit(spec["code"])


if __name__ == "__main__":
    main()
