"""What became of each sample of a run: clean, under each attack, and in the worst case of all attacks.

The definitions are those of `eval.metrics`, without pandas. They differ in one thing: where an attack ended without a
result for a sample and no other attack broke it, the worst case is not known here, while a report counts it as robust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from eval.errors import InputError
from eval.intervals import Bools, Codes, Floats
from eval.levels import WORST, Threat

Outcomes = npt.NDArray[np.uint8]

BROKEN, HELD, ABSENT = 0, 1, 2
"""What became of a sample: misclassified or broken; held; no result."""
CLEAN = "none"
"""The attack of the clean cell, as in the records."""

_NAMES = ("sample", "role", "source", "target_model", "attack", "norm", "error")
_NUMBERS = ("label", "eps", "clean_pred", "adv_pred")
_DTYPES = {"int32": np.int32, "double": np.float64}


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
        self.names: dict[str, list[str]] = {}
        self.codes: dict[str, Codes] = {}
        for name in _NAMES:
            values = table[name].unify_dictionaries().combine_chunks()
            self.names[name] = [*map(str, values.dictionary.to_pylist())]
            if values.null_count and "" not in self.names[name]:
                self.names[name].append("")
            missing = self.names[name].index("") if values.null_count else 0
            self.codes[name] = _plain(values.indices, missing)
        self.values = {c: _plain(table[c].combine_chunks(), np.nan) for c in (*_NUMBERS, distance)}
        self.distance = self.values[distance]
        self.success = _plain(table["success"].combine_chunks(), 0).astype(bool)

    def is_(self, column: str, name: str, at: Codes | slice = slice(None)) -> Bools:
        """Where a column has this name, of the rows `at`."""
        known = self.names[column]
        return np.asarray(self.codes[column][at] == (known.index(name) if name in known else -1), dtype=bool)

    @cached_property
    def _by_sample(self) -> tuple[dict[str, int], Codes, Codes]:
        """The code of each sample, the rows in the order of the codes, and where each code begins in it."""
        codes = self.codes["sample"]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(self.names["sample"]) + 1))
        return {name: code for code, name in enumerate(self.names["sample"])}, order, starts

    def of_sample(self, sample: str) -> Codes:
        """Which rows are of a sample: indices, ascending."""
        code, order, starts = self._by_sample
        if sample not in code:
            return np.zeros(0, dtype=np.int64)
        return order[starts[code[sample]] : starts[code[sample] + 1]]

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


def _plain(column: pa.Array, missing: float) -> npt.NDArray[Any]:
    """A column as NumPy's, with a value for what is missing.

    From its buffers: every other way imports pandas or all of Arrow's functions, which takes longer than the rest.
    """
    validity, content = column.buffers()
    window = slice(column.offset, column.offset + len(column))
    if pa.types.is_boolean(column.type):
        values = _bits(content)[window]
    else:
        values = np.frombuffer(content, dtype=_DTYPES[str(column.type)])[window]
    return np.where(_bits(validity)[window], values, missing) if column.null_count else values


def _bits(buffer: pa.Buffer) -> Bools:
    return np.unpackbits(np.frombuffer(buffer, dtype=np.uint8), bitorder="little").astype(bool)


def read_rows(folder: Path, distance: str) -> Rows:
    """The rows of a run.

    Args:
        folder: of the run.
        distance: the column of the threat's norm.

    Raises:
        InputError: a part is torn or of another schema, or there is none.
    """
    paths = sorted((folder / "parts").glob("*.parquet"))
    if not paths:
        raise InputError(f"{folder}: must hold the records of a run, but has none in parts; run it again")
    columns = [*_NAMES, *_NUMBERS, "success", distance]

    def read(path: Path) -> pa.Table:
        try:
            file = pq.ParquetFile(path, read_dictionary=list(_NAMES), pre_buffer=False)
            if missing := set(columns) - set(file.schema_arrow.names):
                raise InputError(
                    f"{path}: columns must be those of a record, but lacks {sorted(missing)}; run it again"
                )
            return file.read(columns=columns, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            what = " ".join(str(error).split())
            raise InputError(f"{path}: must be a whole Parquet part, got: {what}; delete it and run again") from None

    return Rows(pa.concat_tables([read(path) for path in paths]), distance)


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
    known = rows.names["sample"]
    order = np.argsort(np.array(known, dtype=object), kind="stable") if known else np.zeros(0, dtype=np.int64)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    sample, size = rank[rows.codes["sample"]], len(order)
    wrong = rows.values["clean_pred"] != rows.values["label"]
    silent = (rows.values["adv_pred"] < 0) & ~wrong & ~rows.success
    failed = rows.erred | silent
    eps, reach = rows.values["eps"], np.nan_to_num(rows.distance, nan=np.inf, posinf=np.inf)
    everywhere = np.isinf(eps) | ~rows.is_("norm", threat.norm)
    reach = np.where(everywhere, reach, np.minimum(reach, eps))
    reach = np.where(failed, np.inf, np.where(wrong, 0.0, np.where(rows.success, reach, np.inf)))
    cells: dict[Cell, Outcomes] = {}
    names = tuple(known[i] for i in order)
    untried: dict[Cell, tuple[str, ...]] = {}

    def enter(cell: Cell, chosen: Bools, bad: Bools, held: Bools) -> None:
        """Outcomes of the chosen rows (r,): a sample has one if one of its rows has."""
        result, at = np.full(size, ABSENT, dtype=np.uint8), sample[chosen]
        result[at[~bad[chosen]]] = np.where(held[~bad[chosen]], HELD, BROKEN)
        cells[cell] = result
        seen = np.zeros(size, dtype=bool)
        seen[at] = True
        if not seen.all():
            untried[cell] = tuple(names[i] for i in np.flatnonzero(~seen))

    for model in models:
        mine = rows.clean & rows.is_("target_model", model)
        enter(Cell(model, CLEAN, "0"), mine, rows.erred, ~wrong[mine])
        for attack in attacks:
            chosen = rows.white_box & rows.is_("source", model) & rows.is_("attack", attack)
            nearest: Floats = np.full(size, np.inf)
            np.minimum.at(nearest, sample[chosen], reach[chosen])
            for text, value in threat.levels:
                tried = chosen & (np.isclose(eps, value, rtol=1e-9, atol=0.0) | everywhere)
                enter(Cell(model, attack, text), tried, failed, ~threat.within(nearest, value)[sample[tried]])
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
