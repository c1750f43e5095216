"""The benchmark measures what it says, and fails only where it could not."""

import io
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")

from stress.bench.case import MIB, Case, Measurement
from stress.bench.catalogue import CASES
from stress.bench.payload import all_zero, pattern
from stress.bench.summary import Outcome, exit_code
from tests.support import REPOSITORY

posix = pytest.mark.skipif(sys.platform == "win32", reason="the children are POSIX programs")


def make_case(**changes: Any) -> Case[int, int]:
    """A case that counts, and is right."""
    fields = {
        "name": "count",
        "module": __name__,
        "job": "counting",
        "against": "counting",
        "amounts": (10 * MIB,),
        "prepare": int,
        "ours": lambda number: number,
        "theirs": lambda number: number,
        "intact": lambda given, result: given == result,
        **changes,
    }
    return Case(**fields)


def measurements(*seconds: float, peak: int = 0, growth: int = 0) -> List[Measurement]:
    """One for each of `seconds`."""
    return [Measurement(each, peak, growth) for each in seconds]


def test_the_ratio_is_that_of_the_medians() -> None:
    """One round in which the machine was busy does not count."""
    case = make_case(allowed=1.5)
    outcome = Outcome(case, 1, measurements(3, 100, 2), measurements(2, 1, 50))
    assert (outcome.our_seconds, outcome.their_seconds, outcome.ratio) == (3, 2, 1.5)
    assert not outcome.too_slow
    assert Outcome(case, 1, measurements(3.1), measurements(2)).too_slow


def test_without_an_opponent_there_is_no_ratio() -> None:
    """Nothing is above what is allowed where there is nothing to compare with."""
    outcome = Outcome(make_case(theirs=None), 4, measurements(2.0))
    assert (outcome.their_seconds, outcome.ratio, outcome.too_slow) == (None, None, False)
    assert outcome.seconds_per_byte == 0.5
    assert Outcome(make_case(unit="threads"), 4, measurements(2.0)).seconds_per_byte is None


def test_the_peak_is_limited_by_the_amount() -> None:
    """The largest of ours counts, and theirs does not."""
    case = make_case(peak=1.5)
    within = [*measurements(1, peak=10), *measurements(1, peak=15)]
    outcome = Outcome(case, 10, within, measurements(1, peak=99))
    assert (outcome.memory, outcome.memory_limit, outcome.too_large) == (15, 15, False)
    assert Outcome(case, 10, measurements(1, peak=16)).too_large


def test_growth_is_limited_for_itself() -> None:
    """What was there before the job does not count."""
    case = make_case(growth=5)
    outcome = Outcome(case, 10, measurements(1, peak=99, growth=5))
    assert (outcome.memory, outcome.memory_limit, outcome.too_large) == (5, 5, False)
    assert Outcome(case, 10, measurements(1, growth=6)).too_large


def test_only_what_could_not_be_measured_fails() -> None:
    """Ratios, memory and what was left out are information."""
    slow = Outcome(make_case(allowed=1.0), 1, measurements(9), measurements(1))
    large = Outcome(make_case(growth=1), 1, measurements(1, growth=2))
    left_out = Outcome(make_case(), 1, left_out="too little memory")
    assert slow.too_slow
    assert large.too_large
    assert exit_code([slow, large, left_out]) == 0
    assert exit_code([slow, Outcome(make_case(), 1, error="wrong"), left_out]) == 1


def test_the_report_for_machines_can_be_written() -> None:
    """Whatever is not known is null."""
    measured = Outcome(make_case(allowed=2.0), 7, measurements(1, peak=3), measurements(2, peak=4))
    for outcome in (measured, Outcome(make_case(theirs=None), 7, error="wrong")):
        row = outcome.to_json()
        assert json.loads(json.dumps(row)) == row
        assert (row["name"], row["amount"], row["error"]) == ("count", 7, outcome.error)
    assert measured.to_json()["ours"] == {
        "median": 1,
        "seconds": [1],
        "peak": [3],
        "growth": [0],
    }


