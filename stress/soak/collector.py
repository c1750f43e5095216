"""Runs one collector in this process: `python -m stress.soak.collector NAME SECONDS INTERVAL`.

A thread writes a sample to stdout, as a line of JSON, every INTERVAL seconds.
"""

import json
import stat
import sys
import threading
import time
from pathlib import Path

from stress import census
from stress.soak.collectors import COLLECTORS, Collector
from stress.soak.drift import Sample


def overflow() -> int:
    """Bytes on disk in unnamed files, as the library uses for the overflow."""
    total = 0
    directory = Path("/proc/self/fd")
    if directory.is_dir():
        for entry in directory.iterdir():
            try:
                status = entry.stat()
            except OSError:  # closed meanwhile
                continue
            if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                total += 512 * status.st_blocks
    return total


def sample(collector: Collector, seconds: float) -> Sample:
    """Look at this process."""
    counted = census.take()
    return Sample(
        seconds=seconds,
        memory=collector.memory if collector.quiet is None else collector.quiet,
        overflow=overflow(),
        descriptors=counted.descriptors,
        threads=counted.threads,
        lines=collector.lines,
        bytes=collector.bytes,
    )


def main(name: str, seconds: float, interval: float) -> None:
    """Collect until the time is up.

    Raises:
        SystemExit: with a message, if something is left behind.
    """
    before = census.take()
    collector = Collector(seconds)
    over = threading.Event()
    begin = time.monotonic()

    def report() -> None:
        while not over.wait(interval):
            print(json.dumps(sample(collector, time.monotonic() - begin)), flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        COLLECTORS[name](collector)
    finally:
        over.set()
        thread.join()
    left = census.settle(before, patience=10)
    if left:
        sys.exit(f"left behind: {', '.join(left)}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
