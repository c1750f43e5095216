"""Rules 7 and 9: once the exit handlers have run no thread but the main one runs any more."""

import os
import subprocess
from typing import List

import pytest

from tests.support import PROMPT, is_alive, start_library

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="the end of a child is awaited by a thread (no pidfd)"
)


def _run(script: str) -> List[str]:
    """What a script has to say, which ends by itself and complains of nothing."""
    command = start_library(script)
    done = subprocess.run(command, capture_output=True, timeout=2 * PROMPT, check=False)
    assert (done.stderr, done.returncode) == (b"", 0)
    return done.stdout.decode().split()


def test_run_in_a_finalizer_when_no_thread_can_be_started() -> None:
    """It fails. Before Python 3.12 a thread is started then, and never runs."""
    script = """
import os
from process import Process, ProcessError
from process.threads import _child
class Owner:
    def __del__(self, Process=Process, ProcessError=ProcessError, write=os.write):
        try:
            Process(["true"]).run()
        except ProcessError:
            write(1, b"refused")
owner = Owner()
"""
    assert _run(script) == ["refused"]


@pytest.mark.parametrize(
    "leave",
    ["pass", "close()", "__exit__(None, None, None)", "__exit__(KeyError, None, None)"],
)
def test_started_by_an_exit_handler_after_ours(leave: str) -> None:
    """It is ended, and nothing waits for its threads, which do not run any more."""
    script = f"""
import atexit, os, time
from types import SimpleNamespace
from process import PIPE, Process, _polling
class Owner:
    def __init__(self):
        self.process = Process(["cat"], stdin=PIPE).run()
        os.write(1, b"%d" % self.process.id)
        for thread in self.process._child.threads():
            while not thread.moving and "stdin" not in thread.name:
                time.sleep(0.001)
        # A wait would fail: this takes no arguments. What is written here would keep us alive.
        _polling.time = SimpleNamespace(monotonic=time.monotonic, sleep=os.abort)
    def __del__(self):
        {"pass" if leave == "pass" else f"self.process.{leave}"}
def start():
    global owner
    owner = Owner()
atexit.register(start)
from process.threads import _child
"""
    (pid,) = _run(script)
    assert not is_alive(int(pid))
