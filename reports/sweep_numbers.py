"""The numbers of thousands of jobs: the definitions of `eval.metrics`, applied to many jobs at a time.

Most of the time that a small job takes is that of a few hundred calls of pandas, whatever the number of rows. So jobs
that ask the same are counted in one table, where a network is called by its job and its name: no number is computed
in another way, and none knows of another job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from eval import effort, metrics
from eval.errors import InputError
from eval.frames import read_frame
from eval.metrics import WORST, Threat
from eval.parts import COLUMNS, read_table
from eval.records import Run
from eval.rows import numbers, white_box
from reports import tables
from reports.matrices import rows_of
from reports.sweep_store import Files, Numbers, Store

SUMMARY = (
    "model", "norm", "eps_text", "eps", "clean_n", "clean_accuracy", "clean_low", "clean_high", "n", "robust_accuracy",
    "low", "high", "robust_accuracy_8bit", "errors", *effort.DISTANCES,
)  # fmt: skip
COUNTED = ("clean_n", "n", "errors", "searched", "found")
"""Those of them that are whole numbers."""
_READ = (
    "sample", "label", "source", "target_model", "role", "attack", "norm", "eps", "eps_text", "clean_pred", "adv_pred",
    "success", "success_8bit", "l0", "l1", "l2", "linf", "rms", "forwards", "backwards", "seconds", "error",
)  # fmt: skip
_SPELLED = pa.schema([(name, kind) for name, kind in COLUMNS.items() if name in _READ])
_ORDER = ("source", "attack", "norm", "target_model", "sample")  # as in the records of a run
_ROWS = 200_000  # that are counted at a time
_JOBS = 512
_LARGE = 16_000_000  # bytes of parts: such a job is counted by itself
_BETWEEN = "|"  # of the number of a job and the name of its network


@dataclass
class _Batch:
    """Jobs that are counted together, with their budgets and their rows."""

    threats: dict[int, Threat] = field(default_factory=dict)
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0

    @property
    def full(self) -> bool:
        return len(self.threats) >= _JOBS or self.rows >= _ROWS


def count(jobs: Sequence[tuple[Path, Run]], store: Store) -> list[Numbers]:
    """The numbers of each job, given as its folder and its header; trouble with a job is told, and stops nothing.

    Args:
        jobs: see above.
        store: where numbers are taken from that an earlier report counted, and kept for a later one.
    """
    result = [Numbers()] * len(jobs)
    threats: dict[int, Threat] = {}
    files: dict[int, Files] = {}
    for place, (folder, run) in enumerate(jobs):
        try:
            threat = Threat.of(run)
        except InputError as error:
            result[place] = Numbers(problem=str(error))
            continue
        files[place] = Files.of(folder, threat)
        known = store.find(folder, files[place])
        if known is None:
            threats[place] = threat
        else:
            result[place] = known
    for place, found in _all(jobs, threats, files):
        store.keep(jobs[place][0], files[place], found)
        result[place] = found
    return result


def _all(
    jobs: Sequence[tuple[Path, Run]], threats: Mapping[int, Threat], files: Mapping[int, Files]
) -> Iterator[tuple[int, Numbers]]:
    """The numbers of the jobs that have a threat, with their places, those with few rows together."""
    batches: dict[Any, _Batch] = {}
    for place in sorted(threats, key=lambda place: threats[place].levels):
        folder, run = jobs[place]
        try:
            if files[place].size > _LARGE:
                yield place, _alone(folder, threats[place])
                continue
            table = read_table(folder, columns=_READ)
        except InputError as error:
            yield place, Numbers(problem=str(error))
            continue
        batch = batches.setdefault(_question(run, threats[place]), _Batch())
        batch.threats[place] = threats[place]
        batch.tables.append(table)
        batch.rows += len(table)
        if batch.full:
            yield from _counted(batch)
            batch.threats, batch.tables, batch.rows = {}, [], 0
    for batch in batches.values():
        yield from _counted(batch)


def _question(run: Run, threat: Threat) -> tuple[Any, ...]:
    """What jobs must share to be counted in one table; where minimal attacks have several norms, a job is alone."""
    norms = {str(a.get("norm")) for a in run.attacks if a.get("minimal")}
    alone = id(run) if len(norms) > 1 else 0
    return threat.norm, threat.width, tuple(norms), str(run.data.get("fingerprint")), alone


def _rows(batch: _Batch) -> pd.DataFrame:
    """The clean and the white-box rows of the jobs, their networks called by the number of the job too."""
    places = np.repeat([*batch.threats], [len(table) for table in batch.tables])
    table = pa.concat_tables(batch.tables).cast(_SPELLED)
    own = pc.and_(pc.equal(table["role"], "attack"), pc.equal(table["source"], table["target_model"]))
    chosen = pc.or_(own, pc.equal(table["role"], "clean"))
    table, number = table.filter(chosen), pa.array(places.astype(str)).filter(pc.fill_null(chosen, False))
    for column in ("source", "target_model"):
        called = pc.binary_join_element_wise(number, table[column], _BETWEEN)
        table = table.set_column(table.schema.get_field_index(column), column, called)
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _alone(folder: Path, threat: Threat) -> Numbers:
    """The numbers of a job of many rows, read as frugally as those of a page of its own."""
    frame = read_frame(folder)
    return Numbers(rows_of(_summary(frame, threat)), len(white_box(frame, ["role"])))


def _counted(batch: _Batch) -> Iterator[tuple[int, Numbers]]:
    if not batch.threats:
        return
    frame = _rows(batch)
    some = next(iter(batch.threats.values()))
    levels = sorted({level for threat in batch.threats.values() for level in threat.levels}, key=lambda level: level[1])
    table = _summary(frame, Threat(some.norm, tuple(levels), "", some.width))
    results = white_box(frame, ["target_model"])["target_model"].astype(str).str.split(_BETWEEN).str[0].value_counts()
    rows: dict[int, list[dict[str, Any]]] = {place: [] for place in batch.threats}
    for row in rows_of(table):
        number, _, model = row["model"].partition(_BETWEEN)
        if row["eps_text"] == "" or (row["eps_text"], row["eps"]) in batch.threats[int(number)].levels:
            rows[int(number)].append({**row, "model": model})
    for place in batch.threats:
        ordered = sorted(rows[place], key=lambda row: (row["model"], row["eps"]))
        yield place, Numbers(ordered, int(results.get(str(place), 0)))


def _summary(frame: pd.DataFrame, threat: Threat) -> pd.DataFrame:
    """The worst case over the attacks, for each network and eps, beside the clean accuracy.

    A network that no attack has come to has one row, of its clean accuracy, with an empty `eps_text`.
    """
    robust = metrics.robust_accuracy(metrics.outcomes(frame, threat), threat)
    minimal = frame[np.isinf(numbers(frame["eps"]))].sort_values([*_ORDER], kind="stable")  # means are sums in order
    clean = metrics.clean_accuracy(frame)
    worst = robust[robust["attack"] == WORST]
    table = tables.summary(worst, clean, set(), effort.minimal_distances(minimal))
    names = {"n": "clean_n", "low": "clean_low", "high": "clean_high"}
    rest = clean[~clean["model"].isin(worst["model"])].rename(columns=names)
    rest = rest.assign(norm=threat.norm, eps_text="", n=0, errors=0).reindex(columns=list(SUMMARY))
    table = table[list(SUMMARY)].astype({"searched": "float64", "found": "float64"})
    return pd.concat([table, rest], ignore_index=True) if len(rest) else table
