"""Which jobs of a sweep came out best and worst, and how much that says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.sweep_rows import Pool, Row, is_seed


@dataclass(frozen=True)
class Contest:
    """The rows of runs that completed and answer one question, the most robust first.

    Attributes:
        question: what sets them apart from other rows; empty where there are none.
        ranked: by `rank`.
        near: they have distances of minimal attacks, all in one norm, so that they can be compared.
        settings: what varied besides the seed, with the shares over the seeds, the largest median first; none where no
            setting has several.
    """

    question: str
    ranked: tuple[Row, ...]
    near: bool
    settings: tuple[tuple[str, Pool], ...] = ()

    def rank(self, row: Row) -> tuple[float, float]:
        """What rows are compared by: the share left standing, then the median distance in the digits that are shown."""
        known = self.near and not math.isnan(row.distance)
        return row.robust.value, float(f"{row.distance:.4g}") if known else 0.0

    @property
    def extremes(self) -> list[tuple[str, list[Row]]]:
        """The best rows and the worst, several where they tie; none where all do."""
        ranked = self.ranked
        if not ranked:
            return []
        best, worst = ([r for r in ranked if self.rank(r) == self.rank(end)] for end in (ranked[0], ranked[-1]))
        if len(ranked) == 1:
            return [("only", best)]
        return [] if len(best) == len(ranked) else [("best", best), ("worst", worst)]

    @property
    def beside(self) -> int:
        """How many rows that are not the best have an interval that reaches into that of the best."""
        best = self.ranked[0]
        return sum(r.robust.high >= best.robust.low for r in self.ranked if self.rank(r) != self.rank(best))

    @property
    def overlap(self) -> bool:
        """Whether even the intervals of the best and the worst overlap."""
        return self.ranked[0].robust.low <= self.ranked[-1].robust.high

    @property
    def caution(self) -> str:
        """What the intervals say of the order."""
        if len(self.ranked) < 2 or not self.extremes:
            return ""
        if self.overlap:
            return "The intervals of the best and the worst overlap: the whole order may be chance."
        if not self.beside:
            return "No other interval reaches into that of the best."
        reach = "has an interval that reaches" if self.beside == 1 else "have intervals that reach"
        others = f"{self.beside:,} of the {len(self.ranked) - 1:,} others"
        return f"{others} {reach} into that of the best: chance may have picked it among them."


def contests(keys: Sequence[str], rows: Sequence[Row]) -> tuple[Contest, ...]:
    """The rows by the question that they answer, the questions in the order of the rows.

    Args:
        keys: names of the values that each row has.
        rows: of all jobs.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.robust.known and row.trusted:
            groups.setdefault(row.question, []).append(row)
    return tuple(_contest(keys, mine) for mine in groups.values())


def _contest(keys: Sequence[str], rows: Sequence[Row]) -> Contest:
    norms = {r.distance_norm for r in rows}
    drawn = Contest(rows[0].asked, (), len(norms) == 1 and norms != {""})
    ranked = tuple(sorted(rows, key=drawn.rank, reverse=True))
    return Contest(drawn.question, ranked, drawn.near, _settings(keys, rows))


def _settings(keys: Sequence[str], rows: Sequence[Row]) -> tuple[tuple[str, Pool], ...]:
    others = [i for i, key in enumerate(keys) if not is_seed(key)]
    if len(others) == len(keys):
        return ()
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, *(row.values[i] for i in others)), []).append(row)
    if len(groups) < 2 or all(len(mine) == 1 for mine in groups.values()):
        return ()
    told = [i for i in others if len({row.values[i] for row in rows}) > 1]
    found = []
    for mine in groups.values():
        values = [f"{keys[i]}={mine[0].values[i]}" for i in told if mine[0].values[i] != mine[0].model]
        found.append((", ".join([mine[0].model, *values]), Pool.of(mine)))
    return tuple(sorted(found, key=lambda setting: -setting[1].value))
