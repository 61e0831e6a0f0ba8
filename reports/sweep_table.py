"""The table of all jobs of a sweep: only what varied, and the headline numbers; to be sorted and filtered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eval.records import UNFINISHED
from reports.measure import Measure
from reports.sweep_rows import Row, numeric
from reports.texts import Share, amount, duration, eps_label, norm_label

_MOST_CHOICES = 60  # in a list to choose from; others are found by searching
_LONG = 24  # characters that are broken into lines
_NONE = "\u2013"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, what stands small below, and what it is sorted by where that is another number.

    With a `flag` it stands out.
    """

    text: str
    small: str = ""
    sort: str = ""
    flag: bool = False


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    row: Row
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """A column: its head, whether it holds words, long ones, and the values that one can choose from, if few."""

    title: str
    left: bool = False
    wrap: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """All jobs; the columns are those after the job's name."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    def of(self, rows: Sequence[Row]) -> list[Line]:
        """The lines of some rows, in their order."""
        lines = {id(line.row): line for line in self.lines}
        return [lines[id(row)] for row in rows]


def table(keys: Sequence[str], shown: Sequence[int], rows: Sequence[Row], measure: Measure) -> Table:
    """The table of rows.

    Args:
        keys: names of the values that each row has.
        shown: which of them have a column.
        rows: of all jobs, those without a result too.
        measure: what the numbers count.
    """
    parts: list[tuple[Column, list[Cell]]] = []
    for i in shown:
        parts.append(_words(keys[i], [row.values[i] for row in rows]))
    if any(row.model not in ("", *(row.values[i] for i in shown)) for row in rows):
        parts.append(_words("network", [row.model for row in rows]))
    if any(row.status != "complete" for row in rows):
        column, cells = _words("status", [row.status for row in rows])
        parts.append((column, [replace(cell, flag=cell.text != "complete") for cell in cells]))
    parts.append((Column("clean"), [_share(row.clean) for row in rows]))
    parts.append((Column(measure.column), [_so_far(row, _share(row.robust)) for row in rows]))
    samples = [Cell(f"{row.robust.n}", f"{row.errors} errors" if row.errors else "") for row in rows]
    parts.append((Column("n"), [cell if row.model else Cell(_NONE) for cell, row in zip(samples, rows, strict=True)]))
    budgets = {row.headline for row in rows if row.headline}
    said = any(all(row.headline.endswith(eps_label(row.values[i])) for row in rows if row.headline) for i in shown)
    norms = {budget.partition(",")[0] for budget in budgets}
    if len(budgets) > 1 and not (said and len(norms) == 1):
        parts.append(_words("at", [row.headline for row in rows]))
    if any(row.distance_norm for row in rows):
        parts.append((Column("median distance"), [_distance(row) for row in rows]))
    if any(not math.isnan(row.seconds) for row in rows):
        times = [Cell(duration(row.seconds), sort=_digits(row.seconds)) for row in rows]
        parts.append((Column("time"), times))
    lines = zip(rows, zip(*(cells for _, cells in parts), strict=True), strict=True) if rows else ()
    return Table(tuple(column for column, _ in parts), tuple(Line(row, cells) for row, cells in lines))


def ordered(values: Sequence[str]) -> list[str]:
    """Different values, numbers by their size, then words by the alphabet."""
    return sorted(set(values), key=lambda v: (math.isnan(numeric(v)), 0.0 if math.isnan(numeric(v)) else numeric(v), v))


def _words(title: str, values: Sequence[str]) -> tuple[Column, list[Cell]]:
    different = ordered([value for value in values if value])
    choices = tuple(different) if 1 < len(different) <= _MOST_CHOICES else ()
    long = max(map(len, different), default=0) > _LONG
    return Column(title, True, long, choices), [Cell(value or _NONE) for value in values]


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _share(share: Share) -> Cell:
    return Cell(share.text, share.interval, _digits(share.value)) if share.known else Cell(_NONE)


def _so_far(row: Row, cell: Cell) -> Cell:
    """A share of a run that has still attacks and samples to come says so."""
    return replace(cell, text=f"{cell.text} so far") if row.robust.known and row.status in UNFINISHED else cell


def _distance(row: Row) -> Cell:
    if not row.distance_norm:
        return Cell(_NONE)
    return Cell(amount(row.distance), norm_label(row.distance_norm), _digits(row.distance))
