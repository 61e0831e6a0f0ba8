"""A chart of shares by name: for each row a dot, the range around it, and the single values that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reports.figures import COLOURS, WIDTH, shorten

_LEFT, _RIGHT, _TOP, _ROW, _HEAD = 150.0, 18.0, 12.0, 20.0, 22.0
_LABEL, _TITLE = 22, 60  # characters that fit left of the axis, and above a group


@dataclass(frozen=True)
class Dot:
    """A share with the range around it.

    Attributes:
        name: left of it.
        value: the dot.
        low: where the range begins.
        high: where it ends.
        each: the values that the dot is the middle of; none where it is one value itself.
        hue: number of the colour.
        note: what a pointer resting on it is told.
    """

    name: str
    value: float
    low: float
    high: float
    each: tuple[float, ...] = ()
    hue: int = 0
    note: str = ""


def dots(label: str, groups: Sequence[tuple[str, Sequence[Dot]]], name: str) -> str:
    """Groups of rows one below the other, as SVG.

    Args:
        label: for those who do not see it.
        groups: the name of each, shown above it unless it is empty, and its rows from the top.
        name: of the axis.
    """
    scale, body, y = WIDTH - _LEFT - _RIGHT, [], _TOP
    for title, rows in groups:
        if title:
            body.append(f'<text class="ink" x="0" y="{y + 14:.1f}">{escape(shorten(title, _TITLE))}</text>')
            y += _HEAD
        for row in rows:
            body.append(_row(row, y + _ROW / 2, scale))
            y += _ROW
    grid = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + share * scale
        grid.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6:.1f}" y2="{y + 4:.1f}"/>')
        grid.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{share:.0%}</text>')
    grid.append(f'<text x="{_LEFT + scale / 2:.1f}" y="{y + 40:.1f}" text-anchor="middle">{escape(name)}</text>')
    size = f'viewBox="0 0 {WIDTH:g} {y + 50:g}"'
    head = f'<svg class="chart" {size} role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    return head + "".join([*grid, *body]) + "</svg>"


def _row(row: Dot, y: float, scale: float) -> str:
    value, low, high = (_LEFT + share * scale for share in (row.value, row.low, row.high))
    single = "".join(
        f'<circle class="dot open" cx="{_LEFT + share * scale:.1f}" cy="{y:.1f}" r="2.6"/>' for share in row.each
    )
    return (
        f'<g class="s{row.hue % COLOURS}"><title>{escape(row.note)}</title>'
        f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(shorten(row.name, _LABEL))}</text>'
        f'<line class="lost" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>{single}'
        f'<circle class="dot" cx="{value:.1f}" cy="{y:.1f}" r="4.6"/></g>'
    )
