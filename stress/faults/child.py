"""The child of a round: `python child.py SPEC`, where SPEC is what `spec` gives.

Writes patterned bytes to both outputs in turn, or copies stdin to both; may close a stream early,
leave a grandchild, or ignore SIGTERM.
"""

import json
import os
import sys
from typing import Any, Dict, List

#: How much it moves at once, and does before it closes a stream.
PIECE = 20_000


def command(**spec: Any) -> List[str]:
    """How to start one.

    Args:
        **spec: `stdout`, `stderr`: how many bytes to write there; `copy`: write what comes from
            stdin instead; `shut`: the number of a stream to close after the first piece;
            `stubborn`: ignore SIGTERM; `behind`: seconds that a grandchild holds the outputs.
    """
    return [sys.executable, "-S", "-E", os.path.abspath(__file__), json.dumps(spec)]  # noqa: PTH100


def _pattern(size: int) -> bytes:
    import array

    return array.array("Q", range(-(-size // 8))).tobytes()[:size]


def _flipped(data: bytes) -> bytes:
    return data.translate(bytes(255 - byte for byte in range(256)))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class _Child:
    def __init__(self, spec: Dict[str, Any]) -> None:
        self._spec = spec
        self._open = {1, 2}

    def run(self) -> None:
        """Do as the specification says."""
        if self._spec.get("behind") and os.fork() == 0:
            import time

            time.sleep(self._spec["behind"])
            os._exit(0)
        if self._spec.get("copy"):
            self._copy()
        else:
            self._flood()

    def _copy(self) -> None:
        while True:
            data = os.read(0, PIECE)
            if not data:
                return
            self._put(1, data)
            self._put(2, _flipped(data))
            if self._shut():
                return

    def _flood(self) -> None:
        stdout = _pattern(self._spec.get("stdout", 0))
        stderr = _flipped(_pattern(self._spec.get("stderr", 0)))
        for begin in range(0, max(len(stdout), len(stderr)), PIECE):
            self._put(1, stdout[begin : begin + PIECE])
            self._put(2, stderr[begin : begin + PIECE])
            self._shut()

    def _put(self, descriptor: int, data: bytes) -> None:
        if descriptor in self._open:
            _write(descriptor, data)

    def _shut(self) -> bool:
        """Close a stream, if that was asked for; whether it was stdin."""
        descriptor = self._spec.pop("shut", None)
        if descriptor is None:
            return False
        os.closerange(3, 256)  # uvloop leaves a copy of each there
        os.close(descriptor)
        self._open.discard(descriptor)
        return bool(descriptor == 0)


def main() -> None:
    """Run the child."""
    import signal

    spec = json.loads(sys.argv[1])
    if spec.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        _Child(spec).run()
    except OSError:  # there is no reader any more
        os._exit(3)


if __name__ == "__main__":
    main()
