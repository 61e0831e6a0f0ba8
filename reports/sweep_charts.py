"""The charts of a sweep: what attacks left standing, against each parameter that varied."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from reports.charts import Chart
from reports.dots import Dot, dots
from reports.figures import COLOURS, Axis, Point, Series, curves, nice_ticks, number
from reports.measure import Measure
from reports.sweep_rows import Pool, Row, is_seed, numeric
from reports.texts import percent

_MOST_LINES = COLOURS  # more cannot be told apart in one chart
_MOST_CHARTS = 12
_MOST_VALUES = 40  # of a parameter, each with a place of its own
_BINS = 20
_MOST_DOTS = 40
_MOST_BANDS = 5
_MOST_EACH = 30  # values that are shown one by one beside their median
_WORST = "Worst case over the attacks of each job, at its headline \u03b5."

Lines = Mapping[str, Sequence[Row]]  # label -> its rows


@dataclass(frozen=True)
class Picture:
    """What one chart shows: its lines, an addition to its title, and what is said of them."""

    lines: Lines
    of: str = ""
    note: str = ""


def _value(row: Row, at: int) -> str:
    """That of the parameter number `at`; beyond the last one the name of the network."""
    return row.values[at] if at < len(row.values) else row.model


def _lines(keys: Sequence[str], at: int, rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows by model, then by the values of the other parameters that matter: not seeds, nor what the model tells."""
    others = [i for i, key in enumerate(keys) if i != at and not is_seed(key)]
    others = [i for i in others if any(row.values[i] != row.model for row in rows)]
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        told = [f"{keys[i].rpartition('.')[2]}={row.values[i]}" for i in others]
        name = [] if _value(row, at) == row.model else [row.model]
        groups.setdefault("".join(name), {}).setdefault(", ".join([*name, *told]), []).append(row)
    return groups


def _pictures(groups: Mapping[str, Lines]) -> list[Picture]:
    """All lines in one chart if they are few; else one chart per model; else one line per model, or one in all."""
    together = {label: rows for mine in groups.values() for label, rows in mine.items()}
    if len(together) <= _MOST_LINES:
        return [Picture(together)]
    if 1 < len(groups) <= _MOST_CHARTS and max(len(mine) for mine in groups.values()) <= _MOST_LINES:
        return [Picture(mine, f": {model}") for model, mine in groups.items()]
    joined = {model: [row for rows in mine.values() for row in rows] for model, mine in groups.items()}
    named = {f"{model or 'all'}, median of {len(groups[model])}": rows for model, rows in joined.items()}
    note = f" There are {len(together)} settings of the other parameters: the line is their median"
    if len(groups) > _MOST_LINES:
        every = [row for rows in joined.values() for row in rows]
        named = {f"all, median of {len(together)}": every}
        note = f" There are {len(together)} settings of networks and other parameters: the line is their median"
    return [Picture(named, "", f"{note}, the band reaches from the lowest to the highest. All are in the table.")]


