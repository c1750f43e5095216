"""The page: its content, and the template."""

import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

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

    title: str
    #: The answer, as short as possible.
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
    answers = tiles(parts)
    return environment.get_template("page.html").render(
        summary=summary(answers),
        tiles=answers,
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
        "demonstration": ("Traps", _held),
        "bench": ("Speed", _fast),
        "soak": ("Memory", _flat),
        "faults": ("Faults", _survived),
        "explore": ("Search", _searched),
    }
    found = []
    for part, (title, make) in makers.items():
        if parts[part] is None:
            command = f"python -m stress {_COMMANDS[part]} --report DIR"
            found.append(Tile(title, "not run", command, None, part))
        else:
            found.append(Tile(title, *make(parts[part]), part))
    return found


def summary(answers: List[Tile]) -> str:
    """In a sentence, whether it has passed, and how fast it is."""
    holding = [tile for tile in answers if tile.part != "bench" and tile.good is not None]
    speed = next(tile for tile in answers if tile.part == "bench")
    broken = [tile.title.lower() for tile in holding if not tile.good]
    if not holding:
        sentence = "Not tested"
    else:
        sentence = f"Failed: {', '.join(broken)}" if broken else "All passed"
    if speed.good is None:
        return f"{sentence}. The speed has not been measured."
    return f"{sentence}. It takes {speed.figure} the time of the standard library."


#: Figure and text of a tile, and whether it is good.
_Answer = Tuple[str, str, bool]


def _held(data: Any) -> _Answer:
    count = {True: 0, False: 0}
    for library in data["libraries"]:
        count[library["ours"]] += library["tally"].get("passed", 0)
    ours = sum(library["ours"] for library in data["libraries"])
    plays = ours * len(data["scenarios"])
    others = (len(data["libraries"]) - ours) * len(data["scenarios"])
    text = f"traps passed. The standard library: {count[False]} of {others}"
    return f"{count[True]} of {plays}", text, count[True] == plays


def _fast(data: Any) -> _Answer:
    ratios = [case["ratio"] for case in data["cases"] if case["ratio"] is not None]
    slow = [case["name"] for case in data["cases"] if case["too_slow"]]
    failed = [case["name"] for case in data["cases"] if case["error"]]
    if not ratios:
        return "unknown", "no case can be compared", False
    text = f"the time of the standard library, the median of {len(ratios)} cases. "
    if failed:
        text += f"Failed: {', '.join(failed)}"
    elif slow:
        text += f"Slower than allowed: {', '.join(slow)}"
    else:
        text += "None is slower than allowed"
    return figures.ratio(statistics.median(ratios)), text, not failed and not slow


def _flat(data: Any) -> _Answer:
    collectors = data["collectors"]
    verdicts = [collector["verdict"] for collector in collectors]
    lines = sum(_last(collector, "lines") for collector in collectors)
    amount = sum(_last(collector, "bytes") for collector in collectors)
    text = (
        f"at most, in {len(collectors)} collectors over {data['minutes']:g} minutes;"
        f" {figures.many(lines)} lines ({figures.size(amount)}) verified"
    )
    hourly = [verdict["slope"] for verdict in verdicts if not math.isnan(verdict["slope"])]
    if hourly:
        figure = figures.rise(max(hourly))
    else:
        figure = figures.growth(max((verdict["growth"] for verdict in verdicts), default=0.0))
    return figure, text, not any(verdict["problems"] for verdict in verdicts)


def _last(collector: Any, field: str) -> int:
    if not collector["samples"]:
        return 0
    value: int = collector["samples"][-1][collector["fields"].index(field)]
    return value


def _survived(data: Any) -> _Answer:
    bad = len(data["problems"])
    strikes = figures.many(sum(data["strikes"].values()))
    text = f"with a hang, a loss or a leak, under {strikes} faults"
    return f"{bad} of {data['rounds']:,} rounds", text, not bad


def _searched(data: Any) -> _Answer:
    worlds = data["worlds"]
    violated = sum(world["violation"] is not None for world in worlds)
    whole = sum(world["complete"] for world in worlds)
    text = f"visited in {len(worlds)} worlds, {whole} of them to the end; {violated} violated"
    return f"{figures.many(sum(world['states'] for world in worlds))} states", text, not violated


def _bars(bench: Any) -> List[charts.Bar]:
    cases = [] if bench is None else bench["cases"]
    return charts.bars([(case["ratio"], case["allowed"]) for case in cases])


def _collectors(soak: Any) -> List[Dict[str, Any]]:
    """Each collector with its last sample and the curves of its memory and disk space."""
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
