"""The exit code, while `Popen` itself reaps the child."""

import os
from typing import Any, Callable, List, Optional

import pytest

from process import PIPE, Process
from process._platform import _posix
from tests.support import needs_waitid, python, until

pytestmark = needs_waitid

_EXIT = "get(1); sys.exit(3)"


def _wait(popen: Any) -> None:
    popen.wait()


def _wait_by_polling(popen: Any) -> None:
    popen.wait(1000)


def _poll(popen: Any) -> None:
    while popen.poll() is None:
        pass


_CALLS = [_wait, _wait_by_polling, _poll]


@pytest.mark.parametrize("call", _CALLS)
def test_asked_for_when_popen_has_reaped_the_child(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], None]
) -> None:
    """By a handler of SIGCHLD, as a rule: `Popen` has not got to note what the code is."""
    reap = os.waitpid
    codes: List[Optional[int]] = []

    def reap_and_ask(pid: int, options: int) -> Any:
        result = reap(pid, options)
        if result[0] == pid:
            codes.append(process.exit_code)
            codes.append(process.running)
        return result

    monkeypatch.setattr(os, "waitpid", reap_and_ask)
    with Process(python(_EXIT), stdin=PIPE, stdout=None, stderr=None) as process:
        process.stdin.write(b"x")
        process.stdin.flush()
        call(process.process)
        assert codes == [3, False]
        assert process.exit_code == 3


@pytest.mark.parametrize("call", _CALLS[:2])
def test_reaped_by_another_caller_while_popen_is_held_up(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], None]
) -> None:
    """`Popen` takes it for a child that was never there, but the code is known by then."""
    monkeypatch.setattr(_posix, "_REAPING", 0)
    reap = os.waitpid

    def close_and_reap(pid: int, options: int) -> Any:
        monkeypatch.setattr(os, "waitpid", reap)
        process.close()
        return reap(pid, options)

    process = Process(python(_EXIT), stdin=PIPE, stdout=None, stderr=None).run()
    process.stdin.write(b"x")
    process.stdin.flush()
    until(lambda: _posix.exit_code(process.id) is not None)
    monkeypatch.setattr(os, "waitpid", close_and_reap)
    call(process.process)
    assert process.exit_code == 3


def test_popen_is_interrupted_when_it_has_reaped_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handler raises there: the code is known all the same."""
    reap = os.waitpid

    def reap_and_raise(pid: int, options: int) -> Any:
        reap(pid, options)
        raise ZeroDivisionError

    with Process(python(_EXIT), stdin=PIPE, stdout=None, stderr=None) as process:
        process.stdin.write(b"x")
        process.stdin.flush()
        monkeypatch.setattr(os, "waitpid", reap_and_raise)
        with pytest.raises(ZeroDivisionError):
            process.process.wait()
        assert process.exit_code == 3


def test_popen_waits_where_nothing_else_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ends cannot be awaited without reaping, `Popen` does what it always does."""
    monkeypatch.delattr(os, "waitid")
    with Process(python(_EXIT), stdin=PIPE, stdout=None, stderr=None) as process:
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.process.wait() == 3
        assert process.exit_code == 3
