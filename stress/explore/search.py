"""The search through all states of a world, breadth first."""

from array import array
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Dict, List, Optional, Tuple

from stress.explore.steps import Steps
from stress.explore.world import BrokenError, Result, Violation, World, name_of

if TYPE_CHECKING:
    from stress.explore.state import State


def explore(
    world: World,
    limit: Optional[int] = None,
    progress: Optional[Callable[[int, int], None]] = None,
) -> Result:
    """Visit every state of `world`, breadth first.

    Args:
        world: the objects, and the calls that may be made.
        limit: give up after this many states.
        progress: called at intervals with the numbers of states known and still to be visited.

    Returns:
        What was found; the search ends with the first violation.
    """
    search = Steps(world)
    numbers: Dict[State, int] = {search.start: 0}
    queue: Deque[State] = deque([search.start])
    origins: List[Tuple[int, str]] = [(-1, "")]
    #: Where a move leads from, and to.
    moves = array("l"), array("l")
    #: For each visited state, whether a caller waits there.
    waits = bytearray()
    steps = 0

    def result(violation: Optional[Violation] = None, complete: bool = False) -> Result:
        return Result(len(numbers), steps, complete, violation)

    def violation(kind: str, text: str, number: int, *trace: str) -> Result:
        labels = list(trace)
        while number > 0:
            number, label = origins[number]
            labels.append(label)
        return result(Violation(kind, text, tuple(reversed(labels))))

    while queue:
        state = queue.popleft()
        number = len(waits)
        stays = True
        search.label = ""
        try:
            search.check(state)
            for label, counts, after in search.steps(state):
                steps += 1
                if after == state:
                    continue
                if after not in numbers:
                    numbers[after] = len(origins)
                    origins.append((number, label))
                    queue.append(after)
                if counts:
                    stays = False
                    moves[0].append(number)
                    moves[1].append(numbers[after])
        except BrokenError as error:
            return violation(error.kind, error.text, number, *filter(None, [search.label]))
        call = search.waits(state)
        waits.append(call is not None)
        if call is not None and stays:
            return violation("stuck", f"{name_of(call)} waits, and nothing can move", number)
        if limit is not None and len(numbers) >= limit:
            return result()
        if progress is not None and not number % 20000:
            progress(len(numbers), len(queue))
    for number in _trapped(waits, *moves):
        return violation("stuck", "a caller waits, and no move leads out", number)
    return result(complete=True)


def _trapped(waits: bytearray, sources: "array[int]", targets: "array[int]") -> List[int]:
    """The states from which moves may lead for ever through states in which a caller waits."""
    trapped = bytearray(waits)
    before: Dict[int, List[int]] = {}
    for source, target in zip(sources, targets):
        if waits[source]:
            before.setdefault(target, []).append(source)
    free = [number for number, waiting in enumerate(waits) if not waiting]
    while free:
        for number in before.get(free.pop(), ()):
            if trapped[number]:
                trapped[number] = False
                free.append(number)
    return [number for number, is_trapped in enumerate(trapped) if is_trapped]
