"""Positions in a chart, as parts of its width and height. Pure."""

from typing import List, NamedTuple, Optional, Sequence, Tuple

#: The widest bar stands for a ratio between these. What is greater is cut off: beside one bar of
#: a hundred all others would look alike.
_USUAL, _CUT = 1.5, 5.0


class Bar(NamedTuple):
    """A ratio, as a bar from 0. All in percent of the chart's width."""

    length: float
    #: Where both are equal.
    one: float
    #: Where the limit is, if there is one within the chart.
    allowed: Optional[float]


def bars(ratios: Sequence[Tuple[Optional[float], Optional[float]]]) -> List[Bar]:
    """Bars on a common scale, for pairs of a ratio and its limit."""
    widest = max([_USUAL, *(number for pair in ratios for number in pair if number is not None)])
    scale = 100 / (min(widest, _CUT) * 1.02)
    return [
        Bar(
            length=0.0 if ratio is None else min(100.0, ratio * scale),
            one=scale,
            allowed=None if allowed is None or allowed > _CUT else allowed * scale,
        )
        for ratio, allowed in ratios
    ]


class Curve(NamedTuple):
    """Numbers over time, as the points of an SVG polyline in a box of 100 by 100, from 0 on."""

    points: str
    #: The highest of the numbers, and the time at the right edge.
    highest: float
    last: float


#: How much higher than its highest number the box of a curve is.
_HEADROOM = 1.1
#: Points that a curve needs at most.
_POINTS = 400


def curve(xs: Sequence[float], ys: Sequence[float]) -> Curve:
    """A curve that shows the highest of its numbers, whatever is left out.

    Args:
        xs: increasing, from about 0 on.
        ys: as many, not all of them 0.
    """
    highest, last = max(ys), xs[-1]
    step = -(-len(xs) // _POINTS)
    places = []
    for begin in range(0, len(xs), step):
        x, y = xs[begin], max(ys[begin : begin + step])
        places.append(f"{100 * x / last:.2f},{100 - 100 * y / (_HEADROOM * highest):.2f}")
    return Curve(" ".join(places), highest, last)
