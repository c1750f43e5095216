"""Rule 1: a caller that moves the bytes itself holds up nobody when it is kept from that."""

import signal
import threading
from typing import Callable

import pytest

from process import PIPE, Process
from tests.support import LARGE, python

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signals to be sent")

#: Answers a line, sends the signal, and floods stdout with one line.
_SCRIPT = f"""
import signal, time
sys.stdin.readline(); put(1, b"line\\n")
sys.stdin.readline()
os.kill(os.getppid(), signal.SIGUSR1)
sys.stdin.readline(); put(1, b"x" * {LARGE} + b"\\n")
"""


def _join_here(process: Process) -> None:
    process.join()


def _join_in_another_thread(process: Process) -> None:
    thread = threading.Thread(target=process.join)
    thread.start()
    thread.join()


@pytest.mark.usefixtures("looks_again")
@pytest.mark.parametrize("join", [_join_here, _join_in_another_thread])
def test_a_handler_waits_on_top_of_a_caller_that_has_the_claim(
    join: Callable[[Process], None],
) -> None:
    """The thread takes the claim from a caller that cannot use it, and the child ends."""
    with Process(python(_SCRIPT), stdin=PIPE, stderr=None) as process:
        before = signal.signal(signal.SIGUSR1, lambda *_: join(process))
        try:
            process.stdin.write(b"one\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"line\n"
            process.stdin.write(b"two\nthree\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"x" * LARGE + b"\n"
        finally:
            signal.signal(signal.SIGUSR1, before)
