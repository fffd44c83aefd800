"""Charts in one style: lines, points and bars with error bars, drawn as SVG inside the page.

Colours are the page's, light and dark; a series differs from the next by its mark and dash too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, cast

from triptych.errors import TriptychError
from triptych.report import axes
from triptych.report.axes import Axis
from triptych.report.blocks import Block, Details, captioned
from triptych.report.markup import Names, inline, plain
from triptych.report.numbers import Number, check_number
from triptych.report.pictures import check_alt
from triptych.report.tables import Table

WIDTH = 560
_LEFT, _END, _TOP, _FLOOR = 76, 548, 14, 272  # of the plot itself
_LETTER = 9.5  # a letter's width at most, at the largest type
_MOST = 6  # series: as many colours as a page has


@dataclass(frozen=True, eq=False)
class Series:
    """Points of one name: x against y.

    >>> Series("VAE", [1, 2, 3], [9.0, 8.5, 8.2], [0.1, 0.1, 0.1]).name
    'VAE'
    """

    name: str
    """In the legend."""
    x: Sequence[float] | Sequence[str]
    """Numbers; or names, which stand at equal distances, for bars."""
    y: Sequence[float]
    """One for each x; what is not finite is left out."""
    stderr: Sequence[float] | None = None
    """Standard errors of y, drawn as bars of one each way."""
    recorded: bool = False
    """Whether the figures were measured earlier, elsewhere."""

    def __post_init__(self) -> None:
        if not len(self.x) or len(self.x) != len(self.y) or (self.stderr is not None and len(self.stderr) != len(self.y)):
            errors = "" if self.stderr is None else f" and {len(self.stderr)} errors"
            raise TriptychError(f"{self.name}: expected a y for each x, got {len(self.x)} x, {len(self.y)} y{errors}")
        for value in (*self.y, *(self.stderr if self.stderr is not None else ())):
            check_number("a value of a chart", value)


@dataclass(frozen=True, eq=False)
class Chart(Block):
    """One or more series on common axes; the numbers stand in a table that is folded away below.

    >>> chart = Chart([Series("VAE", [1, 2, 3], [9.0, 8.5, 8.2])], "steps", "loss", "the loss falls")
    >>> chart.data()["series"][0]["y"]
    [9.0, 8.5, 8.2]
    """

    series: Sequence[Series]
    """Up to six."""
    x_label: str
    """What x is, with its unit."""
    y_label: str
    """What y is, with its unit."""
    alt: str
    """What the chart shows, in a sentence."""
    caption: str = ""
    """Below it, with markup."""
    kind: Literal["line", "scatter", "bar"] = "line"
    """How points are drawn; bars stand on zero, and on names."""
    x_log: bool = False
    """Whether x has a logarithmic scale."""
    y_log: bool = False
    """Whether y has one."""
    lines: tuple[tuple[str, float], ...] = ()
    """Names and heights of lines across, such as ("½", 0.5)."""

    def __post_init__(self) -> None:
        check_alt(self.alt)
        if not 1 <= len(self.series) <= _MOST:
            raise TriptychError(f"a chart shows 1 to {_MOST} series, got {len(self.series)}: make two charts of them")
        if self.kind == "bar" and self.y_log:
            raise TriptychError("bars stand on zero, which a logarithmic scale does not have: kind='scatter' shows points")

    @property
    def categories(self) -> list[str]:
        """The names along x, in order; [] where x are numbers."""
        return list(dict.fromkeys(str(x) for s in self.series for x in s.x)) if self._named else []

    @property
    def _named(self) -> bool:
        return self.kind == "bar" or any(isinstance(x, str) for s in self.series for x in s.x)

    def html(self, names: Names) -> str:
        """The drawing, its legend, and its numbers."""
        legend = "".join(
            f'<li class="s{i}"><svg viewBox="0 0 24 12" width="24" height="12" aria-hidden="true">{_key(self.kind, i)}</svg>'
            f"{inline(s.name)}{' <small class=tag>recorded</small>' if s.recorded else ''}</li>"
            for i, s in enumerate(self.series)
        )
        shown = f'<ul class="legend">{legend}</ul>' if len(self.series) > 1 or self.series[0].recorded else ""
        numbers = Details("the numbers", [self._table()]).html(names)
        return captioned(_drawing(self) + shown, self.caption, "chart").replace("</figure>", f"{numbers}</figure>")

    def data(self) -> dict[str, Any]:
        """All numbers that it shows."""
        series = [
            {"name": s.name, "x": [v if isinstance(v, str) else float(v) for v in s.x], "y": [float(v) for v in s.y]}
            | ({} if s.stderr is None else {"stderr": [float(v) for v in s.stderr]})
            | ({"recorded": True} if s.recorded else {})
            for s in self.series
        ]
        said = {"alt": self.alt, "caption": plain(self.caption), "x": self.x_label, "y": self.y_label}
        return {"kind": "chart", **said, "series": series}

    def _table(self) -> Table:
        rows = [row for s in self.series for row in _rows(s)]
        return Table(["series", *_apart(self.x_label, self.y_label)], rows)


def _rows(series: Series) -> list[list[str | Number]]:
    errors = series.stderr if series.stderr is not None else [math.nan] * len(series.y)
    return [
        [series.name, x if isinstance(x, str) else Number(x), Number(y, e)]
        for x, y, e in zip(cast("Sequence[str | float]", series.x), series.y, errors, strict=True)
    ]


def _apart(x: str, y: str) -> tuple[str, str]:
    return (x or "x", y or "y") if (x or "x") != (y or "y") else (f"{x} (x)", f"{y} (y)")


def _drawing(chart: Chart) -> str:
    x, y = _axes(chart)
    ticks, depth = _below(chart, x)
    across = "".join(
        f'<path class="across" d="M{_LEFT} {y.place(v):.1f}H{_END}"/>'
        f'<text class="tick" x="{_END - 4}" y="{y.place(v) - 5:.1f}" text-anchor="end">{escape(name)}</text>'
        for name, v in chart.lines
    )
    drawn = "".join(f'<g class="s{i}">{_series(chart, i, x, y)}</g>' for i in range(len(chart.series)))
    frame = f'<path class="axis" d="M{_LEFT} {_TOP}V{_FLOOR}H{_END}"/>'
    height = _FLOOR + depth + (26 if chart.x_label else 0)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(chart.alt)}">'
        f"{_beside(y)}{ticks}{frame}{across}{drawn}{_titles(chart, height)}</svg>"
    )


def _beside(y: Axis) -> str:
    """The lines across, with their numbers."""
    return "".join(
        f'<path class="grid" d="M{_LEFT} {y.place(t):.1f}H{_END}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y.place(t) + 4:.1f}" text-anchor="end">{axes.label(t)}</text>'
        for t in y.ticks()
    )


def _below(chart: Chart, x: Axis) -> tuple[str, float]:
    """What is written below the horizontal axis, aslant where names are long, and how much room it takes."""
    names = chart.categories
    places = [(x.place(i), name) for i, name in enumerate(names)] or [(x.place(t), axes.label(t)) for t in x.ticks()]
    longest = max(len(name) for _, name in places) * _LETTER
    marks = "".join(f'<path class="axis" d="M{at:.1f} {_FLOOR}v5"/>' for at, _ in places)
    if not names or longest < x.place(1) - x.place(0):
        texts = (
            f'<text class="tick" x="{at:.1f}" y="{_FLOOR + 21}" text-anchor="middle">{escape(name)}</text>'
            for at, name in places
        )
        return marks + "".join(texts), 30
    slanted = (
        f'<text class="tick" x="{at + 6:.1f}" y="{_FLOOR + 18}" text-anchor="end" '
        f'transform="rotate(-30 {at + 6:.1f} {_FLOOR + 18})">{escape(name)}</text>'
        for at, name in places
    )
    return marks + "".join(slanted), 24 + longest / 2


def _titles(chart: Chart, height: float) -> str:
    across, middle = (_LEFT + _END) / 2, (_FLOOR + _TOP) / 2
    below = f'<text class="title" x="{across:.0f}" y="{height - 8:.0f}" text-anchor="middle">{escape(chart.x_label)}</text>'
    beside = (
        f'<text class="title" x="15" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 15 {middle:.0f})">'
        f"{escape(chart.y_label)}</text>"
    )
    return below + beside


def _axes(chart: Chart) -> tuple[Axis, Axis]:
    heights = [v for s in chart.series for v in s.y] + [v for _, v in chart.lines]
    for s in chart.series:
        heights += [v + sign * e for v, e in zip(s.y, s.stderr or [], strict=False) if math.isfinite(e) for sign in (-1, 1)]
    y = Axis.of(heights, _FLOOR, _TOP, log=chart.y_log, zero=chart.kind == "bar")
    if chart.categories:
        return Axis(-0.5, len(chart.categories) - 0.5, _LEFT, _END), y
    return Axis.of([float(v) for s in chart.series for v in s.x], _LEFT, _END, log=chart.x_log), y


def _series(chart: Chart, index: int, x: Axis, y: Axis) -> str:
    s = chart.series[index]
    at = [float(chart.categories.index(str(v))) if chart.categories else float(v) for v in s.x]
    width = (x.place(1) - x.place(0)) * 0.76 / len(chart.series) if chart.kind == "bar" else 0.0
    shift = (index - (len(chart.series) - 1) / 2) * width
    errors = list(s.stderr) if s.stderr is not None else [math.nan] * len(at)
    points = [
        (x.place(a) + shift, v, e) for a, v, e in zip(at, s.y, errors, strict=True) if x.shows(a) and y.shows(v)
    ]  # fmt: skip
    bars = "".join(_error(px, v, e, y) for px, v, e in points if math.isfinite(e) and e > 0)
    if chart.kind == "bar":
        base = y.place(0)
        return "".join(_bar(px, width * 0.92, y.place(v), base) for px, v, _ in points) + bars
    marks = "".join(_mark(index, px, y.place(v)) for px, v, _ in points) if len(points) <= 40 else ""
    line = "M" + "L".join(f"{px:.1f} {y.place(v):.1f}" for px, v, _ in points) if points else ""
    return (f'<path class="line d{index}" d="{line}"/>' if chart.kind == "line" and line else "") + bars + marks


def _bar(x: float, width: float, top: float, base: float) -> str:
    return (
        f'<rect class="fill" x="{x - width / 2:.1f}" y="{min(top, base):.1f}" width="{width:.1f}" '
        f'height="{abs(base - top):.1f}"/>'
    )


def _error(x: float, value: float, stderr: float, y: Axis) -> str:
    low, high = value - stderr, value + stderr
    bottom = y.place(low) if y.shows(low) else y.start
    return f'<path class="bar-error" d="M{x - 4:.1f} {y.place(high):.1f}h8m-4 0V{bottom:.1f}m-4 0h8"/>'


def _mark(index: int, x: float, y: float) -> str:
    shapes = (
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
        "m-4-4h8v8h-8z",
        "m0-5l5 9h-10z",
        "m0-5l5 5l-5 5l-5-5z",
        "m0 5l5-9h-10z",
        "m-5-1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z",
    )
    return f'<path class="fill" d="M{x:.1f} {y:.1f}{shapes[index]}"/>'


def _key(kind: str, index: int) -> str:
    if kind == "bar":
        return '<rect class="fill" x="4" y="0" width="16" height="12"/>'
    return (f'<path class="line d{index}" d="M0 6H24"/>' if kind == "line" else "") + _mark(index, 12, 6)
