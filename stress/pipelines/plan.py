"""The plan of a pipeline, drawn from its seed: the same seed gives the same pipeline."""

import math
import random
from typing import List, NamedTuple, Optional, Sequence, Tuple

from stress.worker import SYNC

#: More than is kept in memory.
_MOST = 5 * 1024 * 1024

#: What is moved without anybody waiting for it: less than a bound, and than a pipe holds.
_FEW = 60_000

#: How a stage can be told where its stdin comes from, or where its stdout goes: by the stream, by
#: its number, by a duplicate of that, or as the stream given to a `subprocess.Popen`.
FILE, NUMBER, DUPLICATE, POPEN = "file", "number", "duplicate", "popen"

#: Where the input of the first stage comes from: from itself, without end, or from the caller.
OWN, ENDLESS, BYTES, WRITTEN = "own", "endless", "bytes", "written"


class Stage(NamedTuple):
    """One process."""

    is_async: bool
    key: int
    #: How many bytes of its input it reads; `None`: all.
    limit: Optional[int]
    stderr: int
    when: str
    code: int
    buffer_size: Optional[int]


class Link(NamedTuple):
    """What connects a stage with the next one."""

    how: str
    #: The next one is started first, and this one is given its stdin.
    backward: bool
    #: How many bytes the caller reads before the next one is started, or writes before this one is.
    own: int
    #: The descriptor is asked for before it is handed over.
    exposed: bool
    #: The caller closes its stream as soon as it is handed over.
    closed: bool


class Plan(NamedTuple):
    """One pipeline."""

    seed: int
    number: int
    variant: str
    source: str
    size: int
    stages: Tuple[Stage, ...]
    links: Tuple[Link, ...]
    #: How many callers share the stages.
    callers: int
    #: How many bytes the caller reads before it closes the last stream; `None`: all.
    leaves_after: Optional[int]

    def random(self, purpose: object) -> random.Random:
        """Random numbers for one purpose, which no other purpose disturbs."""
        return random.Random(f"{self.seed}/{self.number}/{purpose}")

    def __str__(self) -> str:
        parts = [f"round {self.number}: {self.callers} callers, {self.source} {self.size:,}"]
        for index, stage in enumerate(self.stages):
            kind = self.variant if stage.is_async else SYNC
            limit = "" if stage.limit is None else f" leaves after {stage.limit:,}"
            parts.append(f"{kind}{limit} (stderr {stage.stderr:,} {stage.when})")
            if index < len(self.links):
                how, backward, own, exposed, closed = self.links[index]
                asked, at_once = " exposed" * exposed, " closed" * closed
                parts.append(f"{'<-' if backward else '->'} {how}{asked}{at_once} own {own:,}")
        if self.leaves_after is not None:
            parts.append(f"the caller leaves after {self.leaves_after:,}")
        return ", ".join(parts)


def draw(seed: int, number: int, variants: Sequence[str]) -> Plan:
    """The plan of round `number`.

    Args:
        seed: of the whole run.
        number: of the round.
        variants: those that there are to choose from.
    """
    chance = random.Random(f"{seed}/{number}")
    variant = chance.choice(variants)
    count = chance.choice((2, 2, 3, 4))
    is_async = [variant != SYNC and chance.random() < 0.5 for _ in range(count)]
    for index in range(count - 1):
        # The streams of an asyncio process have no descriptor, so only the stdin of a synchronous
        # one can be given to it, or taken from it.
        is_async[index + 1] = is_async[index + 1] and not is_async[index]
    links = [_draw_link(chance, is_async[index], is_async[index + 1]) for index in range(count - 1)]
    if not is_async[-1] and not links[-1].backward and chance.random() < 0.15:
        links[-1] = links[-1]._replace(how=POPEN)
    source = chance.choice((OWN, OWN, OWN, ENDLESS, BYTES, WRITTEN))
    leaver = chance.choice((None, None, None, *range(1, count)))
    leaves_after = None
    if leaver is None and (source == ENDLESS or chance.random() < 0.15):
        leaves_after = _size(chance, _FEW)
        if links[-1].how == POPEN or is_async[-1]:
            leaver, leaves_after = count - 1, None
    # The library does not know that processes are connected by a number: while the caller waits
    # for one of them, the others have their bounds.
    known = not [link for link in links if link.how != FILE]
    most = _MOST if known or not [link for link in links if link.backward] else _FEW
    size = _size(chance, most)
    if not known and source == ENDLESS and [link for link in links if link.backward]:
        source = OWN
    if source == ENDLESS:
        # A caller that has the number of a pipe keeps a reader of it until it closes the stream.
        links = [link._replace(closed=True) for link in links]
    stages = [
        Stage(
            is_async=is_async[index],
            key=chance.randrange(256),
            limit=1 + _size(chance, _FEW if source == ENDLESS else most)
            if index == leaver
            else None,
            stderr=chance.choice((0, _size(chance, _MOST if known else _FEW))),
            when=chance.choice(("before", "while", "after")),
            code=chance.choice((0, 0, 3)),
            buffer_size=chance.choice((None, None, 0, 1000)),
        )
        for index in range(count)
    ]
    if leaver is not None or leaves_after is not None:
        # A stage that has left already cannot be written to.
        links = [link._replace(own=0) if link.backward else link for link in links]
    callers = chance.choice((1, 1, 2, 3))
    return Plan(
        seed,
        number,
        variant,
        source,
        size,
        tuple(stages),
        tuple(links),
        callers,
        leaves_after,
    )


def _draw_link(chance: random.Random, is_async: bool, next_is_async: bool) -> Link:
    backward = is_async or (not next_is_async and chance.random() < 0.3)
    own = chance.choice((0, 0, 1, 1000))
    how = chance.choice((FILE, FILE, FILE, FILE, NUMBER, DUPLICATE))
    return Link(how, backward, own, chance.random() < 0.2, chance.random() < 0.5)


def _size(chance: random.Random, most: int) -> int:
    """From nothing to `most`; every order of magnitude as likely."""
    return int(math.exp(chance.uniform(0, math.log(most)))) - 1


def order_of_starts(plan: Plan) -> List[int]:
    """In which order the stages are started: one of those that the links leave."""
    chance = plan.random("starts")
    left = list(range(len(plan.stages)))
    order: List[int] = []
    while left:
        ready = [
            index
            for index in left
            if not (index > 0 and not plan.links[index - 1].backward and index - 1 in left)
            and not (index + 1 in left and plan.links[index].backward)
        ]
        order.append(chance.choice(ready))
        left.remove(order[-1])
    return order
