"""Tables whose cells hold our number with its interval, and the paper's beside it. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from eval.intervals import Bools, Floats, wilson

_Z = 1.959964
PAPER_IMAGES = 256  # the paper's entries with a decimal are multiples of 1/256
SHARES = ("share", "rate", "excess")


@dataclass(frozen=True)
class Value:
    """One number.

    Attributes:
        kind: `share`; `rate`, one that is worth two decimals of a percent; `excess`, a difference of shares;
            `confidence`, a mean probability; `size`, a root mean square in box units; `number`, any other.
        ours: NaN where there is none.
        low: of the 95% interval.
        high: see `low`.
        n: samples.
        paper: its number, or None.
        apart: whether both cannot be the same, the paper's own uncertainty included.
    """

    kind: str
    ours: float
    low: float
    high: float
    n: int
    paper: float | None = None
    apart: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of values under the names of the columns.

    Attributes:
        name: of its file.
        title: what it is.
        note: how to read it, in a sentence or two.
        columns: without the first, which holds the labels.
        rows: label and values, None where there is none.
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Value | None, ...]], ...]

    @property
    def n(self) -> int | None:
        """The number of samples, if it is the same for all shares and differences of shares."""
        counts = {v.n for _, values in self.rows for v in values if v is not None and v.kind in SHARES}
        return counts.pop() if len(counts) == 1 else None

    def frame(self) -> pd.DataFrame:
        """One row per value: table, row, column, kind, ours, low, high, n, paper, apart."""
        rows = [
            (self.name, label, column, v.kind, v.ours, v.low, v.high, v.n, v.paper, v.apart)
            for label, values in self.rows
            for column, v in zip(self.columns, values, strict=True)
            if v is not None
        ]
        names = ["table", "row", "column", "kind", "ours", "low", "high", "n", "paper", "apart"]
        return pd.DataFrame(rows, columns=names)


def share(
    hits: Bools,
    paper: float | None = None,
    paper_n: int | None = PAPER_IMAGES,
    digits: int = 1,
    kind: str | None = None,
) -> Value:
    """The share of `hits` (n,), beside one that the paper gives in percent, rounded to `digits` decimals.

    Both are apart when 0 lies outside Newcombe's interval of their difference and outside what rounding explains; never
    where nobody knows how many samples are behind the paper's (`paper_n` None).
    """
    n, k, kind = len(hits), int(hits.sum()), kind or ("rate" if digits > 1 else "share")
    low, high = (float(bound) for bound in wilson(k, n))
    if paper is None or n == 0:
        return Value(kind, k / n if n else math.nan, low, high, n, None if paper is None else paper / 100)
    rounding = 0.5 * 10.0 ** -(digits + 2)
    ours, theirs = k / n, paper / 100
    if paper_n is None:
        return Value(kind, ours, low, high, n, theirs)
    least, most = (float(bound) for bound in wilson(theirs * paper_n, paper_n))
    reach = math.hypot(ours - low, most - theirs) if ours > theirs else math.hypot(high - ours, theirs - least)
    return Value(kind, ours, low, high, n, theirs, abs(ours - theirs) > reach + rounding)


def excess(hits: Bools, before: Bools) -> Value:
    """How much greater the share of `hits` (n,) is than that of `before` on the same samples.

    The interval for matched pairs is that of Agresti and Min, Statistics in Medicine 24 (2005): Wald's with half a
    sample added to each of the four cells, so that it does not vanish where nothing changed.
    """
    n = len(hits)
    if n == 0:
        return Value("excess", math.nan, -1.0, 1.0, 0)
    gained, lost = float((hits & ~before).sum()), float((before & ~hits).sum())
    more, up, down = n + 2.0, gained + 0.5, lost + 0.5
    middle = (up - down) / more
    half = _Z * math.sqrt(up + down - (up - down) ** 2 / more) / more
    return Value("excess", (gained - lost) / n, max(-1.0, middle - half), min(1.0, middle + half), n)


def size(values: Floats, paper: float | None = None, digits: int = 3) -> Value:
    """The mean of root mean squares (n,), beside one that the paper gives rounded to `digits` decimals."""
    return average("size", values, paper, PAPER_IMAGES, digits)


def confidence(values: Floats, paper: float | None = None, paper_n: int = PAPER_IMAGES) -> Value:
    """The mean of probabilities (n,), beside one that the paper gives in percent, rounded to one decimal."""
    return average("confidence", values, None if paper is None else paper / 100, paper_n, 3)


def average(
    kind: str, values: Floats, paper: float | None = None, paper_n: int = PAPER_IMAGES, digits: int = 3
) -> Value:
    """The mean of `values` (n,), beside one that the paper gives rounded to `digits` decimals, of `paper_n` values."""
    n = len(values)
    if n == 0:
        return Value(kind, math.nan, math.nan, math.nan, 0, paper)
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if n > 1 else math.nan
    half = _Z * spread / math.sqrt(n)
    if paper is None:
        return Value(kind, mean, mean - half, mean + half, n)
    reach = _Z * spread * math.sqrt(1 / n + 1 / max(paper_n, 1)) + 0.5 * 10.0**-digits
    return Value(kind, mean, mean - half, mean + half, n, paper, abs(mean - paper) > reach)


def spread(runs: Sequence[Sequence[Table]], seeds: Sequence[int] = ()) -> list[Table]:
    """One table for each that a run has: means over the runs, and the least and the greatest in place of intervals.

    Tables, rows and columns are put together by their names; what a run lacks is named in the note of the table, and
    the means are those of the others. A value is apart from the paper's where it is in every run; `n` counts runs.

    Args:
        runs: the tables of each.
        seeds: what each run is called in the notes; its place if there are none.
    """
    called = seeds or range(len(runs))
    by = [dict(zip(keyed([table.name for table in run]), run, strict=True)) for run in runs]
    return [_together([run.get(key) for run in by], called) for key in merged([list(run) for run in by])]


Key = tuple[str, int]
"""A name, and how often it was there before."""


def keyed(names: Sequence[str]) -> list[Key]:
    """Names as keys, each of which is there once.

    >>> keyed(["a", "b", "a"])
    [('a', 0), ('b', 0), ('a', 1)]
    """
    return [(name, list(names[:i]).count(name)) for i, name in enumerate(names)]


def merged(orders: Sequence[Sequence[Key]]) -> list[Key]:
    """All keys of several lists, each after the one that it follows where it is first.

    >>> merged([[("a", 0), ("c", 0)], [("a", 0), ("b", 0)]])
    [('a', 0), ('b', 0), ('c', 0)]
    """
    found: list[Key] = []
    for order in orders:
        place = 0
        for key in order:
            if key not in found:
                found.insert(place, key)
            place = found.index(key) + 1
    return found


def _together(tables: Sequence[Table | None], seeds: Sequence[int]) -> Table:
    """One table of several runs, None of those that lack it."""
    own = [(seed, table) for seed, table in zip(seeds, tables, strict=True) if table is not None]
    first = own[0][1]
    columns = merged([keyed(table.columns) for _, table in own])
    labels = merged([keyed([label for label, _ in table.rows]) for _, table in own])
    rows: dict[Key, list[dict[Key, Value | None]]] = {label: [] for label in labels}
    lacks = [f" Seed {seed} lacks this table." for seed, table in zip(seeds, tables, strict=True) if table is None]
    for seed, table in own:
        across, down = keyed(table.columns), keyed([label for label, _ in table.rows])
        for label, (_, values) in zip(down, table.rows, strict=True):
            rows[label].append(dict(zip(across, values, strict=True)))
        less = [key[0] for every, known in ((labels, down), (columns, across)) for key in every if key not in known]
        lacks += [f" Seed {seed} lacks {', '.join(less)}."] if less else []
    return replace(
        first,
        note=(first.note + "".join(lacks)).strip(),
        columns=tuple(name for name, _ in columns),
        rows=tuple(
            (label[0], tuple(over([run.get(column) for run in rows[label]]) for column in columns)) for label in labels
        ),
    )


def over(values: Sequence[Value | None]) -> Value | None:
    """The mean of one value in several runs, as `spread` gives it; None where no run has it."""
    known = [v for v in values if v is not None and not math.isnan(v.ours)]
    if not known:
        return None
    ours = [v.ours for v in known]
    apart = all(v.apart for v in known)
    return Value(known[0].kind, sum(ours) / len(ours), min(ours), max(ours), len(ours), known[0].paper, apart)


def overlap(one: Value, other: Value) -> bool:
    """Whether neither number can be said to be the greater: their intervals have a point in common, or one has none."""
    return not (one.low > other.high or other.low > one.high)


def told(value: Value) -> str:
    """A share as a sentence has it: with its 95% interval.

    >>> told(Value("share", 0.5, 0.25, 0.75, 10))
    '50.0% (25.0 to 75.0%)'
    """
    return f"{value.ours:.1%} ({100 * value.low:.1f} to {value.high:.1%})"


def joined(tables: Sequence[Table]) -> pd.DataFrame:
    """All values of the tables, as `Table.frame` gives them."""
    return pd.concat([table.frame() for table in tables], ignore_index=True)
