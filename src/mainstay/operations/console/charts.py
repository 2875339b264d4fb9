"""Lines over time, as SVG that the server draws.

A chart is drawn in a square of 100 by 100 that the page stretches; what is read (scale, times, totals) stands around it
in HTML, so that it keeps its size. Nothing is drawn where nothing was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final

from mainstay.operations.activity import Span, Traffic
from mainstay.operations.console.rendering import length, number

_SIDE: Final = 100.0
_NICE: Final = (1.0, 2.0, 5.0, 10.0)
_WORDS: Final = {
    Span.QUARTER: ("15 min ago", "10 min", "5 min", "now"),
    Span.HOUR: ("60 min ago", "40 min", "20 min", "now"),
    Span.DAY: ("24 h ago", "16 h", "8 h", "now"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Args:
        name: What it shows.
        kind: Its color's class.
        path: How it is drawn.
        told: The figure beside its name.
    """

    name: str
    kind: str
    path: str
    told: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready to be put into a page.

    Args:
        title: What it shows.
        lines: Drawn in this order.
        scale: What stands at its top, its middle and its bottom.
        times: What stands below it, from left to right.
        columns: For each interval its place, its width, and what it says when pointed at.
    """

    title: str
    lines: list[Line]
    scale: tuple[str, str, str]
    times: tuple[str, ...]
    columns: list[tuple[float, float, str]]

    @property
    def summary(self) -> str:
        """What whoever does not see it is told."""
        return f"{self.title}: " + ", ".join(f"{each.name} {each.told}" for each in self.lines)


def charts(traffic: Traffic) -> list[Chart]:
    """How many commands moved, how long they waited, and how long they were handled."""
    intervals = traffic.intervals
    counts = (
        ("sent", "pending", [float(each.sent) for each in intervals]),
        ("completed", "completed", [float(each.completed) for each in intervals]),
        ("failed", "failed", [float(each.failed) for each in intervals]),
        ("to be tried again", "canceled", [float(each.retried) for each in intervals]),
    )
    step = length(traffic.step)
    return [
        _chart(traffic, f"Commands in {step}", counts, number, lambda values: number(sum(values))),
        _chart(
            traffic,
            "From sending to the first start",
            _percentiles([each.waits for each in intervals]),
            length,
            _newest,
        ),
        _chart(traffic, "Handling", _percentiles([each.handlings for each in intervals]), length, _newest),
    ]


_Series = Sequence[tuple[str, str, Sequence[float | None]]]


def _percentiles(found: Sequence[tuple[float, float, float] | None]) -> _Series:
    return [
        (name, kind, [None if each is None else each[place] for each in found])
        for place, (name, kind) in enumerate((("median", "p50"), ("95 %", "p95"), ("99 %", "p99")))
    ]


def _newest(values: Sequence[float]) -> str:
    return length(values[-1]) if values else "none"


def _chart(
    traffic: Traffic, title: str, series: _Series, says: Callable[[float], str], tells: Callable[[list[float]], str]
) -> Chart:
    intervals = traffic.missing + len(traffic.intervals)
    most = top(max((value for _, _, values in series for value in values if value is not None), default=0.0))
    wide = _SIDE / max(intervals, 1)

    def x(index: int) -> float:
        return round((traffic.missing + index + 0.5) * wide, 2)

    def drawn(values: Sequence[float | None]) -> str:
        heights = [None if value is None else round(_SIDE - _SIDE * value / most, 2) for value in values]
        return path([(x(index), height) for index, height in enumerate(heights)])

    lines = [
        Line(name, kind, drawn(values), tells([value for value in values if value is not None]))
        for name, kind, values in series
    ]
    columns = []
    for index in range(len(traffic.intervals)):
        ago = length((traffic.until - traffic.intervals[index].at).total_seconds())
        said = ", ".join(f"{name} {says(value)}" for name, _, values in series if (value := values[index]) is not None)
        columns.append((round(x(index) - wide / 2, 2), round(wide, 2), f"{ago} ago: {said or 'nothing'}"))
    middle = says(most / 2) if says(most / 2) != says(0.0) else ""  # of one command there is no half
    return Chart(title, lines, (says(most), middle, "0"), _WORDS[traffic.span], columns)


def top(most: float) -> float:
    """The top of a scale: a round number, not below the largest that is drawn."""
    if most <= 0:
        return 1.0
    size = 10.0 ** floor(log10(most))
    return next(nice * size for nice in _NICE if nice * size >= most * (1 - 1e-9))


def path(points: Sequence[tuple[float, float | None]]) -> str:
    """A line through points, broken where there is none; a point by itself is a dot."""
    drawn: list[str] = []
    begins = True
    for x, y in points:
        if y is not None:
            drawn.append(f"M{x:g} {y:g}h0" if begins else f"L{x:g} {y:g}")
        begins = y is None
    return "".join(drawn)
