"""Counts over many rounds."""

from collections import Counter
from typing import Any, Dict, List
from typing import Counter as CounterType

from stress.faults.plan import FAULTS
from stress.watch import Found


class Tally:
    """Rounds, counted."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.rounds: CounterType[str] = Counter()
        self._strikes: CounterType[str] = Counter()
        self._seconds = 0.0
        self.bad: List[Found] = []

    def add(self, found: Found) -> None:
        """One more round is over."""
        self.rounds[found.variant] += 1
        self._strikes.update(found.strikes)
        self._seconds += found.seconds
        if found.problems:
            self.bad.append(found)

    @property
    def strikes(self) -> Dict[str, int]:
        """How often each fault has struck, including those that have not."""
        return {name: self._strikes[name] for name in FAULTS}

    def replay(self, found: Found) -> str:
        """The command that plays a round again."""
        return f"python -m stress faults --seed {self._seed} --replay {found.round}"

    def as_json(self) -> Dict[str, Any]:
        """All of it, for the report; its shape is documented in `stress.report`."""
        return {
            "seed": self._seed,
            "rounds": sum(self.rounds.values()),
            "variants": {name: count for name, count in self.rounds.items() if name},
            "seconds": self._seconds,
            "strikes": self.strikes,
            "problems": [
                {
                    "round": found.round,
                    "plan": found.plan,
                    "text": "\n".join(found.problems),
                    "replay": self.replay(found),
                }
                for found in self.bad
            ],
        }
