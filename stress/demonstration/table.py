"""The outcomes, scenario by scenario and library by library: collected, counted and drawn."""

from typing import Any, Dict, List, Optional

from rich.table import Table

from stress.demonstration.scenario import Library, Outcome, Play, Scenario

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.HUNG: "red",
    Outcome.LOST: "magenta",
    Outcome.ERROR: "yellow",
    Outcome.LEAKED: "cyan",
}


class Outcomes:
    """The outcome of each scenario with each library, as far as known."""

    def __init__(self, scenarios: Dict[str, Scenario]) -> None:
        self._scenarios = scenarios
        #: The plays that have ended; `None` for one that is running.
        self._plays: Dict[str, Dict[Library, Optional[Play]]] = {name: {} for name in scenarios}

    def begin(self, name: str, library: Library) -> None:
        """A play begins."""
        self._plays[name][library] = None

    def end(self, name: str, library: Library, play: Play) -> None:
        """A play has ended."""
        self._plays[name][library] = play

    def failures(self) -> List[str]:
        """Our failures, in words."""
        return [
            f"{name}, {library.title}: {play.outcome.value} ({play.detail})"
            for name, plays in self._plays.items()
            for library, play in plays.items()
            if play is not None and library.ours and play.outcome is not Outcome.PASSED
        ]

    def tally(self, library: Library) -> Dict[Outcome, int]:
        """How often `library` had each outcome."""
        plays = [plays.get(library) for plays in self._plays.values()]
        outcomes = [play.outcome for play in plays if play is not None]
        return {outcome: outcomes.count(outcome) for outcome in Outcome if outcome in outcomes}

    def table(self) -> Table:
        """All of it, to be printed."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column("scenario")
        for library in Library:
            table.add_column(library.title.replace(".", "\n."), no_wrap=True)
        for name, plays in self._plays.items():
            cells = [_cell(plays[library]) if library in plays else "" for library in Library]
            table.add_row(name, *cells)
        return table

    def as_json(self) -> Dict[str, Any]:
        """All of it, for the report; its shape is documented in `stress.report`."""
        return {
            "libraries": [
                {"name": library.title, "ours": library.ours, "tally": _named(self.tally(library))}
                for library in Library
            ],
            "scenarios": [
                {
                    "name": name,
                    "rule": self._scenarios[name].rule,
                    "trap": self._scenarios[name].trap,
                    "plays": [_play_as_json(plays[library]) for library in Library],
                }
                for name, plays in self._plays.items()
            ],
        }


def _named(tally: Dict[Outcome, int]) -> Dict[str, int]:
    return {outcome.value: count for outcome, count in tally.items()}


def _play_as_json(play: Optional[Play]) -> Dict[str, Any]:
    assert play is not None
    return {"outcome": play.outcome.value, "seconds": play.seconds, "detail": play.detail}


def _cell(play: Optional[Play]) -> str:
    if play is None:
        return "[dim]…[/]"
    at_least = ">" if play.outcome is Outcome.HUNG else ""
    style = _STYLES[play.outcome]
    return f"[{style}]{play.outcome.value}[/] [dim]{at_least}{play.seconds:.1f} s[/]"
