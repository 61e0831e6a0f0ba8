"""Charts as SVG: accuracy curves with their bands, and boxes of quantiles.

The same text stands in the page, where it takes the page's colours (dark mode too), and, through `standalone`, in a
file of its own for a paper. Nothing is drawn by a library: a page's worth of charts takes a few milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

COLOURS = 8
WIDTH = 460.0
_TEMPLATES = Path(__file__).parent / "templates"
_LEFT, _RIGHT, _TOP, _PLOT = 46.0, 16.0, 44.0, 220.0
_CHAR = 6.6  # mean width of a character at 12 px, a little generous
_KEY = 46.0  # of a legend's sample line and its gap
_DASHES, _SHAPES = 5, 7
_MOST_POINTS = 160


class Point(NamedTuple):
    """Of a curve: place, share and its interval, and what a pointer resting on it is told."""

    x: float
    y: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class Series:
    """A named curve.

    Attributes:
        name: in the legend.
        points: from left to right.
        steps: it holds its value up to the next point.
        band: show the intervals.
        strong: the one that matters most: in ink, below the others.
        dots: mark the points.
    """

    name: str
    points: tuple[Point, ...]
    steps: bool = False
    band: bool = True
    strong: bool = False
    dots: bool = True


@dataclass(frozen=True)
class Box:
    """Five quantiles of a distribution, drawn in the colour number `colour`."""

    name: str
    quantiles: tuple[float, float, float, float, float]
    colour: int
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """An axis: its name, where it ends, and where it is labelled; of the horizontal one the vertical one's name too."""

    name: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    mark: tuple[float, str] | None = None
    height: str = ""


def number(value: float) -> str:
    """A number in as few characters as three significant digits take."""
    return f"{value:.3g}"


def nice_ticks(low: float, high: float, count: int = 5) -> tuple[tuple[float, str], ...]:
    """Round numbers from `low` to `high`, about `count` of them, with their texts.

    >>> [text for _, text in nice_ticks(0.0, 0.32)]
    ['0', '0.1', '0.2', '0.3']
    """
    if not high > low:
        return ((low, number(low)),)
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1.0, 2.0, 5.0, 10.0) if m * size >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple((i * step, f"{i * step:.6g}") for i in range(first, last + 1))


def log_ticks(low: float, high: float, base: int, most: int = 7) -> tuple[tuple[float, str], ...]:
    """Round numbers whose logarithms lie from `low` to `high`, no more than `most`: those logarithms, with their texts.

    >>> [text for _, text in log_ticks(0.0, 3.5, 10)]
    ['1', '10', '100', '1000']
    >>> [text for _, text in log_ticks(-1.2, 3.1, 2)]
    ['0.5', '1', '2', '5']
    """
    decades = range(math.floor(low * math.log10(base)), math.ceil(high * math.log10(base)) + 1)
    for firsts in ((1,), (1, 2, 5)):
        numbers = [first * 10.0**k for k in decades for first in firsts]
        found = [(math.log(n, base), f"{n:.6g}") for n in numbers if low - 1e-9 <= math.log(n, base) <= high + 1e-9]
        if len(found) > 2:
            return tuple(found[:: math.ceil(len(found) / most)])
    return tuple((math.log(n, base), text) for n, text in nice_ticks(base**low, base**high) if n > 0)


