"""When a stream counts as finished, by the clock."""

from typing import Optional

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from process.core._ending import SILENCE, Ending


def test_the_timer_does_not_run_before_the_process_has_ended() -> None:
    """However long nothing comes from a running process, its streams are not finished."""
    ending = Ending()
    ending.arrived(0)
    assert not ending.eof
    assert ending.remaining(1000) is None


def test_silence_counts_from_the_end_of_the_process() -> None:
    """A stream on which nothing comes any more is finished a second after the process."""
    ending = Ending()
    ending.process_ended(10)
    assert ending.remaining(10) == SILENCE == 1
    assert ending.remaining(10 + SILENCE / 2) == SILENCE / 2
    assert ending.remaining(10 + SILENCE) == 0
    assert ending.remaining(1000) == 0


def test_every_chunk_arms_the_timer_anew() -> None:
    """What still arrives after the end puts the finish off by a second from then on."""
    ending = Ending()
    ending.process_ended(10)
    ending.arrived(10.75)
    assert ending.remaining(11) == SILENCE - 0.25


def test_what_arrived_before_the_end_does_not_shorten_the_silence() -> None:
    """Silence is never complete sooner than a second after the end."""
    ending = Ending()
    ending.arrived(3)
    ending.process_ended(10)
    assert ending.remaining(10) == SILENCE


def test_the_end_counts_once() -> None:
    """A second report of the end, by another thread, does not put the finish off."""
    ending = Ending()
    ending.process_ended(10)
    ending.process_ended(10.5)
    assert ending.remaining(10.5) == SILENCE / 2


def test_a_late_report_of_an_arrival_does_not_turn_the_clock_back() -> None:
    """Arrivals may be reported out of order; the latest counts."""
    ending = Ending()
    ending.process_ended(0)
    ending.arrived(5)
    ending.arrived(4)
    assert ending.remaining(5) == SILENCE


class EndingMachine(RuleBasedStateMachine):
    """An ending against the last moment of noise; the clock counts eighths of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = Ending()
        self.now = 0.0
        self.noise: Optional[float] = None
        self.over = False

    @rule(eighths=st.integers(0, 12))
    def wait(self, eighths: int) -> None:
        self.now += eighths / 8

    @rule()
    def arrives(self) -> None:
        self.ending.arrived(self.now)
        self.noise = self.now

    @rule()
    def ends(self) -> None:
        self.ending.process_ended(self.now)
        if not self.over:
            self.over = True
            self.noise = self.now

    @invariant()
    def remains(self) -> None:
        if not self.over:
            assert self.ending.remaining(self.now) is None
        else:
            assert self.noise is not None
            expected = max(0.0, self.noise + SILENCE - self.now)
            assert self.ending.remaining(self.now) == expected


TestEnding = EndingMachine.TestCase
TestEnding.settings = settings(max_examples=50, deadline=None, derandomize=True)
