"""The page: what there is to be shown, and the template that shows it."""

import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import jinja2

from stress.report import charts, figures

#: What the page shows, in this order; and the command for what is missing.
_COMMANDS = {
    "demonstration": "demo",
    "bench": "bench",
    "soak": "soak --minutes 20",
    "faults": "faults --rounds 1000",
    "explore": "explore",
}


class Tile(NamedTuple):
    """One answer on the first screen."""

    question: str
    #: The answer, as short as can be.
    figure: str
    text: str
    #: Whether it is a good one; unknown if the command has not been run.
    good: Optional[bool]
    #: Which part of the page has more.
    part: str


def render(results: Dict[str, Any]) -> str:
    """The page for what is in `results.json`; parts that are missing are named as such."""
    parts = {name: results[name]["data"] if name in results else None for name in _COMMANDS}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        seconds=figures.seconds,
        size=figures.size,
        growth=figures.growth,
        rise=figures.rise,
        many=figures.many,
        ratio=figures.ratio,
    )
    return environment.get_template("page.html").render(
        tiles=tiles(parts),
        commands=_COMMANDS,
        machines=sorted({_machine(part["machine"]) for part in results.values()}),
        bars=_bars(parts["bench"]),
        collectors=_collectors(parts["soak"]),
        **parts,
    )


def _machine(machine: Dict[str, str]) -> str:
    return f"{machine['python']}, {machine['system']}"


def tiles(parts: Dict[str, Any]) -> List[Tile]:
    """The answers on the first screen."""
    makers = {
        "demonstration": ("Does it hang?", _held),
        "bench": ("How fast is it?", _fast),
        "soak": ("Does it grow?", _flat),
        "faults": ("Does it survive?", _survived),
        "explore": ("Could it hang?", _searched),
    }
    found = []
    for part, (question, make) in makers.items():
        if parts[part] is None:
            command = f"python -m stress {_COMMANDS[part]} --report DIR"
            found.append(Tile(question, "not run", command, None, part))
        else:
            found.append(make(question, parts[part]))
    return found


def _held(question: str, data: Any) -> Tile:
    count = {True: 0, False: 0}
    for library in data["libraries"]:
        count[library["ours"]] += library["tally"].get("passed", 0)
    ours = sum(library["ours"] for library in data["libraries"])
    plays = ours * len(data["scenarios"])
    good = count[True] == plays
    others = (len(data["libraries"]) - ours) * len(data["scenarios"])
    return Tile(
        question,
        "No" if good else "Yes",
        f"{count[True]} of {plays} traps passed; standard library: {count[False]} of {others}",
        good,
        "demonstration",
    )


def _fast(question: str, data: Any) -> Tile:
    cases = [case for case in data["cases"] if case["ratio"] is not None]
    slow = [case["name"] for case in data["cases"] if case["too_slow"]]
    failed = [case["name"] for case in data["cases"] if case["error"]]
    if not cases:
        return Tile(question, "unknown", "no case has an opponent", False, "bench")
    middle = statistics.median(case["ratio"] for case in cases)
    text = f"the time of the standard library, in the middle of {len(cases)} cases; "
    if failed:
        text += f"failed: {', '.join(failed)}"
    else:
        text += f"slower than allowed: {', '.join(slow)}" if slow else "none slower than allowed"
    return Tile(question, figures.ratio(middle), text, not failed and not slow, "bench")


def _flat(question: str, data: Any) -> Tile:
    collectors = data["collectors"]
    good = not any(collector["verdict"]["problems"] for collector in collectors)
    slopes = [collector["verdict"]["slope"] for collector in collectors]
    known = [slope for slope in slopes if not math.isnan(slope)]
    lines = sum(_last(collector, "lines") for collector in collectors)
    amount = sum(_last(collector, "bytes") for collector in collectors)
    text = (
        f"{data['minutes']:g} minutes, {len(collectors)} collectors, {figures.many(lines)} lines"
        f" ({figures.size(amount)}) verified"
    )
    if known:
        text += f"; memory at most {figures.rise(max(known))}"
    return Tile(question, "No" if good else "Yes", text, good, "soak")


def _last(collector: Any, field: str) -> int:
    if not collector["samples"]:
        return 0
    value: int = collector["samples"][-1][collector["fields"].index(field)]
    return value


def _survived(question: str, data: Any) -> Tile:
    bad = len(data["problems"])
    strikes = sum(data["strikes"].values())
    text = (
        f"{figures.many(strikes)} faults in {data['rounds']:,} rounds:"
        f" {bad or 'none'} with a hang, a loss or a leak"
    )
    return Tile(question, "No" if bad else "Yes", text, not bad, "faults")


def _searched(question: str, data: Any) -> Tile:
    worlds = data["worlds"]
    states = sum(world["states"] for world in worlds)
    good = not any(world["violation"] for world in worlds)
    whole = sum(world["complete"] for world in worlds)
    text = (
        f"{figures.many(states)} states in {len(worlds)} worlds visited, {whole} of them completely"
    )
    return Tile(question, "No" if good else "Yes", text, good, "explore")


def _bars(bench: Any) -> List[charts.Bar]:
    cases = [] if bench is None else bench["cases"]
    return charts.bars([(case["ratio"], case["allowed"]) for case in cases])


def _collectors(soak: Any) -> List[Dict[str, Any]]:
    """Each collector with its last sample and the curves of what it had in memory and on disk."""
    found: List[Dict[str, Any]] = []
    for collector in [] if soak is None else soak["collectors"]:
        columns = dict(zip(collector["fields"], zip(*collector["samples"])))
        curves: Dict[str, charts.Curve] = {}
        for name, field in (("memory", "memory"), ("on disk", "overflow")):
            if any(columns.get(field, ())):
                curves[name] = charts.curve(columns["seconds"], columns[field])
        last = {field: column[-1] for field, column in columns.items()}
        found.append({**collector, "last": last, "curves": curves})
    return found
