"""Plays rounds in separate processes, and detects those that hang or crash."""

import json
import subprocess
import sys
import tempfile
import threading
from itertools import islice
from typing import IO, Callable, Dict, Iterator, List, NamedTuple

from stress import session

#: How many rounds a process plays before the next one is started.
_BATCH = 20


class Found(NamedTuple):
    """The outcome of a round."""

    round: int
    #: What was played, in words; empty if that process has crashed.
    plan: str
    variant: str
    seconds: float
    #: How often each fault has struck.
    strikes: Dict[str, int]
    problems: List[str]


def watch(
    module: str,
    numbers: Iterator[int],
    *,
    seed: int,
    limit: float,
    workers: int,
    report: Callable[[Found], None],
) -> None:
    """Play rounds until there are no more.

    Args:
        module: that plays them, see `worker.main`.
        numbers: of the rounds.
        seed: of the run.
        limit: seconds after which a round has hung.
        workers: how many rounds are played at the same time.
        report: called with each outcome, from several threads, one at a time.
    """
    lock = threading.Lock()

    def report_one(found: Found) -> None:
        with lock:
            report(found)

    def work() -> None:
        while True:
            with lock:
                batch = list(islice(numbers, _BATCH))
            if not batch:
                return
            while batch:
                batch = _play(module, batch, seed, limit, report_one)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _play(
    module: str, batch: List[int], seed: int, limit: float, report: Callable[[Found], None]
) -> List[int]:
    """Play rounds in a separate process; return those that are left if it has crashed."""
    command = [sys.executable, "-m", module]
    command += ["--seed", str(seed), "--limit", str(limit), "--rounds", *map(str, batch)]
    left = list(batch)
    with tempfile.TemporaryFile() as complaints:
        worker = session.start(command, subprocess.PIPE, complaints)
        assert worker.stdout is not None
        try:
            for line in worker.stdout:
                report(Found(**json.loads(line)))
                left.pop(0)
        finally:
            session.end(worker)
            worker.stdout.close()
        if left:
            report(Found(left.pop(0), "", "", limit, {}, [_last_words(worker, complaints)]))
        return left


def _last_words(worker: "subprocess.Popen[bytes]", complaints: IO[bytes]) -> str:
    """How a worker has crashed."""
    complaints.seek(0)
    text = complaints.read().decode(errors="replace").strip()
    if "Timeout (" in text:
        return f"hung:\n{text}"
    return f"crashed, exit code {worker.returncode}:\n{text}"
