"""Rounds of faults can be replayed, pass where all is well, and notice where it is not."""

import json
import os
from pathlib import Path
from typing import Any, List, Set, Tuple

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")
pytest.importorskip("resource", reason="limits and signals are a matter of POSIX")

from process.core._inbound import Inbound
from stress import census, faults
from stress.__main__ import main
from stress.faults import plan as plans
from stress.faults import worker
from stress.faults.ledger import STDERR, STDOUT, Conversation, Ledger, check_records
from stress.faults.plan import Plan, draw
from stress.faults.tally import Tally
from stress.faults.works import WORKS
from stress.pattern import flipped
from stress.watch import Found, watch
from stress.worker import ASYNCIO, SYNC, UVLOOP

_ROUNDS = [
    *(Plan(1, 1, SYNC, work, ("stop",)) for work in plans.WORKS[True]),
    *(Plan(1, 1, ASYNCIO, work, ("cancels",)) for work in plans.WORKS[False]),
    *(Plan(1, 1, SYNC, "lines", (fault,)) for fault in plans.SYNC_FAULTS if fault != "interrupts"),
]  # interrupts come at every point in `tests/test_interruption.py`, not at some by chance


def test_a_seed_makes_a_round() -> None:
    """The same seed draws the same rounds; among many, everything there is occurs."""
    rounds = [draw(7, number, [SYNC, ASYNCIO, UVLOOP]) for number in range(2000)]
    assert rounds == [draw(7, number, [SYNC, ASYNCIO, UVLOOP]) for number in range(2000)]
    assert rounds != [draw(8, number, [SYNC, ASYNCIO, UVLOOP]) for number in range(2000)]
    assert {plan.variant for plan in rounds} == {SYNC, ASYNCIO, UVLOOP}
    assert {plan.work for plan in rounds} == set(WORKS)
    struck: Set[str] = set()
    struck.update(*(plan.faults for plan in rounds))
    assert struck == set(plans.FAULTS)
    assert not any({"storm", "interrupts"} <= set(plan.faults) for plan in rounds)
    first, second = rounds[0].random("work"), rounds[0].random("stop")
    assert first.random() != second.random()


@pytest.mark.parametrize(
    ("got", "cut_short", "expected"),
    [
        ([b"ab", b"c"], False, []),
        ([b"ab"], False, ["stdout: 2 of 3 bytes"]),
        ([b"ab"], True, []),
        ([b"abcd"], True, ["stdout: 4 of 3 bytes"]),
        ([b"b"], True, ["stdout: byte 0 of 1 differs"]),
    ],
)
def test_a_ledger_shows_what_is_wrong(
    got: List[bytes], cut_short: bool, expected: List[str]
) -> None:
    """A beginning is enough where something was cut short, but it has to be the beginning."""
    ledger = Ledger(b"abc", b"")
    for data in got:
        ledger.add(STDOUT, data)
    ledger.cut_short = cut_short
    assert ledger.problems() == expected


@pytest.mark.parametrize(
    ("got", "cut_short", "problems"),
    [
        ([b"a\n", b"b\n", b"c\n"], False, 0),
        ([b"a\n", b"c\n"], False, 0),
        ([b"a\n", b"b\n"], False, 1),
        ([b"a\n", b"b\n"], True, 0),
        ([b"b\n", b"c\n"], False, 1),
        ([b"a\n", b"b\n", b"b\n", b"c\n"], False, 1),
        ([b"a\n", b"b\n", b"c\n", b"c\n"], True, 1),
    ],
)
def test_records_come_once_and_in_order(got: List[bytes], cut_short: bool, problems: int) -> None:
    """Only the one that may not have been sent may be missing."""
    sent: List[Tuple[bytes, bool]] = [(b"a\n", True), (b"b\n", False), (b"c\n", True)]
    assert len(check_records(sent, got, cut_short)) == problems


