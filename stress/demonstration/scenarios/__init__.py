"""The scenarios, by what they are about."""

from typing import Dict, Sequence, Type

from stress.demonstration.scenario import Scenario
from stress.demonstration.scenarios import endings, floods, interruptions, streams

_KINDS: Sequence[Type[Scenario]] = (
    *floods.SCENARIOS,
    *endings.SCENARIOS,
    *streams.SCENARIOS,
    *interruptions.SCENARIOS,
)

#: All of them, by name, in the order in which they are shown.
SCENARIOS: Dict[str, Scenario] = {kind.name: kind() for kind in _KINDS}
