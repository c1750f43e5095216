"""The demonstration tells the outcomes apart, and its exit code is to be believed."""

import json
import os
from pathlib import Path
from typing import Callable, List

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")

from stress import census, demonstration
from stress.__main__ import main
from stress.demonstration.play import play
from stress.demonstration.scenario import Library, Outcome, Play, Result, Scenario, judge
from stress.demonstration.scenarios import SCENARIOS
from stress.demonstration.table import Outcomes
from stress.pattern import difference, flipped, pattern

_NAME = "join first, read later"


def test_nothing_occurs_twice_in_the_pattern() -> None:
    """Whatever is lost, doubled or moved, the pattern shows it."""
    data = pattern(100_001)
    assert len(data) == 100_001
    assert len({data[at : at + 8] for at in range(0, 100_000, 8)}) == 12_500
    assert all(first ^ second == 255 for first, second in zip(data, flipped(data)))


@pytest.mark.parametrize(
    ("got", "expected"),
    [(b"abc", None), (b"ab", "2 of 3 bytes"), (b"abd", "byte 2 of 3 differs")],
)
def test_differences_are_named(got: bytes, expected: str) -> None:
    """How many bytes there are, or which is the first that is wrong."""
    assert difference(b"abc", got) == expected


@pytest.mark.parametrize(
    ("expected", "got", "leaks", "outcome"),
    [
        (b"abc", b"abc", [], Outcome.PASSED),
        (b"abc", b"ab", ["threads +1"], Outcome.LOST),
        (b"abc", b"abc", ["threads +1"], Outcome.LEAKED),
        (0, 0, [], Outcome.PASSED),
        (0, -13, [], Outcome.ERROR),
        (0, None, [], Outcome.ERROR),
    ],
)
def test_outcomes(expected: Result, got: Result, leaks: List[str], outcome: Outcome) -> None:
    """A loss is worse than a leak; an exit code is right or wrong."""
    assert judge(expected, got, leaks)[0] is outcome


def test_a_census_shows_what_there_is_more_of() -> None:
    """A pipe is two descriptors; what there is less of is no leak."""
    before = census.take()
    ends = os.pipe()
    try:
        assert census.settle(before, patience=0) == ["descriptors +2"]
        assert census.growth(census.take(), before) == []
    finally:
        for end in ends:
            os.close(end)
    assert census.settle(before) == []


class _Fake(Scenario):
    """A scenario that does whatever a test wants."""

    name = "fake"
    rule = 1
    trap = ""
    expected = b"abc"

    def __init__(self, act: Callable[[], Result]) -> None:
        self._act = act

    def popen(self) -> Result:
        return self._act()

    def process(self) -> Result:
        return self._act()

    async def asyncio(self) -> Result:
        return self._act()

    async def async_process(self) -> Result:
        return self._act()


@pytest.mark.parametrize("library", Library)
def test_a_play_is_judged(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is returned, raised and left behind, whichever library plays."""
    monkeypatch.setattr(census, "PATIENCE", 0.0)
    ends: List[int] = []

    def leak() -> bytes:
        ends.extend(os.pipe())
        return b"abc"

    def fail() -> bytes:
        raise BrokenPipeError("no reader")

    assert play(_Fake(lambda: b"abc"), library).outcome is Outcome.PASSED
    assert play(_Fake(lambda: b"ab"), library).outcome is Outcome.LOST
    failed = play(_Fake(fail), library)
    assert (failed.outcome, failed.detail) == (Outcome.ERROR, "BrokenPipeError: no reader")
    leaked = play(_Fake(leak), library)
    for end in ends:
        os.close(end)
    assert (leaked.outcome, leaked.detail) == (Outcome.LEAKED, "descriptors +2")


def test_outcomes_are_counted() -> None:
    """By library; only what of ours has not passed is a failure."""
    outcomes = Outcomes({_NAME: SCENARIOS[_NAME]})
    for library in Library:
        outcomes.begin(_NAME, library)
        assert outcomes.tally(library) == {}
        outcomes.end(_NAME, library, Play(Outcome.HUNG, 3.0, "killed after 3 s"))
    assert outcomes.tally(Library.POPEN) == {Outcome.HUNG: 1}
    assert outcomes.failures() == [
        f"{_NAME}, Process: hung (killed after 3 s)",
        f"{_NAME}, AsyncProcess: hung (killed after 3 s)",
    ]
    outcomes.end(_NAME, Library.PROCESS, Play(Outcome.PASSED, 0.1))
    outcomes.end(_NAME, Library.ASYNC_PROCESS, Play(Outcome.PASSED, 0.1))
    assert outcomes.failures() == []


def test_one_scenario_from_the_command_line(tmp_path: Path) -> None:
    """It hangs elsewhere and passes here, is written down as such, and the exit code is 0."""
    file = tmp_path / "demonstration.json"
    assert main(["demo", "--only", _NAME, "--patience", "1", "--json", str(file)]) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    names = [library["name"] for library in found["libraries"]]
    assert names == ["subprocess.Popen", "Process", "asyncio.subprocess", "AsyncProcess"]
    (scenario,) = found["scenarios"]
    assert scenario["name"] == _NAME
    assert [got["outcome"] for got in scenario["plays"]] == ["hung", "passed", "hung", "passed"]


def test_a_failure_of_ours_is_in_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of ours that hangs is enough; that the others hang is no failure."""

    def perform(name: str, library: Library, patience: float) -> Play:
        outcome = Outcome.HUNG if library in failing else Outcome.PASSED
        return Play(outcome, patience)

    monkeypatch.setattr(demonstration, "perform", perform)
    failing = [Library.POPEN, Library.ASYNCIO]
    assert main(["demo"]) == 0
    failing = [Library.ASYNC_PROCESS]
    assert main(["demo"]) == 1


def test_options_without_a_command_are_the_demonstration_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`python -m stress --report DIR` is what the documentation says."""
    monkeypatch.setattr(demonstration, "perform", lambda *_: Play(Outcome.PASSED, 0.1))
    assert main(["--report", str(tmp_path)]) == 0
    assert "demonstration" in json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not the help of the command that is the default."""
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "explore" in capsys.readouterr().out


def test_options_are_those_of_the_help() -> None:
    """No scenario but those that there are."""
    with pytest.raises(SystemExit):
        main(["demo", "--only", "no such scenario"])
