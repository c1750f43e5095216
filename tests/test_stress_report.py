"""The report gathers what the commands have found, and shows it whether it is good or bad."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")

from stress import report
from stress.__main__ import main
from stress.report import charts, figures
from stress.report.page import render, summary, tiles
from stress.soak.drift import Sample

_DEMONSTRATION: Dict[str, Any] = {
    "libraries": [
        {"name": "subprocess.Popen", "ours": False, "tally": {"hung": 1}},
        {"name": "Process", "ours": True, "tally": {"passed": 1}},
    ],
    "scenarios": [
        {
            "name": "join <first>",
            "rule": 1,
            "trap": "A trap.",
            "plays": [
                {"outcome": "hung", "seconds": 3.0, "detail": "killed after 3 s"},
                {"outcome": "passed", "seconds": 0.05, "detail": ""},
            ],
        }
    ],
}


def _case(name: str, ratio: Optional[float], **changes: Any) -> Dict[str, Any]:
    theirs = None if ratio is None else 1.0
    case = {
        "name": name,
        "job": "work",
        "against": "" if ratio is None else "theirs",
        "ours": {"seconds": ratio or 1.0, "processor": 2.0},
        "theirs": {"seconds": theirs, "processor": None if ratio is None else 4.0},
        "ratio": ratio,
        "processor_ratio": None if ratio is None else 0.25,
        "allowed": None if ratio is None else 1.1,
        "too_slow": ratio is not None and ratio > 1.1,
        "memory": 2**20,
        "memory_limit": None,
        "too_large": False,
        "error": "",
        "left_out": "",
    }
    return {**case, **changes}


_BENCH: Dict[str, Any] = {"cases": [_case("lines", 0.5), _case("read", 0.75), _case("size", None)]}
_SOAK: Dict[str, Any] = {
    "minutes": 20.0,
    "collectors": [
        {
            "name": "unread",
            "what": "Lines.",
            "verdict": {
                "slope": 0.5 * 2**20,
                "growth": 1000.0,
                "descriptors": 0,
                "threads": 0,
                "problems": [],
            },
            "fields": list(Sample._fields),
            "samples": [[1.0, 2**20, 0, 9, 4, 10, 1000], [2.0, 2**21, 4096, 9, 4, 20, 2000]],
        }
    ],
}
_FAULTS: Dict[str, Any] = {
    "seed": 7,
    "rounds": 1000,
    "variants": {"sync": 600, "asyncio": 400},
    "seconds": 100.0,
    "strikes": {"kill": 12, "stop": 0},
    "problems": [],
}
_EXPLORE: Dict[str, Any] = {
    "worlds": [
        {
            "name": "reads",
            "states": 2_500_000,
            "steps": 9,
            "complete": True,
            "seconds": 60.0,
            "violation": None,
        }
    ]
}
_ALL = {
    "demonstration": _DEMONSTRATION,
    "bench": _BENCH,
    "soak": _SOAK,
    "faults": _FAULTS,
    "explore": _EXPLORE,
}


def _page(**parts: Any) -> str:
    machine = {"python": "CPython 3.13", "system": "Linux", "when": "today"}
    return render({name: {"machine": machine, "data": data} for name, data in parts.items()})


class _Checker(HTMLParser):
    """Sees to it that every element is closed, and that nothing is fetched from elsewhere."""

    _EMPTY = frozenset({"meta", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: List[str] = []
        self.ids: List[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        given = dict(attrs)
        assert tag not in ("script", "link", "img", "iframe")
        assert (given.get("href") or "#").startswith("#")
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag not in self._EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _checked(page: str) -> str:
    """The text of a page that stands by itself."""
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.ids == list(_ALL)
    return " ".join(checker.text.split())


def test_a_full_page() -> None:
    """Every part is there, with its units, and the first screen answers."""
    text = _checked(_page(**_ALL))
    assert "All passed. It takes 0.62 \N{MULTIPLICATION SIGN} the time" in text
    for words in (
        "1 of 1 traps passed. The standard library: 0 of 1",
        "+0.50 MiB an hour",
        "0 of 1,000 rounds",
        "2.5 million states",
        "join <first>",
        "hung 3.0 s",
        "passed 50.0 ms",
        "0.50 s against 1.0 s; processor 0.25",
        "1.0 s; processor 2.0 s",
        "20 lines, 2.0 KiB verified, 1000 bytes a second",
        "at most 2.0 MiB",
        "sync 600, asyncio 400",
    ):
        assert words in text, words
    assert "not run" not in text.lower()


def test_an_empty_page() -> None:
    """What is missing is named, with the command that adds it."""
    text = _checked(_page())
    assert "Not tested. The speed has not been measured." in text
    for command in ("demo", "bench", "soak --minutes 20", "faults --rounds 1000", "explore"):
        assert f"python -m stress {command} --report DIR" in text


def test_bad_news() -> None:
    """Each kind of it is in the first sentence and in its place."""
    verdict = {**_SOAK["collectors"][0]["verdict"], "slope": math.nan, "problems": ["it leaks"]}
    found = {
        "demonstration": json.loads(json.dumps(_DEMONSTRATION)),
        "bench": {"cases": [_case("read", 2.0), _case("lines", 1.0, error="it broke")]},
        "soak": {**_SOAK, "collectors": [{**_SOAK["collectors"][0], "verdict": verdict}]},
        "faults": {
            **_FAULTS,
            "problems": [{"round": 3, "plan": "", "text": "hung", "replay": "again"}],
        },
        "explore": {"worlds": [{**_EXPLORE["worlds"][0], "violation": "stuck: here"}]},
    }
    found["demonstration"]["libraries"][1]["tally"] = {"error": 1}
    text = _checked(_page(**found))
    assert "Failed: traps, memory, faults, search. It takes 1.50" in text
    for words in ("it leaks", "round 3", "again", "stuck: here", "Failed: lines", "it broke"):
        assert words in text, words


def test_no_collector_and_no_opponent() -> None:
    """Parts with nothing in them are no reason to fail."""
    found = {"bench": {"cases": [_case("size", None)]}, "soak": {"minutes": 1, "collectors": []}}
    _checked(_page(**found))
    nothing = {**_SOAK["collectors"][0], "samples": []}
    _checked(_page(soak={"minutes": 1.0, "collectors": [nothing]}))
    answers = tiles({**dict.fromkeys(_ALL), "bench": found["bench"]})
    assert summary(answers).endswith("It takes unknown the time of the standard library.")


def test_bars_are_on_one_scale() -> None:
    """The longest bar fits; equal times reach the mark."""
    first, second, third = charts.bars([(0.5, 1.1), (1.0, None), (None, 4.0)])
    assert second.length == second.one == first.one
    assert first.length == pytest.approx(first.one / 2)
    assert third.length == 0
    assert first.allowed == pytest.approx(1.1 * first.one)
    assert second.allowed is None
    assert 90 < (third.allowed or 0) <= 100


def test_a_bar_that_is_too_long_is_cut_off() -> None:
    """One that is a hundred times as long as the others does not hide what these say."""
    longest, usual = charts.bars([(150.0, 30.0), (1.0, 1.2)])
    assert (longest.length, longest.allowed) == (100.0, None)
    assert usual.length > 15


def test_a_curve_fits_its_box_and_keeps_its_peaks() -> None:
    """However many points there are."""
    xs, ys = list(map(float, range(1, 5001))), [10.0] * 5000
    ys[3333] = 100.0
    curve = charts.curve(xs, ys)
    places = [tuple(map(float, place.split(","))) for place in curve.points.split()]
    assert (curve.highest, curve.last) == (100.0, 5000.0)
    assert len(places) <= 400
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in places)
    assert min(y for _, y in places) == pytest.approx(100 - 100 / 1.1, abs=0.01)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (figures.seconds(None), "\N{EN DASH}"),
        (figures.seconds(1e-7), "100 ns"),
        (figures.seconds(1.25e-6), "1.2 \N{MICRO SIGN}s"),
        (figures.seconds(1e-5), "10 \N{MICRO SIGN}s"),
        (figures.seconds(0.0123), "12.3 ms"),
        (figures.seconds(0.5), "0.50 s"),
        (figures.seconds(2), "2.0 s"),
        (figures.seconds(100), "100 s"),
        (figures.seconds(1200), "20 min"),
        (figures.size(None), "\N{EN DASH}"),
        (figures.size(12), "12 bytes"),
        (figures.size(1536), "1.5 KiB"),
        (figures.size(300 * 2**20), "300 MiB"),
        (figures.size(2**50), "1024 TiB"),
        (figures.rise(-(2**19)), "-0.50 MiB an hour"),
        (figures.many(12345), "12,345"),
        (figures.many(1234567), "1.2 million"),
        (figures.ratio(None), "\N{EN DASH}"),
        (figures.ratio(0.5), "0.50 \N{MULTIPLICATION SIGN}"),
    ],
)
def test_numbers_have_units(got: str, expected: str) -> None:
    """As people read them."""
    assert got == expected


def test_commands_gather_in_one_directory(tmp_path: Path) -> None:
    """A second command leaves what the first has found where it is."""
    directory = tmp_path / "new" / "report"
    report.merge(directory, "faults", _FAULTS)
    assert main(["explore", "--world", "echo", "--limit", "100", "--report", str(directory)]) == 0
    found = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    assert found["faults"]["data"] == _FAULTS
    assert found["explore"]["data"]["worlds"][0]["name"] == "echo"
    assert found["explore"]["machine"].keys() == {"python", "system", "when"}
    text = _checked((directory / "index.html").read_text(encoding="utf-8"))
    assert "0 of 1,000 rounds" in text
    assert "echo" in text


def test_machines_can_read_it_from_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json -`, after what is said to people."""
    assert main(["explore", "--world", "echo", "--limit", "100", "--json", "-"]) == 0
    output = capsys.readouterr().out
    found = json.loads(output[output.index("{") :])
    assert found["worlds"][0]["complete"] is False
