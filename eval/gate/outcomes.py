"""What became of each sample of a run: clean, under each attack, and in the worst case of all attacks.

The definitions are those of `eval.metrics`, without pandas. They differ in one thing: where an attack ended without a
result for a sample and no other attack broke it, the worst case is not known here, while a report counts it as robust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eval.columns import arrays, grouped
from eval.errors import InputError
from eval.intervals import Bools, Codes, Floats
from eval.levels import WORST, Threat
from eval.parts import read_table

Outcomes = npt.NDArray[np.uint8]

BROKEN, HELD, ABSENT = 0, 1, 2
"""What became of a sample: misclassified or broken; held; no result."""
CLEAN = "none"
"""The attack of the clean cell, as in the records."""

_NAMES = ("sample", "role", "source", "target_model", "attack", "norm", "error")
_NUMBERS = ("label", "eps", "clean_pred", "adv_pred")


class Cell(NamedTuple):
    """Where samples are counted: a network without an attack (`CLEAN`, eps "0"), under one at an eps, or in `WORST`."""

    model: str
    attack: str
    eps: str

    @property
    def test(self) -> str:
        """The cell without its network, in words."""
        return "clean" if self.attack == CLEAN else f"{self.attack}, eps {self.eps}"

    def __str__(self) -> str:
        return f"{self.model}: {self.test}"


class Rows:
    """The white-box and the clean rows of a run, column by column. Names are codes into sorted tables of names."""

    def __init__(self, table: pa.Table, distance: str) -> None:
        self.names, found = arrays(table)
        self.codes = {name: found[name] for name in _NAMES}
        self.values = {name: found[name] for name in (*_NUMBERS, distance)}
        self.distance = found[distance]
        self.success: Bools = found["success"]

    def is_(self, column: str, name: str, at: Codes | slice = slice(None)) -> Bools:
        """Where a column has this name, of the rows `at`."""
        known = self.names[column]
        return np.asarray(self.codes[column][at] == (known.index(name) if name in known else -1), dtype=bool)

    def by(self, chosen: Bools, *columns: str) -> dict[tuple[str, ...], Codes]:
        """The chosen rows (r,), ascending, by the names that they have in the columns."""
        at, place = np.flatnonzero(chosen), np.zeros(int(chosen.sum()), dtype=np.int64)
        for column in columns:
            place = place * len(self.names[column]) + self.codes[column][at]
        keys = [*product(*(self.names[column] for column in columns))]
        return {key: at[rows] for key, rows in zip(keys, grouped(place, len(keys)), strict=True)}

    @cached_property
    def _by_sample(self) -> tuple[dict[str, int], list[Codes]]:
        """The code of each sample, and its rows."""
        known = self.names["sample"]
        return {name: code for code, name in enumerate(known)}, grouped(self.codes["sample"], len(known))

    def of_sample(self, sample: str) -> Codes:
        """Which rows are of a sample: indices, ascending."""
        code, rows = self._by_sample
        return rows[code[sample]] if sample in code else np.zeros(0, dtype=np.int64)

    @cached_property
    def erred(self) -> Bools:
        """Which rows have no result, but the reason for it."""
        return ~self.is_("error", "")

    @cached_property
    def clean(self) -> Bools:
        """Which rows are of unperturbed images."""
        return self.is_("role", "clean")

    @cached_property
    def white_box(self) -> Bools:
        """Which rows are of attacks on the network that they were made for."""
        targets = {name: code for code, name in enumerate(self.names["target_model"])}
        own = np.array([targets.get(name, -1) for name in self.names["source"]], dtype=np.int64)
        return np.asarray(self.is_("role", "attack") & (own[self.codes["source"]] == self.codes["target_model"]))


def read_rows(folder: Path, distance: str) -> Rows:
    """The rows of a run.

    Args:
        folder: of the run.
        distance: the column of the threat's norm.

    Raises:
        InputError: a part is torn or of another schema, or there is none.
    """
    if not any((folder / "parts").glob("*.parquet")):
        raise InputError(f"{folder}: must hold the records of a run, but has none in parts; run it again")
    return Rows(read_table(folder, columns=[*_NAMES, *_NUMBERS, "success", distance]), distance)


@dataclass(frozen=True)
class Grid:
    """The outcomes of a run: by cell one of each sample (S,), in the order of `samples`, which is sorted.

    `untried` has the samples of cells that left no row there at all.
    """

    samples: tuple[str, ...]
    cells: Mapping[Cell, Outcomes]
    untried: Mapping[Cell, tuple[str, ...]]


def grid(rows: Rows, threat: Threat, models: Sequence[str], attacks: Sequence[str]) -> Grid:
    """The outcomes of all cells, in the order of the networks, the attacks and eps, clean first, worst last.

    There is a worst case where there are several attacks. `ABSENT` are samples that an attack was not tried on, and
    those on which it failed.
    """
    names, sample = tuple(rows.names["sample"]), rows.codes["sample"]
    wrong = rows.values["clean_pred"] != rows.values["label"]
    silent = (rows.values["adv_pred"] < 0) & ~wrong & ~rows.success
    failed = rows.erred | silent
    eps, reach = rows.values["eps"], np.nan_to_num(rows.distance, nan=np.inf, posinf=np.inf)
    everywhere = np.isinf(eps) | ~rows.is_("norm", threat.norm)
    reach = np.where(everywhere, reach, np.minimum(reach, eps))
    reach = np.where(failed, np.inf, np.where(wrong, 0.0, np.where(rows.success, reach, np.inf)))
    cells: dict[Cell, Outcomes] = {}
    untried: dict[Cell, tuple[str, ...]] = {}

    def enter(cell: Cell, chosen: Codes, bad: Bools, held: Bools) -> None:
        """Outcomes of the chosen rows (r,): a sample has one if one of its rows has."""
        result, at = np.full(len(names), ABSENT, dtype=np.uint8), sample[chosen]
        result[at[~bad]] = np.where(held[~bad], HELD, BROKEN)
        cells[cell] = result
        seen = np.zeros(len(names), dtype=bool)
        seen[at] = True
        if not seen.all():
            untried[cell] = tuple(names[i] for i in np.flatnonzero(~seen))

    clean = rows.by(rows.clean, "target_model")
    attacked = rows.by(rows.white_box, "source", "attack")
    none = np.zeros(0, dtype=np.int64)
    for model in models:
        mine = clean.get((model,), none)
        enter(Cell(model, CLEAN, "0"), mine, rows.erred[mine], ~wrong[mine])
        for attack in attacks:
            mine = attacked.get((model, attack), none)
            nearest: Floats = np.full(len(names), np.inf)
            np.minimum.at(nearest, sample[mine], reach[mine])
            for text, value in threat.levels:
                tried = mine[np.isclose(eps[mine], value, rtol=1e-9, atol=0.0) | everywhere[mine]]
                enter(Cell(model, attack, text), tried, failed[tried], ~threat.within(nearest, value)[sample[tried]])
        for text, _ in threat.levels if len(attacks) > 1 else ():
            cells[Cell(model, WORST, text)] = worst([cells[Cell(model, attack, text)] for attack in attacks])
    return Grid(names, cells, untried)


def worst(several: Sequence[Outcomes]) -> Outcomes:
    """The worst case of the outcomes under several attacks: broken by one of them; held if all have a result.

    >>> worst([np.array([1, 1, 2, 2], np.uint8), np.array([1, 0, 0, 1], np.uint8)]).tolist()
    [1, 0, 0, 2]
    """
    stack = np.stack(several)
    return np.where((stack == BROKEN).any(0), BROKEN, stack.max(0)).astype(np.uint8)
