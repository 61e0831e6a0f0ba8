"""A chart of two shares for each of several names: where each began, and where an attack left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reports.figures import COLOURS, WIDTH, shorten

_LEFT, _RIGHT, _TOP, _ROW = 126.0, 18.0, 30.0, 20.0
_LABEL = 19  # characters that fit left of the axis


@dataclass(frozen=True)
class Dumbbell:
    """From the share `start` down to the share `end`, which has an interval.

    Attributes:
        name: left of it.
        start: an open dot.
        end: a filled dot.
        low: of the interval of `end`.
        high: see `low`.
        strong: whether the name stands out.
        note: what a pointer resting on it is told.
    """

    name: str
    start: float
    end: float
    low: float
    high: float
    strong: bool
    note: str


def dumbbells(label: str, rows: Sequence[Dumbbell], names: tuple[str, str], mark: tuple[float, str], hue: int) -> str:
    """The rows one below the other, as SVG.

    Args:
        label: for those who do not see it.
        rows: from the top.
        names: of the open and the filled dots.
        mark: a share and its name, as a line through all rows.
        hue: number of the colour.
    """
    base, scale = _TOP + _ROW * len(rows), WIDTH - _LEFT - _RIGHT
    body = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + share * scale
        body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{base:.1f}"/>')
        body.append(f'<text x="{x:.1f}" y="{base + 18:.1f}" text-anchor="middle">{share:.0%}</text>')
    at = _LEFT + mark[0] * scale
    half = len(mark[1]) * 3.3
    middle = min(max(at, half), WIDTH - half)
    body.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{base:.1f}"/>')
    body.append(f'<text x="{middle:.1f}" y="{_TOP - 14}" text-anchor="middle">{escape(mark[1])}</text>')
    for i, row in enumerate(rows):
        y = _TOP + _ROW * (i + 0.5)
        start, end, low, high = (_LEFT + share * scale for share in (row.start, row.end, row.low, row.high))
        ink = ' class="ink"' if row.strong else ""
        body.append(
            f'<g class="s{hue % COLOURS}"><title>{escape(row.note)}</title>'
            f'<text{ink} x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(shorten(row.name, _LABEL))}</text>'
            f'<line class="lost" x1="{end:.1f}" x2="{start:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<line class="axis" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle class="dot open" cx="{start:.1f}" cy="{y:.1f}" r="4"/>'
            f'<circle class="dot" cx="{end:.1f}" cy="{y:.1f}" r="5"/></g>'
        )
    keys, x = [], _LEFT
    for name, style, radius in ((names[1], "dot", 5), (names[0], "dot open", 4)):
        keys.append(f'<circle class="{style}" cx="{x:.1f}" cy="{base + 38:.1f}" r="{radius}"/>')
        keys.append(f'<text class="ink" x="{x + 10:.1f}" y="{base + 42:.1f}">{escape(name)}</text>')
        x += 34 + 6.6 * len(name)
    body.append(f'<g class="s{hue % COLOURS}">{"".join(keys)}</g>')
    size = f'viewBox="0 0 {WIDTH:g} {base + 52:g}"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">' + (
        "".join(body) + "</svg>"
    )
