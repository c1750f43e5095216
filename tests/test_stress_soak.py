"""The soak tells growth from noise, and its collectors notice a line that is wrong."""

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, List

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")

from stress.__main__ import main
from stress.soak import collectors
from stress.soak.collector import overflow
from stress.soak.collectors import Collector, VerificationError
from stress.soak.drift import MIB, Sample, floor, judge, slope
from stress.soak.lines import BLOCK, block, line
from stress.soak.watch import Watched


def _samples(minutes: float = 60.0, **changes: Any) -> List[Sample]:
    """A sample every second; `changes` are functions of the seconds."""
    found = []
    for second in range(int(60 * minutes)):
        fields = {name: change(second) for name, change in changes.items()}
        sample = Sample(second, 30 * MIB, 0, descriptors=9, threads=4, lines=second, bytes=second)
        found.append(sample._replace(**fields))
    return found


def test_a_flat_line_is_good() -> None:
    """As is one that goes up and down with the work, and one that only rises in the warm-up."""
    for memory in (
        lambda second: 30 * MIB,
        lambda second: 30 * MIB + second % 7 * MIB,
        lambda second: min(second, 100) * MIB,
    ):
        verdict = judge(_samples(memory=memory))
        assert verdict.problems == ()
        assert abs(verdict.slope) < MIB / 100


def test_a_leak_is_found_under_the_noise() -> None:
    """Three MiB an hour, in memory that goes up and down by forty."""
    verdict = judge(_samples(memory=lambda second: 3 * MIB * second // 3600 + second % 41 * MIB))
    assert verdict.slope == pytest.approx(3 * MIB, rel=0.05)
    assert verdict.problems == (f"memory rises by {verdict.slope / MIB:.1f} MiB an hour",)


def test_one_odd_window_moves_nothing() -> None:
    """Memory that was high for two minutes and came down again has not risen."""
    verdict = judge(_samples(memory=lambda second: (90 if 600 < second < 720 else 30) * MIB))
    assert verdict.slope == 0
    assert verdict.problems == ()


def test_a_short_soak_does_not_speak_of_hours() -> None:
    """It allows for what an allocator does, and no more."""
    verdict = judge(_samples(1, memory=lambda second: 30 * MIB + second * MIB // 20))
    assert math.isnan(verdict.slope)
    assert verdict.problems == ()
    verdict = judge(_samples(1, memory=lambda second: 30 * MIB + second * MIB))
    assert verdict.problems == (f"memory has risen by {verdict.growth / MIB:.1f} MiB",)


def test_descriptors_and_threads_that_stay_are_found() -> None:
    """Those that come and go are none of these."""
    verdict = judge(_samples(descriptors=lambda second: 9 + second % 5))
    assert (verdict.descriptors, verdict.problems) == (0, ())
    verdict = judge(_samples(descriptors=lambda second: 9 + second // 1200))
    assert verdict.descriptors == 1
    assert verdict.problems == ("1 descriptors more than at first",)
    verdict = judge(_samples(threads=lambda second: 4 + second // 2000))
    assert verdict.problems == ("1 threads more than at first",)


def test_standing_still_is_found() -> None:
    """So is a collector of which nothing was heard, and what is known already is kept."""
    verdict = judge(_samples(bytes=lambda second: min(second, 1000)), ["a line is wrong"])
    assert verdict.problems == ("a line is wrong", "it has stood still")
    assert judge([]).problems == ("it has not run for long enough",)


def test_the_floor_is_the_least_of_each_window() -> None:
    """Forty windows, or as many as there are samples; and the slope of what there is."""
    assert floor(_samples(2, memory=lambda second: second % 3))[:2] == [(0, 0), (3, 0)]
    assert len(floor(_samples(60))) == 40
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert math.isnan(slope([(0, 1)]))


def test_a_wrong_line_is_noticed() -> None:
    """A line out of its turn, and lines that are missing at the end."""
    collector = Collector(60)
    collector.verify_all(block(0), 0, 1)
    assert collector.lines == BLOCK
    assert collector.bytes == len(block(0))
    with pytest.raises(VerificationError):
        collector.verify(line(2), 1)
    with pytest.raises(VerificationError):
        collector.verify_all(block(0), 0, 2)


def test_what_overflows_is_seen() -> None:
    """Files without a name count, others do not."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("there is no telling what this process has open")
    with tempfile.TemporaryFile() as unnamed, tempfile.NamedTemporaryFile() as named:
        before = overflow()
        for file in (unnamed, named):
            file.write(bytes(MIB))
            file.flush()
        os.sync()  # some file systems give blocks out late
        assert overflow() - before >= MIB
        assert overflow() - before < 2 * MIB


@pytest.mark.parametrize("name", collectors.COLLECTORS)
def test_a_collector_collects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn of each, in this process."""
    monkeypatch.setattr(collectors, "_UNREAD", 2)
    monkeypatch.setattr(collectors, "_JOINED", 2)
    monkeypatch.setattr(collectors, "_INPUT", MIB)

    class OneTurn(Collector):
        asked = 0

        @property
        def over(self) -> bool:
            self.asked += 1
            return self.asked > 9

    collector = OneTurn(0)
    collectors.COLLECTORS[name](collector)
    assert collector.bytes > 0


def test_a_collector_that_fails_is_heard_of() -> None:
    """Its last words are a problem."""
    watched = Watched("no such collector", 1, 0.1)
    watched.end()
    assert watched.over
    (problem, _) = watched.verdict.problems
    assert "KeyError: 'no such collector'" in problem


def test_a_collector_that_does_not_end_is_ended() -> None:
    """After a while, and that is a problem as well."""
    watched = Watched("tasks", 1000, 0.1)
    watched.end(patience=0)
    assert watched.verdict.problems[0] == "it has not come to an end within 0 seconds"


def test_a_short_soak_from_the_command_line(tmp_path: Path) -> None:
    """All collectors run, and what they have told is written down."""
    file = tmp_path / "soak.json"
    main(["soak", "--minutes", "0.05", "--json", str(file)])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["minutes"] == 0.05
    assert [one["name"] for one in found["collectors"]] == list(collectors.COLLECTORS)
    for one in found["collectors"]:
        assert one["samples"]
        assert dict(zip(one["fields"], one["samples"][-1]))["memory"] > MIB
        assert not any("left behind" in problem for problem in one["verdict"]["problems"])


def test_a_problem_is_in_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectors that cannot even be started, here."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["soak", "--minutes", "0.01"]) == 1
