"""The results of the measurements, as tables for people."""

from typing import Optional, Sequence

from rich.table import Table
from rich.text import Text

from stress.bench.case import GIB
from stress.bench.summary import Outcome


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row for each outcome; values above their limit are marked, in words and in red."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    result.add_column("case", no_wrap=True)
    result.add_column("amount", justify="right", no_wrap=True)
    result.add_column("against", overflow="fold")
    for header in ("ours", "theirs", "ratio", "allowed", "processor", "peak memory", "limit"):
        result.add_column(header, justify="right")
    for outcome in outcomes:
        case = outcome.case
        if outcome.error or outcome.left_out:
            word = Text(outcome.error, "red") if outcome.error else Text(outcome.left_out, "yellow")
            result.add_row(case.name, amount(outcome), word)
            continue
        sign = "+" if case.growth is not None else ""
        result.add_row(
            case.name,
            amount(outcome),
            case.against or _rate(outcome),
            seconds(outcome.our_times and outcome.our_times.seconds),
            seconds(outcome.their_times and outcome.their_times.seconds),
            _marked("" if outcome.ratio is None else f"{outcome.ratio:.2f}", outcome.too_slow),
            "" if case.allowed is None else f"{case.allowed:.2f}",
            _processor(outcome),
            _marked(sign + size(outcome.memory), outcome.too_large),
            "" if outcome.memory_limit is None else sign + size(outcome.memory_limit),
        )
    return result


def verdict(outcomes: Sequence[Outcome]) -> str:
    """In one sentence, how many are above their limits."""
    compared = [
        outcome for outcome in outcomes if outcome.ratio is not None and outcome.case.allowed
    ]
    limited = [outcome for outcome in outcomes if outcome.ours and outcome.memory_limit is not None]
    return (
        f"Above what is allowed: {sum(outcome.too_slow for outcome in compared)} of {len(compared)}"
        f" ratios, {sum(outcome.too_large for outcome in limited)} of {len(limited)} memory limits."
    )


def amount(outcome: Outcome) -> str:
    """How much was measured."""
    if outcome.case.unit == "bytes":
        return size(outcome.amount)
    return f"{outcome.amount} {outcome.case.unit}"


def size(number: Optional[int]) -> str:
    """A number of bytes."""
    if number is None:
        return ""
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.2f}".rstrip("0").rstrip(".") + f" {unit}"


def seconds(number: Optional[float]) -> str:
    """A duration."""
    if number is None:
        return ""
    for unit in ("s", "ms", "µs"):
        if number >= 1:
            return f"{number:.2f} {unit}" if unit == "s" else f"{number:.1f} {unit}"
        number *= 1000
    return f"{number:.1f} ns"


def _processor(outcome: Outcome) -> str:
    """The ratio of processor times; the time itself where there is nothing to compare with."""
    if outcome.processor_ratio is not None:
        return f"{outcome.processor_ratio:.2f}"
    return seconds(outcome.our_times and outcome.our_times.processor)


def _rate(outcome: Outcome) -> str:
    rate = outcome.seconds_per_byte
    return "" if rate is None else f"{seconds(rate * GIB)} for each GiB"


def _marked(text: str, above: bool) -> Text:
    return Text(f"{text} ABOVE", "bold red") if above else Text(text)
