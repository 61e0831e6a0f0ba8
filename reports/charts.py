"""Which charts a report has: accuracy against eps, distributions of distortion, and a study's own curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from eval.metrics import WORST, Threat
from reports.figures import Axis, Box, Point, Series, boxes, curves, log_ticks, nice_ticks, number
from reports.matrices import rows_of
from reports.measure import Measure
from reports.texts import amount, eps_label, norm_label, percent

if TYPE_CHECKING:
    from eval.studies.reading import Curves

_MOST_BANDS = 5
_MOST_BOXES = 24
_MOST_ROWS = 60
_MOST_STUDY_ROWS = 12


@dataclass(frozen=True)
class Chart:
    """A picture with the table that says the same."""

    name: str
    title: str
    note: str
    svg: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _axis(threat: Threat, points: pd.DataFrame, height: str) -> Axis:
    largest = max((eps for _, eps in threat.levels), default=0.0) or float(points["eps"].quantile(0.95)) or 1.0
    high = largest * (1.2 if bool(points["steps"].any()) else 1.04)
    fractions = any("/" in text for text, _ in threat.levels)
    ticks = ((0.0, "0"), *((eps, text) for text, eps in threat.levels)) if fractions else nice_ticks(0.0, high)
    mark = dict(threat.levels).get(threat.headline)
    shown = None if mark is None else (mark, eps_label(threat.headline))
    return Axis(f"\u03b5 ({norm_label(threat.norm)}, box units)", 0.0, high, ticks, shown, height)


def _series(name: str, part: pd.DataFrame, *, band: bool = True, strong: bool = False) -> Series:
    steps = bool(part["steps"].any())

    def note(x: float, y: float, low: float, high: float, n: int) -> str:
        """Of a dot."""
        return f"{name}: {percent(y)} at \u03b5 = {amount(x)} ({percent(low)} to {percent(high)}, n = {n})"

    columns = (part[c].tolist() for c in ("eps", "robust_accuracy", "low", "high", "n"))
    points = tuple(
        Point(x, y, low, high, "" if steps else note(x, y, low, high, n))
        for x, y, low, high, n in zip(*columns, strict=True)
        if n > 0
    )
    return Series(name if points else f"{name} (no result)", points, steps, band, strong)


def _table(parts: Sequence[tuple[str, pd.DataFrame]], high: float) -> tuple[tuple[str, ...], ...]:
    rows = []
    for name, part in parts:
        inside = part[(part["eps"] <= high) & (part["n"] > 0)]
        stride = max(1, math.ceil(len(inside) / _MOST_ROWS))
        for row in rows_of(inside.iloc[::stride]):
            interval = f"{percent(row['low'])} to {percent(row['high'])}"
            rows.append((name, amount(row["eps"]), percent(row["robust_accuracy"]), interval, str(int(row["n"]))))
    return tuple(rows)


def accuracy_charts(table: pd.DataFrame, threat: Threat, measure: Measure) -> tuple[Chart, ...]:
    """The worst case of all models in one chart, then one chart per model with its attacks."""
    if table.empty:
        return ()
    axis = _axis(threat, table, measure.label)
    head = (measure.column, "interval", "n")
    worst = [(str(m), p) for m, p in table[table["attack"] == WORST].groupby("model", sort=False)]
    few = len(worst) <= _MOST_BANDS
    charts = [
        Chart(
            "accuracy-worst-case",
            "Worst case over all attacks",
            "For each sample the strongest attack counts." + ("" if few else " Intervals are in the table."),
            curves(f"{measure.heading} against eps, worst case", [_series(m, p, band=few) for m, p in worst], axis),
            ("model", "eps", *head),
            _table(worst, axis.high),
        )
    ]
    for index, (model, mine) in enumerate(table.groupby("model", sort=False)):
        parts = [(str(a), p) for a, p in mine.groupby("attack", sort=False)]
        charts.append(
            Chart(
                f"accuracy-model-{index}",
                f"{model}, attack by attack",
                "The band is that of the worst case.",
                curves(
                    f"{measure.heading} against eps, {model}",
                    [_series(a, p, band=a == WORST, strong=a == WORST) for a, p in parts],
                    axis,
                ),
                ("attack", "eps", *head),
                _table(parts, axis.high),
            )
        )
    return tuple(charts)


def distortion_charts(
    table: pd.DataFrame, threat: Threat, models: Sequence[str], own: Sequence[str] = ()
) -> tuple[Chart, ...]:
    """Boxes of the distances of successes, at the headline eps.

    One chart in the threat's norm, one in each of the norms `own` that minimal attacks minimise, and one of RMS.
    """
    charts = []
    for measure in dict.fromkeys([threat.norm, *own, "rms"]):
        part = table[(table["measure"] == measure) & table["eps_text"].isin([threat.headline, "min"])]
        if part.empty:
            continue
        name = "RMS" if measure == "rms" else norm_label(measure)
        rows = []
        for row in rows_of(part.head(_MOST_BOXES)):
            quantiles = (row["q05"], row["q25"], row["q50"], row["q75"], row["q95"])
            label = f"{row['model']}, {row['attack']}, {eps_label(row['eps_text'])} (n = {row['n']})"
            note = f"{label}: median {amount(quantiles[2])}, 5 to 95%: {amount(quantiles[0])} to {amount(quantiles[4])}"
            colour = models.index(row["model"]) if row["model"] in models else 0
            rows.append(Box(label, quantiles, colour, note))
        charts.append(
            Chart(
                f"distortion-{measure}",
                f"{name} of the perturbations that succeeded",
                f"At {eps_label(threat.headline)}, and of minimal attacks: median, middle half, 5 to 95%.",
                boxes(f"Distribution of {measure} among successes", rows, f"{name}, box units"),
                ("model, attack", "5%", "25%", "median", "75%", "95%"),
                tuple((r.name, *(amount(q) for q in r.quantiles)) for r in rows),
            )
        )
    return tuple(charts)


def drawn(found: Curves) -> Chart:
    """The chart of a study's curves, which fill it; its table has as many rows for each as people read."""
    every = np.concatenate([points for _, points in found.lines])
    (left, low), (right, high) = every.min(axis=0), every.max(axis=0)
    pad = 0.04 * (high - low) or 1.0
    names = (found.across, found.up)
    said = [f"{name} (logarithmic)" if base else name for name, base in zip(names, found.bases, strict=True)]
    ticks = found.ticks or _ticks(left, right, found.bases[0])
    across = Axis(said[0], left, right, ticks, found.mark, said[1])
    up = Axis(found.up, low - pad, high + pad, _ticks(low - pad, high + pad, found.bases[1]))
    series = [
        Series(name, tuple(Point(x, y, y, y) for x, y in points), band=False, strong=name == found.strong, dots=False)
        for name, points in found.lines
    ]
    rows = tuple(
        (name, amount(_plain(x, found.bases[0])), number(_plain(y, found.bases[1])))
        for name, points in found.lines
        for x, y in points[:: max(1, math.ceil(len(points) / _MOST_STUDY_ROWS))]
    )
    svg = curves(found.title, series, across, up)
    return Chart(found.name, found.title, found.note, svg, ("curve", found.across, found.up), rows)


def _ticks(low: float, high: float, base: int) -> tuple[tuple[float, str], ...]:
    """Round numbers along an axis, which has their logarithms if there is a base."""
    return log_ticks(low, high, base) if base else nice_ticks(low, high)


def _plain(value: float, base: int) -> float:
    """The number of which a value is the logarithm, or the value itself without a base."""
    return float(base**value) if base else value
