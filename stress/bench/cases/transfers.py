"""What one child writes for another, or for a caller that reads its descriptors."""

import operator
import os
import selectors
import subprocess
from subprocess import PIPE
from typing import IO, Callable, List, Optional, Tuple, Union

from process import Process
from stress.bench.case import MIB, Case
from stress.bench.payload import zeros

_COUNT = ["wc", "-c"]
_PIECE = 65536

#: Each stream of a child, and how much came from it.
_Totals = Tuple[int, int]


def _pipeline(size: int, links: int) -> int:
    """Zeros through `links` processes of ours; the last counts them."""
    with Process(zeros(size), stderr=None) as first:
        if links == 2:
            return _counted(first)
        with Process(["cat"], stdin=first.stdout, stderr=None) as second:
            return _counted(second)


def _counted(source: Process) -> int:
    with Process(_COUNT, stdin=source.stdout, stderr=None) as last:
        return int(last.output())


def _two(size: int) -> int:
    return _pipeline(size, 2)


def _three(size: int) -> int:
    return _pipeline(size, 3)


def _popen(arguments: List[str], source: Optional[IO[bytes]] = None) -> "subprocess.Popen[bytes]":
    """A `Popen` that reads what another process writes."""
    process = subprocess.Popen(arguments, stdin=source, stdout=PIPE)
    if source is not None:
        source.close()
    return process


def _their_two(size: int) -> int:
    with _popen(zeros(size)) as first, _popen(_COUNT, first.stdout) as last:
        return int(last.communicate()[0])


def _their_three(size: int) -> int:
    with (
        _popen(zeros(size)) as first,
        _popen(["cat"], first.stdout) as second,
        _popen(_COUNT, second.stdout) as last,
    ):
        return int(last.communicate()[0])


def _to_popen(size: int) -> int:
    with Process(zeros(size), stderr=None) as first, _popen(_COUNT, first.stdout) as last:
        return int(last.communicate()[0])


def _both(size: int) -> List[str]:
    """A child that writes `size` zeros to each of its outputs, both at the same time."""
    zeros = f"head -c {size} /dev/zero"
    return ["sh", "-c", f"{zeros} & {zeros} >&2; wait"]


def _select(child: "Union[Process, subprocess.Popen[bytes]]") -> _Totals:
    totals = {"stdout": 0, "stderr": 0}
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, "stdout")  # type: ignore[arg-type]
        selector.register(child.stderr, selectors.EVENT_READ, "stderr")  # type: ignore[arg-type]
        while selector.get_map():
            for key, _ in selector.select():
                size = len(os.read(key.fd, _PIECE))
                totals[key.data] += size
                if not size:
                    selector.unregister(key.fileobj)
    return totals["stdout"], totals["stderr"]


def _ours_selected(size: int) -> _Totals:
    with Process(_both(size)) as child:
        return _select(child)


def _theirs_selected(size: int) -> _Totals:
    with subprocess.Popen(_both(size), stdout=PIPE, stderr=PIPE) as child:
        return _select(child)


def _selected_all(size: int, totals: _Totals) -> bool:
    return totals == (size, size)


def _counted_by_wc(
    name: str,
    job: str,
    ours: Callable[[int], int],
    theirs: Callable[[int], int],
    allowed: float,
) -> Case[int, int]:
    return Case(
        name=name,
        module=__name__,
        job=job,
        amounts=(256 * MIB,),
        prepare=int,
        ours=ours,
        theirs=theirs,
        against="the same with Popen",
        intact=operator.eq,
        allowed=allowed,
        group="transfers",
        pinned=True,
        limit=30.0,
    )


CASES = (
    _counted_by_wc("pipeline-2", "head | wc", _two, _their_two, 1.15),
    _counted_by_wc("pipeline-3", "head | cat | wc", _three, _their_three, 1.15),
    _counted_by_wc("to-popen", "Popen(stdin=process.stdout)", _to_popen, _their_two, 1.5),
    Case(
        name="selectors",
        module=__name__,
        job="stdout and stderr by selectors and os.read(65536)",
        amounts=(64 * MIB,),
        prepare=int,
        ours=_ours_selected,
        theirs=_theirs_selected,
        against="the same with Popen",
        intact=_selected_all,
        allowed=1.5,
        group="transfers",
        pinned=True,
        limit=30.0,
    ),
)
