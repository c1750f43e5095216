"""Random pipelines can be replayed, pass where all is well, and are noticed where it is not."""

import os
import signal
from typing import Any, List, Set

import pytest

pytest.importorskip("psutil", reason="psutil has no wheel for PyPy")
pytest.importorskip("resource", reason="forks and SIGPIPE are a matter of POSIX")

from process.core._inbound import Inbound
from stress import census, pipelines
from stress.__main__ import main
from stress.pipelines import worker
from stress.pipelines.model import Model
from stress.pipelines.plan import (
    BYTES,
    DUPLICATE,
    ENDLESS,
    FILE,
    NUMBER,
    OWN,
    POPEN,
    WRITTEN,
    Link,
    Plan,
    Stage,
    draw,
    order_of_starts,
)
from stress.watch import Found, watch
from stress.worker import ASYNCIO, SYNC, UVLOOP, variants


def make_plan(*stages: Stage, source: str = OWN, size: int = 100_000, how: str = FILE) -> Plan:
    """A pipeline of synchronous processes for one caller."""
    links = (Link(how, backward=False, own=0, exposed=False, closed=True),) * (len(stages) - 1)
    return Plan(1, 1, SYNC, source, size, stages, links, 1, None)


def make_stage(**options: Any) -> Stage:
    """A synchronous stage that changes nothing, unless told otherwise."""
    plain = Stage(False, key=0, limit=None, stderr=10, when="before", code=0, buffer_size=None)
    return plain._replace(**options)


def test_a_seed_makes_a_pipeline() -> None:
    """The same seed draws the same pipelines; among many, everything there is occurs."""
    there = [SYNC, ASYNCIO, UVLOOP]
    plans = [draw(7, number, there) for number in range(2000)]
    assert plans == [draw(7, number, there) for number in range(2000)]
    assert plans != [draw(8, number, there) for number in range(2000)]
    assert {plan.variant for plan in plans} == set(there)
    assert {plan.source for plan in plans} == {OWN, ENDLESS, BYTES, WRITTEN}
    assert {len(plan.stages) for plan in plans} == {2, 3, 4}
    assert {plan.callers for plan in plans} == {1, 2, 3}
    links = [link for plan in plans for link in plan.links]
    assert {link.how for link in links} == {FILE, NUMBER, DUPLICATE, POPEN}
    assert {link.backward for link in links} == {False, True}
    orders: Set[Any] = {tuple(order_of_starts(plan)) for plan in plans if len(plan.stages) == 3}
    assert len(orders) == 6


def test_each_stage_is_started_after_those_that_it_is_given_the_streams_of() -> None:
    """Whatever is drawn."""
    for number in range(200):
        plan = draw(7, number, [SYNC, ASYNCIO])
        order = order_of_starts(plan)
        assert sorted(order) == list(range(len(plan.stages)))
        for index, link in enumerate(plan.links):
            assert (order.index(index) > order.index(index + 1)) is link.backward


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("number", range(40))
def test_a_pipeline_passes(number: int) -> None:
    """Right bytes, right exit codes, no hang, nothing left."""
    plan = draw(12, number, variants())
    assert worker.play(plan).problems == []


def test_a_byte_that_is_dropped_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that loses something does not pass."""
    real = Inbound.feed

    def feed(self: Inbound, data: bytes) -> None:
        real(self, data[1:])

    monkeypatch.setattr(Inbound, "feed", feed)
    problems = worker.play(draw(12, 1, [SYNC])).problems
    assert problems
    assert "bytes" in problems[0]


def test_a_leak_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that leaves something behind."""
    ends: List[int] = []

    async def leaky(_: Any) -> None:
        ends.extend(os.pipe())

    monkeypatch.setattr("stress.pipelines.round.Round.play", leaky)
    monkeypatch.setattr(worker, "PATIENCE", 0.0)
    problems = worker.play(make_plan(make_stage(), make_stage())).problems
    assert problems[0] == "left behind: descriptors +2"
    for end in ends:
        os.close(end)


def test_the_model_knows_what_comes_out() -> None:
    """Each stage flips bits of what it reads, up to its limit."""
    plan = make_plan(make_stage(key=255), make_stage(limit=9), make_stage(key=1))
    model = Model(plan)
    assert model.outputs[0][:9] == bytes([255] * 8 + [254])
    assert model.outputs[1] == model.outputs[0][:9]
    assert model.outputs[2] == bytes([254] * 8 + [255])
    assert model.problems_of_output(2, model.outputs[2]) == []
    assert model.problems_of_output(2, model.outputs[2][:-1]) == ["stdout of 2: 8 of 9 bytes"]
    model.terminated.add(0)
    assert model.problems_of_output(2, model.outputs[2][:-1]) == []
    assert model.problems_of_output(2, b"x") == ["stdout of 2: byte 0 of 1 differs"]


def test_the_model_knows_how_a_stage_may_end() -> None:
    """By itself, unless somebody behind it leaves, or it is terminated."""
    model = Model(make_plan(make_stage(code=3), make_stage()))
    stderr = model.stderr(0)
    assert model.problems_of_end(0, 3, stderr) == []
    assert model.problems_of_end(0, 3, stderr[1:])[0].startswith("stderr of 0")
    assert model.problems_of_end(0, -signal.SIGPIPE, stderr) == [
        "exit code of 0: -13, not one of [3]"
    ]
    model.dropped.add(1)
    assert model.problems_of_end(0, -signal.SIGPIPE, stderr[:5]) == []
    assert len(model.problems_of_end(0, -signal.SIGTERM, stderr)) == 1
    model.terminated.add(0)
    assert model.problems_of_end(0, -signal.SIGTERM, stderr) == []
    endless = Model(make_plan(make_stage(), make_stage(limit=5), source=ENDLESS))
    assert len(endless.problems_of_end(0, 0, endless.stderr(0))) == 1
    assert endless.problems_of_end(0, -signal.SIGPIPE, endless.stderr(0)) == []


def test_a_hang_is_noticed_and_the_next_round_is_played() -> None:
    """With what was played and done until then, and the stacks of the threads."""
    found: List[Found] = []
    watch(pipelines.WORKER, iter([1, 2]), seed=1, limit=0.001, workers=1, report=found.append)
    assert [one.round for one in found] == [1, 2]
    for number, one in enumerate(found, 1):
        (problem,) = one.problems
        assert problem.startswith(f"hung:\nround {number}: ")
        assert "most recent call first" in problem


def test_some_rounds_from_the_command_line() -> None:
    """They pass, and the exit code is 0."""
    before = census.take()
    assert main(["pipelines", "--seed", "1", "--rounds", "3"]) == 0
    assert census.settle(before) == []


def test_a_round_that_fails_is_in_the_exit_code() -> None:
    """One that is killed for taking too long, here."""
    assert main(["pipelines", "--seed", "1", "--rounds", "1", "--limit", "0.001"]) == 1
