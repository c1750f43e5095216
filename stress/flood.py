"""The child of the demonstration: floods both of its outputs while it reads.

Each chunk of stdin goes to stdout as it is and to stderr with every bit flipped, before the next
one is read. So the child stands still as soon as any one of its three pipes does.
"""

import os

CHUNK = 64 * 1024

#: Turns what is written to stdout into what is written to stderr, and back.
FLIPPED = bytes(255 - byte for byte in range(256))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    """Copy stdin to both outputs."""
    while True:
        data = os.read(0, CHUNK)
        if not data:
            return
        _write(1, data)
        _write(2, data.translate(FLIPPED))


if __name__ == "__main__":
    main()
