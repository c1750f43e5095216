"""Starts plays in processes of their own, and ends what hangs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from stress.demonstration.scenario import Library, Outcome, Play

#: Seconds until a scenario of ours has failed.
_LIMIT = 30.0


def perform(name: str, library: Library, patience: float) -> Play:
    """Play scenario `name` in a process of its own; it is killed when its time is up.

    The process writes to files, not to pipes: what a play leaves behind may hold those open, and
    waiting for them would be the very trap that is shown.

    Args:
        name: the scenario.
        library: who runs the child.
        patience: seconds that the standard library has; ours has more, to be sure of a failure.
    """
    limit = max(_LIMIT, patience) if library.ours else patience
    with tempfile.TemporaryDirectory() as directory:
        record, complaints = Path(directory, "record"), Path(directory, "stderr")
        command = [sys.executable, "-m", "stress.demonstration.play"]
        command += [name, library.value, str(record)]
        with complaints.open("wb") as stderr:
            player = subprocess.Popen(command, stdout=stderr, stderr=stderr, start_new_session=True)
        begin = time.monotonic()
        try:
            code = player.wait(limit)
        except subprocess.TimeoutExpired:
            return Play(Outcome.HUNG, time.monotonic() - begin, f"killed after {limit:g} s")
        finally:
            _end(player)
        if record.exists():
            outcome, seconds, detail = json.loads(record.read_text(encoding="utf-8"))
            return Play(Outcome(outcome), seconds, detail)
        last = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        detail = ": ".join([f"exit code {code}", *last])
        return Play(Outcome.ERROR, time.monotonic() - begin, detail)


def _end(player: "subprocess.Popen[bytes]") -> None:
    """Kill the player and whatever it has left behind."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(player.pid, signal.SIGKILL)
    elif player.poll() is None:
        for child in psutil.Process(player.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        player.kill()
    player.wait()
