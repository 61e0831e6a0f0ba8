"""The charts of a sweep: what attacks left standing, against each parameter that took several numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reports.charts import Chart
from reports.figures import COLOURS, Axis, Point, Series, curves
from reports.measure import Measure
from reports.texts import Share

_MOST_SERIES = COLOURS  # more cannot be told apart in one chart
_MOST_CHARTS = 12


@dataclass(frozen=True)
class Row:
    """One job and model at the job's headline eps; `trusted` when the job completed.

    `distance` is the median of its minimal attacks in `distance_norm`; NaN and empty where there is none.
    """

    job: str
    href: str
    values: tuple[str, ...]
    model: str
    headline: str
    clean: Share
    robust: Share
    trusted: bool
    distance: float = math.nan
    distance_norm: str = ""


Curves = Mapping[str, Sequence[Row]]  # label -> its rows


def _number(text: str) -> float:
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        return math.nan


def _groups(keys: Sequence[str], at: int, rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows by model, then by the values of the other parameters."""
    short = [k.rpartition(".")[2] for k in keys]
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        others = [f"{k}={v}" for i, (k, v) in enumerate(zip(short, row.values, strict=True)) if i != at]
        groups.setdefault(row.model, {}).setdefault(", ".join([row.model, *others]), []).append(row)
    return groups


def _lowest(mine: Curves, at: int) -> list[Row]:
    """Of all curves of a model the lowest row at each value of the parameter."""
    found: dict[str, Row] = {}
    for row in (r for rows in mine.values() for r in rows):
        if row.values[at] not in found or row.robust.value < found[row.values[at]].robust.value:
            found[row.values[at]] = row
    return list(found.values())


def _pictures(groups: Mapping[str, Curves], at: int) -> list[tuple[str, str, Curves]]:
    """What each chart shows: an addition to its title, one to its note, and its curves.

    All curves in one chart if they are few; else one chart per model; and where a model alone has too many, one
    curve per model with the lowest of its values.
    """
    together = {label: rows for mine in groups.values() for label, rows in mine.items()}
    if len(together) <= _MOST_SERIES:
        return [("", "", together)]
    if max(len(mine) for mine in groups.values()) <= _MOST_SERIES and len(groups) <= _MOST_CHARTS:
        return [(f": {model}", "", mine) for model, mine in groups.items()]
    lowest = {
        model if len(mine) == 1 else f"{model}, lowest of {len(mine)}": _lowest(mine, at)
        for model, mine in groups.items()
    }
    note = f" There are {len(together)} curves: shown is the lowest of each model over the other parameters."
    if len(lowest) > _MOST_SERIES:
        note += f" The first {_MOST_SERIES} of {len(lowest)} models; all are in the table above."
    return [("", note, dict(list(lowest.items())[:_MOST_SERIES]))]


def _charts(keys: Sequence[str], at: int, rows: Sequence[Row], measure: Measure) -> list[Chart]:
    """The charts of one parameter, if it takes several numbers."""
    key = keys[at]
    numbers = {r.values[at]: _number(r.values[at]) for r in rows}
    finite = sorted({v for v in numbers.values() if math.isfinite(v)})
    if len(finite) < 2 or any(math.isnan(v) for v in numbers.values()):
        return []
    logarithmic = finite[0] > 0 and finite[-1] / finite[0] >= 50

    def place(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low, high = place(finite[0]), place(finite[-1])
    pad = 0.03 * (high - low)
    ticks = tuple((place(v), next(t for t, n in numbers.items() if n == v)) for v in finite)
    name = f"{key} (logarithmic)" if logarithmic else key
    axis = Axis(name, low - pad, high + pad, ticks, height=measure.label)
    known = [r for r in rows if r.robust.known and r.trusted and math.isfinite(numbers[r.values[at]])]
    result = []
    for number, (of, note, shown) in enumerate(_pictures(_groups(keys, at, known), at)):
        series, lines = [], []
        for label, mine in shown.items():
            ordered = sorted(mine, key=lambda r: numbers[r.values[at]])
            notes = [f"{label}, {r.values[at]}: {r.robust.full}" for r in ordered]
            points = [
                Point(place(numbers[r.values[at]]), r.robust.value, r.robust.low, r.robust.high, said)
                for r, said in zip(ordered, notes, strict=True)
            ]
            lines += [(label, r.values[at], r.robust.text, r.robust.interval, str(r.robust.n)) for r in ordered]
            series.append(Series(label, tuple(points), band=len(shown) <= 5))
        title = f"{measure.heading} against {key}{of}"
        result.append(
            Chart(
                f"sweep-{at}" + (f"-{number}" if of else ""),
                title,
                f"Worst case over the attacks of each job, at its headline \u03b5.{note}",
                curves(title, series, axis),
                ("curve", key, measure.column, "interval", "n"),
                tuple(lines),
            )
        )
    return result


def charts(keys: Sequence[str], rows: Sequence[Row], measure: Measure) -> tuple[Chart, ...]:
    """The charts of all parameters `keys`, whose values each row has."""
    return tuple(chart for at in range(len(keys)) for chart in _charts(keys, at, rows, measure))
