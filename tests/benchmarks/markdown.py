"""The tables in Markdown: all of them in full, or one a goal that fits a README."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.benchmarks.peers import DEFAULT, methods
from tests.benchmarks.results import Row
from tests.benchmarks.summary import HEADER, Line, caption, groups, notes, table

BRIEF = (
    "default", "quick", "strong", "paper", "ddn-100", "ddn-1000", "fmn-1000", "alma-1000", "pdgd-500", "cw",
    "scipy-cleverhans3", "scipy-foolbox2",
)  # fmt: skip
"""Methods of the brief table."""

_BRIEF = (
    "Our default's cells: mean RMS of all images, evaluations per image, ms per image. The others': mean RMS over our "
    "default's on the images on which both succeed, evaluations per image, time over our default's on the same images; "
    "first the success where it is below 100%. Of forwards and backwards the more numerous are the evaluations."
)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|---" + "|---:" * (columns - 1) + "|"


def full(rows: Sequence[Row]) -> str:
    """A table for each network and goal, with all that is known."""
    parts = []
    for group in groups(rows):
        made = table(group)
        body = [_row(HEADER), _rule(len(HEADER)), *(_row(line.cells) for line in made.lines)]
        parts.append("\n".join([f"**{caption(group)}**", "", *body, "", notes(made)]))
    return "\n\n".join(parts)


def _cell(line: Line) -> str:
    row, share = line.row, line.success[0]
    evaluations = f"{max(row.forwards, row.backwards):,.0f}"
    reached = np.asarray(row.reached, dtype=np.bool_)
    if row.method == DEFAULT:
        mean = np.asarray(row.rms)[reached].mean() if reached.any() else np.nan
        figures = [f"{mean:#.4g}", evaluations, f"{row.milliseconds:.1f} ms"]
    else:
        ratio = "-" if np.isnan(line.ratio[0]) else f"{line.ratio[0]:.3f}"
        figures = [ratio, evaluations, f"{line.slowdown:,.1f}x"]
    if row.images and share < 1:
        figures.insert(0, f"{share:.0%}")
    return ", ".join(figures)


def _images(rows: Sequence[Row]) -> str:
    """How many images, which, and where fewer."""
    most = max(r.images for r in rows)
    firsts = dict.fromkeys((r.first, tuple(dict.fromkeys(q.network for q in rows if q.first == r.first))) for r in rows)
    fewer = dict.fromkeys((r.images, r.label) for r in rows if r.images < most and r.method != DEFAULT)
    which = " and ".join(f"from number {first} on ({', '.join(names)})" for first, names in firsts)
    less = "".join(f"; {n} for {label}" for n, label in fewer)
    return f"{most} test images {which}{less}"


def _where(rows: Sequence[Row]) -> str:
    """Machine, versions and days, once for all networks."""
    return "; ".join(dict.fromkeys(caption(g).partition("; ")[2] for g in groups(rows)))


def brief(rows: Sequence[Row]) -> str:
    """A table for each goal and machine, methods down and networks across."""
    parts = []
    heads = dict.fromkeys((r.goal, r.machine["device"], r.machine["threads"]) for r in rows)
    labels = {m.name: m.label for m in methods()}
    for goal, device, threads in heads:
        some = [r for r in rows if (r.goal, r.machine["device"], r.machine["threads"]) == (goal, device, threads)]
        some = [row for group in groups(some) for row in group]
        networks = list(dict.fromkeys(row.network for row in some))
        names = sorted({r.method for r in some}, key=lambda m: list(labels).index(m) if m in labels else len(labels))
        cells: dict[tuple[str, str], str] = {}
        for group in groups(some):
            for line in reversed(table(group).lines):  # where a method has several rows, that with most images
                if line.row.forwards > 0:
                    cells[line.row.method, line.row.network] = _cell(line)
        body = [
            _row([labels.get(name, name), *(cells.get((name, network), "") for network in networks)]) for name in names
        ]
        head = [
            f"**{goal}**: {_images(some)}; {_where(some)}",
            "",
            _row(["method", *networks]),
            _rule(1 + len(networks)),
        ]
        parts.append("\n".join([*head, *body]))
    return "\n\n".join([*parts, _BRIEF])
