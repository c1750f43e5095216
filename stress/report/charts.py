"""Where things are in a chart, as parts of its width and height. Pure."""

from typing import List, NamedTuple, Optional, Sequence, Tuple

#: The widest bar stands for this ratio, unless there is a greater one.
_USUAL = 1.5


class Bar(NamedTuple):
    """A ratio, as a bar from 0. All in percent of the chart's width."""

    length: float
    #: Where both are equal.
    one: float
    #: Where what is allowed ends, if anything is said about that.
    allowed: Optional[float]


def bars(ratios: Sequence[Tuple[Optional[float], Optional[float]]]) -> List[Bar]:
    """Bars on a common scale, for pairs of a ratio and what it may be at most."""
    widest = max([_USUAL, *(number for pair in ratios for number in pair if number is not None)])
    scale = 100 / (widest * 1.02)
    return [
        Bar(
            length=0.0 if ratio is None else ratio * scale,
            one=scale,
            allowed=None if allowed is None else allowed * scale,
        )
        for ratio, allowed in ratios
    ]


class Curve(NamedTuple):
    """Numbers over time, as the points of an SVG polyline in a box of 100 by 100."""

    points: str
    #: What the bottom and the top of the box, and its right edge, stand for.
    lowest: float
    highest: float
    last: float


#: Points that a curve needs at most.
_POINTS = 400


def curve(xs: Sequence[float], ys: Sequence[float], lowest: float = 0.0) -> Curve:
    """A curve that shows the highest of its numbers, whatever is left out.

    Args:
        xs: increasing, from about 0 on.
        ys: as many.
        lowest: what the bottom stands for.
    """
    highest = max(*ys, lowest + 1e-9)
    last = xs[-1] or 1e-9
    step = -(-len(xs) // _POINTS)
    places = []
    for begin in range(0, len(xs), step):
        x, y = xs[begin], max(ys[begin : begin + step])
        places.append(f"{100 * x / last:.2f},{100 - 100 * (y - lowest) / (highest - lowest):.2f}")
    return Curve(" ".join(places), lowest, highest, last)
