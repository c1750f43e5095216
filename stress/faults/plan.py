"""The plan of a round, drawn from its seed: the same seed gives the same round."""

import random
from typing import Dict, NamedTuple, Sequence, Tuple

from stress.worker import SYNC

_BOTH = ("capture", "echo", "talk", "lines", "reads", "leave", "abort", "drop")
#: What the caller does, by whether the variant is the synchronous one; see `works`.
WORKS: Dict[bool, Tuple[str, ...]] = {
    True: (*_BOTH, "pipeline", "descriptor"),
    False: _BOTH,
}
#: What goes wrong meanwhile, likewise; see `interference`, `shortages` and `company`.
_BY_VARIANT: Dict[bool, Tuple[str, ...]] = {
    True: (
        "kill",
        "stop",
        "shut",
        "descriptors",
        "threads",
        "files",
        "storm",
        "interrupts",
        "forks",
        "collections",
        "onlookers",
    ),
    False: ("kill", "stop", "shut", "descriptors", "storm", "cancels", "forks", "collections"),
}
#: Those of the synchronous variant.
SYNC_FAULTS = _BY_VARIANT[True]
#: All of them.
FAULTS = tuple(dict.fromkeys((*_BY_VARIANT[True], *_BY_VARIANT[False])))

#: Faults that need the same timer.
_EITHER = {"storm", "interrupts"}


class Plan(NamedTuple):
    """One round."""

    seed: int
    number: int
    variant: str
    work: str
    faults: Tuple[str, ...]

    def random(self, purpose: str) -> random.Random:
        """Random numbers for one purpose, which no other purpose disturbs."""
        return random.Random(f"{self.seed}/{self.number}/{purpose}")

    def __str__(self) -> str:
        faults = " and ".join(self.faults)
        return f"round {self.number}: {self.variant}, {self.work}, with {faults}"


def draw(seed: int, number: int, variants: Sequence[str]) -> Plan:
    """The plan of round `number`.

    Args:
        seed: of the whole run.
        number: of the round.
        variants: those that there are to choose from.
    """
    chance = random.Random(f"{seed}/{number}")
    variant = chance.choice(variants)
    sync = variant == SYNC
    work = chance.choice(WORKS[sync])
    faults = chance.sample(_BY_VARIANT[sync], chance.choice((1, 1, 2, 3)))
    if set(faults) >= _EITHER:
        faults.remove("storm")
    return Plan(seed, number, variant, work, tuple(sorted(faults)))
