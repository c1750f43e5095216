"""Starts plays in separate processes, and kills those that hang."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stress import session
from stress.demonstration.scenario import Library, Outcome, Play

#: Seconds until a scenario of ours has failed.
_LIMIT = 30.0


def perform(name: str, library: Library, patience: float) -> Play:
    """Play scenario `name` in a separate process; it is killed when its time is up.

    The process writes to files, not to pipes: what a play leaves behind may hold pipes open, and
    waiting for them is the trap that is shown.

    Args:
        name: the scenario.
        library: what runs the child.
        patience: seconds for the standard library; ours has more, to be sure of a failure.
    """
    limit = max(_LIMIT, patience) if library.ours else patience
    with tempfile.TemporaryDirectory() as directory:
        record, complaints = Path(directory, "record"), Path(directory, "stderr")
        command = [sys.executable, "-m", "stress.demonstration.play"]
        command += [name, library.value, str(record)]
        with complaints.open("wb") as stderr:
            player = session.start(command, stderr, stderr)
        begin = time.monotonic()
        try:
            code = player.wait(limit)
        except subprocess.TimeoutExpired:
            return Play(Outcome.HUNG, time.monotonic() - begin, f"killed after {limit:g} s")
        finally:
            session.end(player)
        if record.exists():
            outcome, seconds, detail = json.loads(record.read_text(encoding="utf-8"))
            return Play(Outcome(outcome), seconds, detail)
        last = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        detail = ": ".join([f"exit code {code}", *last])
        return Play(Outcome.ERROR, time.monotonic() - begin, detail)