def test_what_is_above_its_limit_is_marked_in_words() -> None:
    """The table can be read without colours."""
    pytest.importorskip("rich", reason="tables are drawn by rich, of the `stress` extra")
    from rich.console import Console

    from stress.bench.table import table, verdict

    outcomes = [
        Outcome(make_case(allowed=1.0, peak=1.0), 2 * MIB, measurements(0.3), measurements(0.2)),
        Outcome(
            make_case(name="large", unit="threads", growth=MIB),
            300,
            measurements(2.0, growth=3 * MIB // 2),
        ),
        Outcome(make_case(name="rate", theirs=None, against=""), 16 * MIB, measurements(0.25)),
        Outcome(make_case(name="broken"), 1, error="failed: wrong"),
    ]
    drawn = io.StringIO()
    Console(width=150, file=drawn).print(table(outcomes))
    _, *rows = (" ".join(line.split()) for line in drawn.getvalue().splitlines())
    assert rows == [
        "count 2 MiB counting 300.0 ms 200.0 ms 1.50 ABOVE 1.00 0 B 2 MiB",
        "large 300 threads counting 2.00 s +1.5 MiB ABOVE +1 MiB",
        "rate 16 MiB 16.00 s for each GiB 250.0 ms 0 B",
        "broken 1 B failed: wrong",
    ]
    assert verdict(outcomes) == "Above what is allowed: 1 of 1 ratios, 1 of 2 memory limits."


def test_the_pattern_has_the_size_and_no_short_period() -> None:
    """What is moved by a power of two differs."""
    data = pattern(3 * MIB)
    assert len(data) == 3 * MIB
    assert all(data[: 1 << bits] != data[1 << bits : 2 << bits] for bits in range(3, 21))
    assert pattern(100) != pattern(100, seed=1)


def test_zeros_are_told_from_anything_else() -> None:
    """Their number counts as well."""
    assert all_zero(3, bytes(3))
    assert not all_zero(3, bytes(2))
    assert not all_zero(3, b"\0\1\0")


@posix
def test_a_wrong_result_is_no_measurement() -> None:
    """It is noticed on either side, and the message says where."""
    from stress.bench.measure import measure

    wrong = make_case(theirs=lambda number: number + 1)
    assert measure(wrong, "ours", 5).seconds >= 0
    with pytest.raises(ValueError, match="count: the result of theirs is wrong"):
        measure(wrong, "theirs", 5)


@posix
def test_a_job_may_take_its_own_time() -> None:
    """Then that is what counts."""
    from stress.bench.measure import measure

    assert measure(make_case(seconds=float), "ours", 5).seconds == 5.0


@posix
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_sides_do_the_job(case: Case[Any, Any]) -> None:
    """Every case is right on both sides; measuring checks the bytes."""
    from stress.bench.measure import measure

    much = 3 if case.unit != "bytes" else 300_000
    for side in ("ours",) if case.theirs is None else ("ours", "theirs"):
        assert measure(case, side, much).seconds > 0


@posix
def test_the_command_measures_and_reports(tmp_path: Path) -> None:
    """From end to end: each round is a process, and the ratios are those of the medians."""
    pytest.importorskip("rich", reason="progress is shown by rich, of the `stress` extra")
    file = tmp_path / "bench.json"
    page = tmp_path / "page"
    options = ["--only", "echo", "--only", "true", "--scale", "0.01", "--rounds", "2"]
    options += ["--report", str(page)]
    done = subprocess.run(
        [sys.executable, "-m", "stress", "bench", *options, "--json", str(file)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout.decode()
    report = json.loads(file.read_text())
    assert report["scale"] == 0.01
    assert json.loads((page / "results.json").read_text())["bench"]["data"] == report
    assert "subprocess.run(input=...)" in (page / "index.html").read_text()
    assert [row["name"] for row in report["cases"]] == ["true", "echo"]
    for row in report["cases"]:
        assert (row["error"], row["left_out"]) == ("", "")
        medians: List[float] = []
        for side in ("ours", "theirs"):
            times = row[side]["seconds"]
            assert len(times) == 2
            medians.append(statistics.median(times))
        assert row["ratio"] == medians[0] / medians[1]
        assert row["name"].encode() in done.stdout


@posix
def test_a_measurement_that_fails_shows_in_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other cases are measured all the same."""
    pytest.importorskip("rich", reason="progress is shown by rich, of the `stress` extra")
    from stress.__main__ import main
    from stress.bench import command

    broken = make_case(name="broken", module="stress.bench.no_such_case")
    good = next(case for case in CASES if case.name == "true")
    monkeypatch.setattr(command, "CASES", (broken, good))
    monkeypatch.setenv("PYTHONPATH", REPOSITORY)
    assert main(["bench", "--scale", "0.01", "--rounds", "1"]) == 1
    output, error = capfd.readouterr()
    assert "ours failed with exit code 1" in output
    assert "of 1 ratios" in output
    assert "No module named 'stress.bench.no_such_case'" in error
