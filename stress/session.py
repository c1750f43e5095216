"""Helper processes that are ended together with all their descendants."""

import contextlib
import os
import signal
import subprocess
from typing import IO, List

import psutil


def start(
    command: List[str], stdout: "int | IO[bytes]", stderr: IO[bytes], **environment: str
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, so that Ctrl-C is left to us.

    This uses the standard library: the library must not watch itself.

    Args:
        command: the program and its arguments.
        stdout: where its output goes.
        stderr: where its errors go.
        environment: what is set there besides what is set here.
    """
    return subprocess.Popen(
        command,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and all that is left of its session."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
    process.wait()
