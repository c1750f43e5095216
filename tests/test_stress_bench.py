"""The benchmark measures what it says, and fails only where it could not."""

import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")

from stress.bench import calls
from stress.bench.case import MIB, Case, Measurement, Times
from stress.bench.catalogue import CASES
from stress.bench.payload import PAGES, all_zero, check_pages, pattern
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


def measurements(
    *seconds: float, processor: float = 0.5, peak: int = 0, growth: int = 0
) -> List[Measurement]:
    """One for each of `seconds`."""
    return [Measurement(each, processor, peak, growth) for each in seconds]


def test_the_ratio_is_that_of_the_medians() -> None:
    """One round in which the machine was busy does not count."""
    case = make_case(allowed=1.5)
    outcome = Outcome(case, 1, measurements(3, 100, 2), measurements(2, 1, 50))
    assert (outcome.our_times, outcome.their_times) == (Times(3, 0.5), Times(2, 0.5))
    assert (outcome.ratio, outcome.processor_ratio) == (1.5, 1.0)
    assert not outcome.too_slow
    assert Outcome(case, 1, measurements(3.1), measurements(2)).too_slow


def test_of_pinned_rounds_the_least_counts() -> None:
    """For wall and for processor time each, whichever round it was in."""
    ours = [Measurement(3, 8, 0, 0), Measurement(4, 6, 0, 0), Measurement(9, 9, 0, 0)]
    theirs = [Measurement(5, 3, 0, 0), Measurement(2, 4, 0, 0)]
    outcome = Outcome(make_case(allowed=1.6, pinned=True), 1, ours, theirs)
    assert (outcome.our_times, outcome.their_times) == (Times(3, 6), Times(2, 3))
    assert (outcome.ratio, outcome.processor_ratio) == (1.5, 2.0)
    assert not outcome.too_slow, "the limit holds for wall time"


