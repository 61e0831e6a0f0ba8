"""The transfer matrices of a report, one per attack and budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.texts import Share, eps_label


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, one mapping each, with Python's own numbers. As `to_dict`, which takes ten times as long."""
    names = [str(name) for name in table]
    columns = [column.tolist() for _, column in table.items()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def share_of(row: dict[str, Any], value: str, n: str = "n", suffix: str = "") -> Share:
    """A share and its interval, from their columns."""
    return Share(float(row[value]), float(row[f"low{suffix}"]), float(row[f"high{suffix}"]), int(row[n]))


@dataclass(frozen=True)
class TransferCell:
    """Source to target; noise, transferred and targeted without trials where they were not measured.

    `rms` is a mean over the `moved` samples that have a perturbation; `error` is over all.
    """

    source: str
    target: str
    error: Share
    clean: float
    noise: Share
    transferred: Share
    targeted: Share
    moved: int
    rms: float
    failed: int


@dataclass(frozen=True)
class Matrix:
    """Transfer under one attack and budget: cells by source, then target; None where there is no record."""

    attack: str
    eps: str
    targets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[TransferCell | None, ...]], ...]
    headline: bool

    @property
    def targeted(self) -> bool:
        """Whether the goal was a class."""
        return any(c is not None and c.targeted.n > 0 for _, row in self.rows for c in row)

    @property
    def cells(self) -> list[TransferCell]:
        """All cells, row by row."""
        return [c for _, row in self.rows for c in row if c is not None]

    @property
    def clean(self) -> list[float]:
        """The clean error of each target (the mean over sources, which see the same samples)."""
        columns = [[c.clean for c in self.cells if c.target == t] for t in self.targets]
        return [sum(c) / len(c) if c else math.nan for c in columns]


def matrices(table: pd.DataFrame, order: Sequence[str], attacks: Sequence[str], headline: str) -> tuple[Matrix, ...]:
    """The matrices, those of the headline eps and of minimal attacks first; models and attacks in the given orders.

    There is none of what was judged by its own source alone.
    """
    groups: dict[tuple[str, str, float], list[TransferCell]] = {}
    for row in rows_of(table):
        groups.setdefault((row["attack"], row["eps_text"], row["eps"]), []).append(
            TransferCell(
                source=row["source"],
                target=row["target"],
                error=share_of(row, "error"),
                clean=float(row["clean_error"]),
                noise=share_of(row, "noise_error", "noise_n", "_noise"),
                transferred=share_of(row, "transferred", "transfer_n", "_transferred"),
                targeted=share_of(row, "targeted", "targeted_n", "_targeted"),
                moved=int(row["moved"]),
                rms=float(row["rms"]),
                failed=int(row["failed"]),
            )
        )
    rank = {name: i for i, name in enumerate(order)}
    turn = {name: i for i, name in enumerate(attacks)}
    result = []
    for (attack, text, eps), cells in sorted(
        groups.items(), key=lambda item: (turn.get(item[0][0], len(turn)), item[0][2])
    ):
        by = {(c.source, c.target): c for c in cells}
        sources = sorted({c.source for c in cells}, key=lambda m: rank.get(m, len(rank)))
        targets = sorted({c.target for c in cells}, key=lambda m: rank.get(m, len(rank)))
        if any(c.source != c.target for c in cells):  # else nobody but the source judged
            rows = tuple((s, tuple(by.get((s, t)) for t in targets)) for s in sources)
            first = text == headline or math.isinf(eps)
            result.append(Matrix(attack, eps_label(text), tuple(targets), rows, first))
    return tuple(sorted(result, key=lambda m: not m.headline))