def test_both_sides_of_a_conversation_are_looked_at() -> None:
    """What comes back on stderr has to mirror stdout, as far as either has come."""
    conversation = Conversation()
    conversation.sent.append((b"a\n", True))
    conversation.add(STDOUT, b"a\n")
    assert conversation.problems() == ["stderr: 0 of 2 bytes"]
    conversation.add(STDERR, flipped(b"a"))
    assert conversation.problems() == ["stderr: 1 of 2 bytes"]
    conversation.cut_short = True
    assert conversation.problems() == []
    conversation.add(STDERR, b"\n")
    assert conversation.problems() == ["stderr: byte 1 of 2 differs"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("plan", _ROUNDS, ids=str)
def test_a_round_passes(plan: Plan) -> None:
    """Every kind of work, and every kind of fault."""
    assert worker.play(plan).problems == []


def test_a_byte_that_is_dropped_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that loses something does not pass."""
    real = Inbound.feed

    def feed(self: Inbound, data: bytes) -> None:
        real(self, data[1:])

    monkeypatch.setattr(Inbound, "feed", feed)
    problems = worker.play(Plan(1, 1, SYNC, "leave", ("storm",))).problems
    assert problems
    assert "bytes" in problems[0]


def test_a_leak_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that leaves something behind."""
    ends: List[int] = []

    async def leaky(_: Any) -> None:
        ends.extend(os.pipe())

    monkeypatch.setitem(WORKS, "leave", leaky)
    monkeypatch.setattr(worker, "PATIENCE", 0.0)
    monkeypatch.setattr(worker, "CHILDREN", 2)
    problems = worker.play(Plan(1, 1, SYNC, "leave", ("storm",))).problems
    assert problems == ["left behind: descriptors +2"]
    for end in ends:
        os.close(end)


def test_what_nobody_can_catch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a finalizer, in this case."""

    class Bad:
        def __del__(self) -> None:
            raise ValueError("in a finalizer")

    async def bad(_: Any) -> None:
        Bad()

    monkeypatch.setitem(WORKS, "leave", bad)
    monkeypatch.setattr(worker, "CHILDREN", 2)
    (problem,) = worker.play(Plan(1, 1, SYNC, "leave", ("storm",))).problems
    assert "in a finalizer" in problem


def test_a_hang_is_noticed_and_the_next_round_is_played() -> None:
    """A round that takes longer than it may is reported with the stacks of its threads."""
    found: List[Found] = []
    watch(faults.WORKER, iter([1, 2]), seed=1, limit=0.001, workers=1, report=found.append)
    assert [one.round for one in found] == [1, 2]
    for one in found:
        (problem,) = one.problems
        assert problem.startswith("hung:\nTimeout")
        assert "most recent call first" in problem


def test_a_tally_adds_up() -> None:
    """Rounds by variant, strikes by fault, and how to see a bad one again."""
    tally = Tally(5)
    tally.add(Found(1, "round 1", SYNC, 0.5, {"kill": 2}, []))
    tally.add(Found(2, "round 2", ASYNCIO, 0.25, {"kill": 1, "stop": 3}, ["lost"]))
    found = tally.as_json()
    assert found["rounds"] == 2
    assert found["variants"] == {SYNC: 1, ASYNCIO: 1}
    assert found["seconds"] == 0.75
    assert found["strikes"]["kill"] == 3
    assert found["strikes"]["stop"] == 3
    assert found["strikes"]["forks"] == 0
    (problem,) = found["problems"]
    assert problem["replay"] == "python -m stress faults --seed 5 --replay 2"


def test_some_rounds_from_the_command_line(tmp_path: Path) -> None:
    """They pass, are counted, and the exit code is 0."""
    file = tmp_path / "faults.json"
    before = census.take()
    assert main(["faults", "--seed", "1", "--rounds", "3", "--json", str(file)]) == 0
    assert census.settle(before) == []
    found = json.loads(file.read_text(encoding="utf-8"))
    assert (found["seed"], found["rounds"], found["problems"]) == (1, 3, [])


def test_a_round_that_fails_is_in_the_exit_code() -> None:
    """One that is killed for taking too long, here."""
    assert main(["faults", "--seed", "1", "--rounds", "1", "--limit", "0.001"]) == 1