def test_without_an_opponent_there_is_no_ratio() -> None:
    """Nothing is above what is allowed where there is nothing to compare with."""
    outcome = Outcome(make_case(theirs=None), 4, measurements(2.0))
    assert (outcome.their_times, outcome.ratio, outcome.too_slow) == (None, None, False)
    assert outcome.processor_ratio is None
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
        "seconds": 1,
        "processor": 0.5,
        "rounds": [{"seconds": 1, "processor": 0.5, "peak": 3, "growth": 0}],
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
        Outcome(
            make_case(name="call", unit="ms"),
            300,
            measurements(2.5e-6, processor=3e-6),
            measurements(5e-8, processor=1e-6),
        ),
        Outcome(make_case(name="broken"), 1, error="failed: wrong"),
    ]
    drawn = io.StringIO()
    Console(width=150, file=drawn).print(table(outcomes))
    _, *rows = (" ".join(line.split()) for line in drawn.getvalue().splitlines())
    assert rows == [
        "count 2 MiB counting 300.0 ms 200.0 ms 1.50 ABOVE 1.00 1.00 0 B 2 MiB",
        "large 300 threads counting 2.00 s 500.0 ms +1.5 MiB ABOVE +1 MiB",
        "rate 16 MiB 16.00 s for each GiB 250.0 ms 500.0 ms 0 B",
        "call 300 ms counting 2.5 \N{MICRO SIGN}s 50.0 ns 50.00 3.00 0 B",
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


def test_pages_are_checked_by_what_comes_last() -> None:
    """What is lost or doubled moves all that follows, and nothing is not enough."""
    written = PAGES[1].encode() + b"\n"
    check_pages(300, written[200:300])
    check_pages(len(written) + 150, written[-50:] + written[:150])
    for end, last in ((300, written[100:200]), (300, written[199:299]), (300, b"")):
        with pytest.raises(ValueError, match="is not what ends at byte"):
            check_pages(end, last)


def test_calls_are_repeated_for_a_time_in_blocks() -> None:
    """A block is as large as it has to be, and what was tried before does not count."""
    now = 0.0
    sizes: List[int] = []

    def block(count: int) -> None:
        nonlocal now
        now += count / 1024
        sizes.append(count)

    done = calls.repeat(block, 1.0, clock=lambda: now)
    assert sizes[:7] == [1, 2, 4, 8, 16, 32, 64], "64 / 1024 s is the first above 1 / 30 s"
    assert sizes[7:] == [64] * 16
    assert done == calls.Repeated(1.0, 1024, sum(sizes))


@posix
def test_a_session_ends_before_its_processor_time_is_known() -> None:
    """That of children counts when they have been waited for, and is shared by all calls."""
    ended: List[bool] = []

    @contextmanager
    def session() -> Iterator[calls.Block]:
        yield lambda count: time.sleep(1e-6 * count)
        ended.append(True)
        subprocess.run([sys.executable, "-c", "sum(range(1_000_000))"], check=True)

    times = calls.per_call(session, 1)
    assert ended == [True]
    assert times.seconds >= 1e-6
    assert times.processor > 0


@posix
def test_a_child_that_does_not_read_all_is_noticed() -> None:
    """A loss is not taken for speed."""
    calls.check_amount(1000, 1000)
    with pytest.raises(ValueError, match="the child has read 999 of 1,000 bytes"):
        calls.check_amount(999, 1000)


@posix
def test_a_wrong_result_is_no_measurement() -> None:
    """It is noticed on either side, and the message says where."""
    from stress.bench.measure import measure

    wrong = make_case(theirs=lambda number: number + 1)
    assert measure(wrong, "ours", 5).seconds >= 0
    with pytest.raises(ValueError, match="count: the result of theirs is wrong: 6"):
        measure(wrong, "theirs", 5)


@posix
def test_a_job_may_take_its_own_time() -> None:
    """Then that is what counts."""
    from stress.bench.measure import measure

    measured = measure(make_case(times=lambda number: Times(number, 7)), "ours", 5)
    assert (measured.seconds, measured.processor) == (5, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no way to")
def test_pinned_children_share_a_core() -> None:
    """The process that measures stays on one, and what it starts does as well."""
    child = "import os; print(len(os.sched_getaffinity(0)))"
    script = (
        "import subprocess, sys; from stress.bench.measure import pin; pin();"
        f" subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == b"1\n"


def test_names_are_unique() -> None:
    """A name chooses one case, and its module has it."""
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case in importlib.import_module(case.module).CASES


@posix
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_sides_do_the_job(case: Case[Any, Any]) -> None:
    """Every case is right on both sides; measuring checks the bytes."""
    from stress.bench.measure import measure

    if case.needs and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
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
            times = [one["seconds"] for one in row[side]["rounds"]]
            assert len(times) == 2
            medians.append(statistics.median(times))
        assert row["ratio"] == medians[0] / medians[1]
        assert row["name"].encode() in done.stdout


#: A module of cases that cannot be measured.
_FAILING = """
import operator, time
from stress.bench.case import Case

def case(name, ours):
    return Case(name, __name__, "", (1,), int, ours, operator.eq, unit="times")

CASES = (
    case("stuck", lambda number: time.sleep(1000)),
    case("wrong", lambda number: number + 1),
)
"""


@posix
def test_a_measurement_that_fails_shows_in_the_table_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The other cases are measured all the same."""
    pytest.importorskip("rich", reason="progress is shown by rich, of the `stress` extra")
    from stress.__main__ import main
    from stress.bench import command

    (tmp_path / "failing.py").write_text(_FAILING)
    failing = [
        make_case(name=name, module=module, limit=limit, unit="times", amounts=(1,))
        for name, module, limit in (
            ("broken", "stress.bench.no_such_case", 60),
            ("stuck", "failing", 0.5),
            ("wrong", "failing", 60),
        )
    ]
    left_out = make_case(name="left-out", needs="no_such_module")
    good = next(case for case in CASES if case.name == "true")
    monkeypatch.setattr(command, "CASES", (*failing, left_out, good))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([REPOSITORY, str(tmp_path)]))
    assert main(["bench", "--scale", "0.01", "--rounds", "1"]) == 1
    output, error = capfd.readouterr()
    words = " ".join(output.split())
    assert "ours failed with exit code 1: ModuleNotFoundError" in words
    assert "ours took more than 0.5 s" in words
    assert "wrong: the result of ours is wrong: 2" in words
    assert "left out: no_such_module is not installed" in words
    assert "of 1 ratios" in words
    assert "No module named 'stress.bench.no_such_case'" in error


def test_cases_can_be_chosen_by_group_and_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Both together are more, and neither is all."""
    pytest.importorskip("rich", reason="progress is shown by rich, of the `stress` extra")
    from stress.__main__ import main

    def listed(*options: str) -> List[str]:
        assert main(["bench", "--list", *options]) == 0
        return [line.split()[1] for line in capsys.readouterr().out.splitlines()]

    groups = {case.name: case.group for case in CASES}
    assert listed() == list(groups)
    assert listed("--only", "echo", "--group", "idle") == ["echo", "idle", "idle-readline"]
    assert listed("--group", "calls") == [name for name in groups if groups[name] == "calls"]
