"""What both variants answer at once, over a child that is none."""

import copy
import math
import signal
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

from process.core._base import BaseProcess, normalize_timeout
from process.core.constants import PIPE
from process.core.errors import (
    ProcessAlreadyRunError,
    ProcessInvalidStreamError,
    ProcessNotRunError,
)
from process.core.process import AbstractProcess, check_arguments


class FakeChild:
    """A child that notes what it is asked for."""

    pid = 1234
    process: Any = "the Popen"
    stdin: Any = None
    stdout: Any = "the stdout"
    stderr: Any = "the stderr"

    def __init__(self) -> None:
        self.code: Optional[int] = None
        self.done: List[Tuple[Any, ...]] = []

    def look(self) -> Optional[int]:
        """The exit code."""
        return self.code

    def poll(self) -> Optional[int]:
        """The same, which is noted."""
        self.done.append(("poll",))
        return self.code

    def send_signal(self, number: int) -> None:
        """Noted."""
        self.done.append(("signal", number))

    def drop(self) -> None:
        """Noted."""
        self.done.append(("drop",))


class FakeProcess(BaseProcess[str, str, FakeChild]):
    """A variant that starts nothing."""

    _default_buffer_size = 16

    @property
    def process(self) -> Any:
        return self._started

    def run(self) -> "FakeProcess":
        self._child = FakeChild()
        return self

    def output(self, join: bool = True) -> bytes:
        return b""

    def error(self, join: bool = True) -> bytes:
        return b""

    def join(self, timeout: Optional[float] = None) -> None:
        pass

    def close(self) -> None:
        self._warn(["stdout"], stacklevel=2)


def test_a_process_that_was_not_run_has_nothing_to_say() -> None:
    """Its arguments are known, and all else is an error."""
    process = FakeProcess(["true", "x"])
    assert repr(process) == "FakeProcess(arguments=['true', 'x'])"
    for name in ("id", "running", "exit_code", "stdin", "stdout", "stderr", "process"):
        with pytest.raises(ProcessNotRunError, match="has not been run"):
            getattr(process, name)
    for call in (process.terminate, process.kill):
        with pytest.raises(ProcessNotRunError):
            call()
    assert process._process is None
    process.__del__()


def test_a_process_answers_for_its_child() -> None:
    """The id, the exit code and the streams are those of the child."""
    process = FakeProcess("true").run()
    assert process.id == 1234
    assert process.running
    process.process.code = 3
    assert not process.running
    assert process.exit_code == 3
    assert (process.stdout, process.stderr) == ("the stdout", "the stderr")
    assert process.process.done == [("poll",)] * 3
    process.process.stdin = "the stdin"
    assert process.stdin == "the stdin"
    assert process._process == "the Popen"


def test_a_stream_that_is_not_piped_is_an_error() -> None:
    """The message says what would have been needed."""
    with pytest.raises(ProcessInvalidStreamError, match="`stdin=PIPE`"):
        FakeProcess("true").run().stdin.upper()


def test_what_is_sent_to_the_child() -> None:
    """Signals, by number and by name, and the end of the process object."""
    process = FakeProcess("true").run()
    process.signal(signal.SIGINT)
    process.terminate()
    process.kill()
    process.__del__()
    assert process.process.done == [
        ("signal", signal.SIGINT),
        ("signal", signal.SIGTERM),
        ("signal", getattr(signal, "SIGKILL", signal.SIGTERM)),
        ("drop",),
    ]


def test_to_show_a_process_is_no_poll() -> None:
    """The representation says what is known, and grants nothing."""
    process = FakeProcess("true").run()
    assert repr(process) == (
        "FakeProcess(arguments=['true'], id=1234, running=True, exit_code=None, "
        "stdout='the stdout', stderr='the stderr')"
    )
    process.process.stdout = process.process.stderr = None
    process.process.code = 0
    assert repr(process) == ("FakeProcess(arguments=['true'], id=1234, running=False, exit_code=0)")
    assert process.process.done == []
    assert AbstractProcess.__repr__(process) == "FakeProcess(arguments=['true'])"


def test_a_stream_that_is_held_open_is_named() -> None:
    """The warning points at the caller's line."""
    process = FakeProcess("true").run()
    with pytest.warns(RuntimeWarning, match="stdout was taken as finished") as caught:
        process.close()
    assert caught[0].filename.endswith("test_base.py")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("echo 'a b' c", ["echo", "a b", "c"]),
        (Path("a b"), ["a b"]),
        (["a", Path("b c")], ["a", "b c"]),
        (("a",), ["a"]),
    ],
)
def test_arguments(arguments: Any, expected: List[str]) -> None:
    """A string is split, a path is one argument, a sequence is taken item by item."""
    process = FakeProcess(arguments)
    process.arguments.append("not there")
    assert process.arguments == expected


def test_the_buffer_size() -> None:
    """What `None` or a negative number stands for is said by the variant; others are evaluated."""
    assert FakeProcess("true", PIPE, buffer_size=None)._buffer_size == 16
    assert FakeProcess("true", buffer_size=-1)._buffer_size == 16
    assert FakeProcess("true", buffer_size=0)._buffer_size == 0
    process = FakeProcess("true", buffer_size="x")  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        _ = process._buffer_size


def test_the_abstract_class_has_no_buffer_size() -> None:
    """`None` stands for nothing there."""
    with pytest.raises(ValueError, match="must be given"):
        AbstractProcess.__init__(FakeProcess("true"), "true", buffer_size=None)


def test_a_process_is_not_copied() -> None:
    """A copy would share the child, and end it."""
    with pytest.raises(TypeError, match="cannot copy or pickle 'FakeProcess'"):
        copy.copy(FakeProcess("true"))


def test_a_timeout_that_is_not_a_number_is_none() -> None:
    """Comparing it would never say that time is up."""
    assert [normalize_timeout(timeout) for timeout in (None, 0.0, math.nan)] == [None, 0.0, None]


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "no program"), (["a", "b\0c"], "embedded null byte")]
)
def test_what_cannot_be_run(arguments: List[str], message: str) -> None:
    """No program, or an argument that would end early."""
    with pytest.raises(ValueError, match=message):
        check_arguments(arguments)
    check_arguments(["a", "b"])


def test_to_run_twice_has_a_name() -> None:
    """Its message says what is wrong."""
    assert str(ProcessAlreadyRunError()) == "Process has already been run"
