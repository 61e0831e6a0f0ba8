"""Tables from measured rows: aligned text for a terminal, Markdown for a README.

Two means are comparable on the same images only. So the mean and the median RMS of a table are over the images on
which every method of the table succeeds, leaving out methods that succeed on less than nine tenths, which have no mean.
The ratio to our default is over the images on which the two succeed, whatever the others do; its interval is a
bootstrap over images, paired. Methods that were given fewer images stand in a block of their own, below our default
on these images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from eval.intervals import wilson
from tests.benchmarks.networks import NETWORKS
from tests.benchmarks.peers import DEFAULT, methods
from tests.benchmarks.results import Row

Floats = npt.NDArray[np.float64]

_USUAL = 0.9
_SLACK = 1.01
_DRAWS = 2000
HEADER = (
    "method", "n", "success", "mean RMS", "median", "RMS / default", "default > 1% larger",
    "forwards", "backwards", "ms/image", "time / default",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What a table says of one row.

    Attributes:
        row: the measurement.
        success: share of images, with Wilson's 95% interval.
        mean: RMS over the images that the block has in common; NaN where the method is not usual or none are.
        median: same.
        ratio: mean RMS over that of the default, with a 95% interval; NaN without common images.
        larger: share of images on which the default's RMS is more than 1% larger.
        slowdown: time over that of the default.
    """

    row: Row
    success: tuple[float, float, float]
    mean: float
    median: float
    ratio: tuple[float, float, float]
    larger: float
    slowdown: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The line, as text."""
        r = self.row
        share, low, high = self.success
        known = r.forwards > 0  # not so for our default on the images of a heavy method
        return (
            r.label, str(r.images), f"{share:.1%} [{low:.1%}, {high:.1%}]", _number(self.mean, "#.4g"),
            _number(self.median, "#.4g"), _interval(self.ratio), _number(self.larger, ".1%"),
            f"{r.forwards:.1f}" if known else "", f"{r.backwards:.1f}" if known else "", f"{r.milliseconds:.2f}",
            _number(self.slowdown, ".2f"),
        )  # fmt: skip


@dataclass(frozen=True)
class Table:
    """The rows of one network and goal.

    Attributes:
        lines: in the order of the methods, fewer images last.
        common: number of images that each block has in common, by its n.
        missed: number of images on which some method succeeds and our default does not.
    """

    lines: list[Line]
    common: dict[int, int]
    missed: int


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _interval(value: tuple[float, float, float]) -> str:
    return "-" if np.isnan(value[0]) else f"{value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]"


def ratio_interval(ours: Floats, theirs: Floats, seed: int = 0) -> tuple[float, float, float]:
    """mean(theirs) / mean(ours) with its 95% interval, by a bootstrap over the images, which they share."""
    if len(ours) == 0 or ours.mean() == 0:
        return np.nan, np.nan, np.nan
    draws = np.random.default_rng(seed).integers(len(ours), size=(_DRAWS, len(ours)))
    low, high = np.quantile(theirs[draws].mean(1) / ours[draws].mean(1), (0.025, 0.975))
    return float(theirs.mean() / ours.mean()), float(low), float(high)


def _reached(row: Row) -> npt.NDArray[np.bool_]:
    return np.asarray(row.reached, dtype=np.bool_)


def _rms(row: Row) -> Floats:
    return np.asarray(row.rms, dtype=np.float64)


def _first(default: Row, beside: Row) -> Row:
    """Our default on the images of another row; what it cost there, but for the time, is not known."""
    n = beside.images
    return replace(
        default, images=n, reached=default.reached[:n], rms=default.rms[:n], label=f"{default.label}, same images",
        forwards=0.0, backwards=0.0,
        milliseconds=beside.default_milliseconds, default_milliseconds=beside.default_milliseconds,
    )  # fmt: skip


def _line(row: Row, default: Row | None, common: npt.NDArray[np.bool_]) -> Line:
    reached, rms = _reached(row), _rms(row)
    low, high = wilson(reached.sum(), len(reached))
    usual = reached.mean() >= _USUAL and common.any()
    ratio, larger = (np.nan, np.nan, np.nan), np.nan
    if default is not None:
        both = reached & _reached(default)[: row.images]
        ours, theirs = _rms(default)[: row.images][both], rms[both]
        ratio = ratio_interval(ours, theirs)
        larger = float((ours > _SLACK * theirs).mean()) if both.any() else np.nan
    return Line(
        row=row,
        success=(float(reached.mean()), float(low), float(high)),
        mean=float(rms[common].mean()) if usual else np.nan,
        median=float(np.median(rms[common])) if usual else np.nan,
        ratio=ratio,
        larger=larger,
        slowdown=row.milliseconds / row.default_milliseconds if row.default_milliseconds > 0 else np.nan,
    )


def table(rows: Sequence[Row]) -> Table:
    """Compare the rows of one group."""
    order = {m.name: i for i, m in enumerate(methods())}
    rows = sorted(rows, key=lambda r: order.get(r.method, len(order)))
    lines: list[Line] = []
    shared: dict[int, int] = {}
    missed: set[int] = set()
    for n in sorted({r.images for r in rows}, reverse=True):
        block = [r for r in rows if r.images == n]
        larger = [r for r in rows if r.method == DEFAULT and r.images >= n]
        default = min(larger, key=lambda r: r.images) if larger else None
        if default is not None and default not in block:
            block.insert(0, _first(default, block[0]))
        reached = np.stack([_reached(r) for r in block])
        common = reached[reached.mean(1) >= _USUAL].all(0)
        common &= bool((reached.mean(1) >= _USUAL).any())
        shared[n] = int(common.sum())
        if default is not None:
            missed |= set(np.flatnonzero(reached.any(0) & ~_reached(default)[:n]).tolist())
        lines += [_line(r, default, common) for r in block]
    return Table(lines, shared, len(missed))


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each table: networks in their usual order, others and else as they first appear."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    order = {name: i for i, name in enumerate(NETWORKS)}
    return sorted(found.values(), key=lambda group: order.get(group[0].network, len(order)))


def caption(rows: Sequence[Row]) -> str:
    """What a table is about, and where it was measured."""
    r, machine = rows[0], rows[0].machine
    days = sorted({row.date for row in rows})
    packages = sorted({row.package for row in rows} - {""})
    where = machine["processor"] if machine["device"] == "cpu" else f"{machine['device']}, {machine['processor']}"
    return (
        f"{r.network}, {r.goal}: test images from number {r.first} on, seed {r.seed}; {where}, "
        f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}, torch {machine['torch']}"
        + "".join(f", {p}" for p in packages)
        + f"; {days[0]}"
        + (f" to {days[-1]}" if len(days) > 1 else "")
    )


def notes(made: Table) -> str:
    """What the means are over, and what the default missed."""
    parts = [f"{common} of {n}" for n, common in made.common.items()]
    return (
        f"Means and medians are over {', then '.join(parts)} images. Our default fails on {made.missed} images "
        "on which another method succeeds."
    )


def text(rows: Sequence[Row]) -> str:
    """One table, aligned."""
    made = table(rows)
    cells = [HEADER, *(line.cells for line in made.lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADER))]
    body = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join([caption(rows), *(line.rstrip() for line in body), notes(made)])