def spaced(ticks: Sequence[tuple[float, str]], low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Those ticks whose labels do not run into one another, the last one first of all."""
    scale = (WIDTH - _LEFT - _RIGHT) / (high - low)
    kept: list[tuple[float, str]] = []
    for value, text in sorted(ticks, reverse=True):
        if all((v - value) * scale > (len(t) + len(text)) * _CHAR / 2 + 8 for v, t in kept):
            kept.append((value, text))
    return tuple(sorted(kept))


def shorten(text: str, characters: int) -> str:
    """The text, with its middle left out where it is too long."""
    keep = (characters - 3) // 2
    return text if len(text) <= characters else f"{text[: characters - 3 - keep]}...{text[-keep:]}"


def _thin(points: Sequence[Point]) -> list[Point]:
    if len(points) <= _MOST_POINTS:
        return list(points)
    stride = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(i * stride)] for i in range(_MOST_POINTS)]


def _corners(points: Sequence[tuple[float, float]], steps: bool) -> list[tuple[float, float]]:
    if not steps:
        return list(points)
    result = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        result += [(x, before), (x, y)]
    return result


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _dot(shape: int, x: float, y: float) -> str:
    r = 3.6
    if shape in (0, 4):
        return f'<circle class="dot{" open" if shape else ""}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    square, diamond = ((-r, -r), (r, -r), (r, r), (-r, r)), ((0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0))
    up, down = ((0, -r - 1), (r + 1, r), (-r - 1, r)), ((0, r + 1), (r + 1, -r), (-r - 1, -r))
    corners = {1: square, 2: up, 3: diamond, 5: square, 6: down}[shape]
    look = "dot open" if shape > 4 else "dot"
    return f'<polygon class="{look}" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def _style(index: int, one: Series) -> str:
    """Colours, dashes and marks repeat after 8, 5 and 7; the first lines are wider, to be seen below others."""
    dashes = "strong" if one.strong else f"d{index % _DASHES} w{min(index, 3)}"
    return f"s{index % COLOURS} {dashes}"


def _svg(height: float, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def _bottom(axis: Axis, top: float, base: float) -> list[str]:
    """Grid lines, labels and name of the horizontal axis, between the heights `top` and `base`."""
    scale = (WIDTH - _LEFT - _RIGHT) / (axis.high - axis.low)
    body = []
    for value, text in spaced(axis.ticks, axis.low, axis.high):
        x = _LEFT + (value - axis.low) * scale
        half = len(text) * _CHAR / 2
        middle = min(max(x, half), WIDTH - half)  # a label at the edge stays inside
        body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{base + 4:.1f}"/>')
        body.append(f'<text x="{middle:.1f}" y="{base + 18:.1f}" text-anchor="middle">{escape(text)}</text>')
    body.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>')
    body.append(
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2:.1f}" y="{base + 36:.1f}" text-anchor="middle">'
        f"{escape(axis.name)}</text>"
    )
    return body


def _legend(series: Sequence[Series], y: float) -> tuple[list[str], float]:
    """The legend in rows from height `y` on, and where it ends."""
    body, x = [], _LEFT - 30
    for index, one in enumerate(series):
        shown = shorten(one.name, 58)
        width = _KEY + len(shown) * _CHAR + 16
        if x > _LEFT - 30 and x + width > WIDTH:
            x, y = _LEFT - 30, y + 20
        body.append(
            f'<g class="key k{index % COLOURS} {_style(index, one)}"><title>{escape(one.name)}</title>'
            f'<path class="line" d="M{x:.1f} {y - 4:.1f}H{x + 40:.1f}"/>'
            f"{_dot(index % _SHAPES, x + 20, y - 4) if one.dots and not one.steps else ''}"
            f'<text class="ink" x="{x + _KEY:.1f}" y="{y:.1f}">{escape(shown)}</text></g>'
        )
        x += width
    return body, y + 10


SHARES = Axis("", 0.0, 1.0, tuple((share, f"{share:.0%}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)))
"""The vertical axis of shares."""


def curves(label: str, series: Sequence[Series], axis: Axis, up: Axis = SHARES) -> str:
    """Values, shares (0..100%) unless `up` says otherwise, against the axis, each with its band; the legend below."""
    scale, base = (WIDTH - _LEFT - _RIGHT) / (axis.high - axis.low), _TOP + _PLOT
    rise = _PLOT / (up.high - up.low)
    body = [f'<text x="0" y="14">{escape(axis.height)}</text>'] if axis.height else []
    for tick, text in up.ticks:
        y = base - (tick - up.low) * rise
        body.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    body += _bottom(axis, _TOP, base)
    if axis.mark is not None:
        x = _LEFT + (axis.mark[0] - axis.low) * scale
        half = len(axis.mark[1]) * _CHAR / 2
        middle = min(max(x, half), WIDTH - half)
        body.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{base}"/>')
        body.append(
            f'<text class="ink" x="{middle:.1f}" y="{_TOP - 10}" text-anchor="middle">{escape(axis.mark[1])}</text>'
        )
    for index, one in sorted(enumerate(series), key=lambda item: not item[1].strong):
        points = [p for p in one.points if axis.low <= p.x <= axis.high]
        if not points:
            continue
        if one.steps:
            points.append(Point(axis.high, points[-1].y, points[-1].low, points[-1].high))
        points = _thin(points)

        def place(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
            return [(_LEFT + (x - axis.low) * scale, base - (y - up.low) * rise) for x, y in values]

        upper = _corners(place([(p.x, p.high) for p in points]), one.steps)
        lower = _corners(place([(p.x, p.low) for p in points]), one.steps)
        line = _corners(place([(p.x, p.y) for p in points]), one.steps)
        body.append(f'<g class="series {_style(index, one)}">')
        if one.band:
            body.append(f'<path class="band" d="{_path([*upper, *reversed(lower)])}Z"/>')
        body.append(f'<path class="line" d="{_path(line)}"><title>{escape(one.name)}</title></path>')
        if one.dots and not one.steps:
            for p, (x, y) in zip(points, place([(p.x, p.y) for p in points]), strict=True):
                body.append(f"<g>{_dot(index % _SHAPES, x, y)}<title>{escape(p.note or one.name)}</title></g>")
        body.append("</g>")
    keys, height = _legend(series, base + 60)
    return _svg(height, label, [*body, *keys])


def boxes(label: str, rows: Sequence[Box], name: str) -> str:
    """Quantiles 5, 25, 50, 75 and 95% of several distributions, one below the other, on one axis from 0."""
    high = max((r.quantiles[-1] for r in rows), default=1.0) * 1.04 or 1.0
    axis = Axis(name, 0.0, high, nice_ticks(0.0, high))
    base = 10 + 36.0 * len(rows)
    body, left = [], 8.0
    scale = (WIDTH - _RIGHT - left) / high
    for value, text in spaced(axis.ticks, 0.0, high):
        x = left + value * scale
        body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{base + 4:.1f}"/>')
        anchor = "start" if value == 0 else "middle"
        body.append(f'<text x="{x:.1f}" y="{base + 18:.1f}" text-anchor="{anchor}">{escape(text)}</text>')
    body.append(f'<line class="axis" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>')
    body.append(f'<text x="{WIDTH / 2}" y="{base + 36:.1f}" text-anchor="middle">{escape(name)}</text>')
    for i, row in enumerate(rows):
        y = 18 + 36.0 * i
        x5, x25, x50, x75, x95 = (left + q * scale for q in row.quantiles)
        body.append(
            f'<g class="s{row.colour % COLOURS}"><title>{escape(row.note or row.name)}</title>'
            f'<text class="ink" x="{left}" y="{y:.1f}">{escape(shorten(row.name, 66))}</text>'
            f'<line class="whisker" x1="{x5:.1f}" x2="{x95:.1f}" y1="{y + 12:.1f}" y2="{y + 12:.1f}"/>'
            f'<rect class="box" x="{x25:.1f}" y="{y + 6:.1f}" width="{max(x75 - x25, 1):.1f}" height="12"/>'
            f'<line class="median" x1="{x50:.1f}" x2="{x50:.1f}" y1="{y + 5:.1f}" y2="{y + 19:.1f}"/></g>'
        )
    return _svg(base + 46, label, body)


def standalone(svg: str) -> str:
    """The chart as a file of its own, with its colours inside and on white."""
    style = (_TEMPLATES / "chart.css").read_text(encoding="utf-8")
    head, rest = svg.split(">", 1)
    return f'{head}><style>{style}</style><rect width="100%" height="100%" fill="white"/>{rest}\n'