def _at(rows: Sequence[Row], at: int) -> dict[str, list[Row]]:
    """Rows by the value of a parameter, in the order of the values where they are numbers."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_value(row, at), []).append(row)
    if any(math.isnan(numeric(value)) for value in found):
        return found
    return dict(sorted(found.items(), key=lambda item: numeric(item[0])))


def _binned(rows: Sequence[Row], at: int) -> list[Row]:
    """The rows, with the same value for those whose values are neighbours: the middle one of theirs."""
    values = sorted({row.values[at] for row in rows}, key=numeric)
    edges = [len(values) * i // _BINS for i in range(_BINS + 1)]
    bins = [values[start:end] for start, end in pairwise(edges)]
    middle = {value: part[len(part) // 2] for part in bins for value in part}
    return [replace(row, values=(*row.values[:at], middle[row.values[at]], *row.values[at + 1 :])) for row in rows]


def _pooled(found: Mapping[str, Mapping[str, Pool]], seeds: bool, dots: str, bands: str) -> str:
    """What `dots` and `bands` are, which are called so."""
    sizes = {len(pool.shares) for line in found.values() for pool in line.values()}
    if sizes <= {1}:
        return f" {bands}: 95% interval."
    what = "over seeds" if seeds else "of several jobs"
    alone = "; of a single job its 95% interval" if 1 in sizes else ""
    return f" {dots}: the median {what}; {bands.lower()} from the lowest to the highest{alone}."


@dataclass(frozen=True)
class _Across:
    """The horizontal axis of a parameter: its name, where its values are, and how it is drawn."""

    key: str
    axis: Axis
    place: Callable[[str], float]

    @classmethod
    def of(cls, key: str, names: Sequence[str], many: bool) -> _Across:
        """Logarithmic where the values span more than a few sizes."""
        values = sorted(names, key=numeric)
        first, last = numeric(values[0]), numeric(values[-1])
        logarithmic = first > 0 and last / first >= 50

        def place(value: str) -> float:
            return math.log10(numeric(value)) if logarithmic else numeric(value)

        low, high = place(values[0]), place(values[-1])
        ticks = tuple((place(v), number(numeric(v)) if many else v) for v in values)
        ticks = nice_ticks(low, high) if many and not logarithmic else ticks
        pad = 0.03 * (high - low)
        return cls(key, Axis(f"{key} (logarithmic)" if logarithmic else key, low - pad, high + pad, ticks), place)

    def chart(
        self, name: str, title: str, note: str, up: tuple[str, str], found: Mapping[str, Mapping[str, Pool]]
    ) -> Chart:
        """Shares `up` (the name of the axis, that of the column) against it, as lines."""
        series, lines = [], []
        for label, line in found.items():
            points = [Point(self.place(v), p.value, p.low, p.high, f"{label}, {v}: {p.full}") for v, p in line.items()]
            series.append(Series(label or up[0], tuple(points), band=len(found) <= _MOST_BANDS))
            lines += [(label, v, percent(p.value), p.span, str(len(p.shares)), p.n) for v, p in line.items()]
        head = ("curve", self.key, up[1], "from\u2013to", "jobs", "n")
        return Chart(name, title, note, curves(title, series, replace(self.axis, height=up[0])), head, tuple(lines))


def _curves(keys: Sequence[str], at: int, rows: Sequence[Row], measure: Measure) -> list[Chart]:
    """The charts of a parameter that takes several numbers: what was left standing, and clean accuracy if it varies."""
    key, names = keys[at], {row.values[at] for row in rows}
    many = len(names) > _MOST_VALUES
    across = _Across.of(key, [*names], many)
    rows = _binned(rows, at) if many else rows
    binned = f" {len(names)} values, in {_BINS} groups of neighbours." if many else ""
    result = []
    for order, picture in enumerate(_pictures(_lines(keys, at, rows))):
        parts = {label: _at(mine, at) for label, mine in picture.lines.items()}
        found = {label: {v: Pool.of(mine) for v, mine in part.items()} for label, part in parts.items()}
        said = picture.note or _pooled(found, any(map(is_seed, keys)) and not many, "Dots", "Bands")
        name, title = (
            f"sweep-{at}" + (f"-{order}" if picture.of else ""),
            f"{measure.heading} against {key}{picture.of}",
        )
        result.append(across.chart(name, title, f"{_WORST}{said}{binned}", (measure.label, measure.column), found))
        clean = {label: {v: Pool.of(mine, "clean") for v, mine in part.items()} for label, part in parts.items()}
        if not picture.of and any(len({pool.value for pool in line.values()}) > 1 for line in clean.values()):
            note, up = f"Of unperturbed images.{said}{binned}", ("clean accuracy", "clean")
            result.append(across.chart(f"clean-{at}", f"Clean accuracy against {key}", note, up, clean))
    return result


def _dots(keys: Sequence[str], at: int, rows: Sequence[Row], measure: Measure) -> list[Chart]:
    """The chart of a parameter whose values are words: a dot for each, and for each line of the others if few."""
    key = keys[at] if at < len(keys) else "network"
    lines = {label: mine for some in _lines(keys, at, rows).values() for label, mine in some.items()}
    names, note = [*_at(rows, at)], ""
    if len(lines) > _MOST_LINES or len(lines) * len(names) > _MOST_DOTS:
        note = f" There are {len(lines)} settings of the other parameters."
        lines = {"": [*rows]}
    cells = {label: {v: Pool.of(mine) for v, mine in _at(some, at).items()} for label, some in lines.items()}
    if len(lines) == 1:  # words have no order of their own
        (line,) = cells.values()
        names.sort(key=lambda v: -line[v].value)
    shown = names[:_MOST_DOTS]
    groups, table = [], []
    for value in shown:
        dots_of = []
        for hue, (label, line) in enumerate(cells.items()):
            if value not in line:
                continue
            pool = line[value]
            each = tuple(s.value for s in pool.shares) if 1 < len(pool.shares) <= _MOST_EACH else ()
            called = label if len(cells) > 1 else value
            dots_of.append(Dot(called, pool.value, pool.low, pool.high, each, hue, f"{value}, {called}: {pool.full}"))
            table.append((value, label, percent(pool.value), pool.span, str(len(pool.shares)), pool.n))
        groups.append((value if len(cells) > 1 else "", dots_of))
    left = f" Shown are {len(shown)} of {len(names)} values." if len(shown) < len(names) else ""
    seeds = any(map(is_seed, keys))
    said = note + _pooled(cells, seeds and not note, "Dots" if note else "Filled dots", "Bars")
    title = f"{measure.heading} by {key}"
    svg = dots(title, groups, measure.label)
    head = (key, "of", measure.column, "from\u2013to", "jobs", "n")
    return [Chart(f"sweep-{at}", title, f"{_WORST}{said}{left}", svg, head, tuple(table))]


def charts(keys: Sequence[str], rows: Sequence[Row], measure: Measure) -> tuple[Chart, ...]:
    """The charts of the parameters `keys`, whose values each row has; seeds have one only if nothing else varied."""
    known = [row for row in rows if row.robust.known and row.trusted]
    result: list[Chart] = []
    for at in [i for i, key in enumerate(keys) if not is_seed(key)][:_MOST_CHARTS]:
        numbers = [numeric(value) for value in {row.values[at] for row in known}]
        if len(numbers) < 2:
            continue
        finite = [value for value in numbers if math.isfinite(value)]
        if any(map(math.isnan, numbers)):
            result += _dots(keys, at, known, measure)
        elif len(set(finite)) > 1:
            bounded = [row for row in known if math.isfinite(numeric(row.values[at]))]
            result += _curves(keys, at, bounded, measure)
    if keys and all(map(is_seed, keys)) and len(known) > 1:
        result += _dots(keys, len(keys), known, measure)
    return tuple(result)
