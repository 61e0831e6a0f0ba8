"""What changed between runs, sample by sample: for the page on several runs, with the definitions of the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from eval.errors import InputError
from eval.gate.compare import comparable, compare, differences
from eval.gate.outcomes import Cell
from eval.gate.paired import Rules
from eval.gate.snapshot import Snapshot, read_run
from reports.gate.content import Changes, changes, read

_MOST = 8  # runs side by side
_PICTURES = 48  # samples with pictures on the page
COLUMNS = (
    "run_before", "run_after", "model_before", "model_after", "attack", "eps_text", "sample", "label", "class",
    "change", "pred_before", "pred_after", "by",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """The first run beside each of the others; of two runs that cannot be compared, why not."""

    pairs: tuple[Changes, ...] = ()
    why_not: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()

    @property
    def csv(self) -> pd.DataFrame:
        """Each sample that was lost or won, in each cell."""
        table = pd.DataFrame([*self.rows], columns=list(COLUMNS))
        return table.astype(dict.fromkeys(("label", "pred_before", "pred_after"), "Int64"))


class Job(Protocol):
    """A run, where it is, and why it has no result."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def folder(self) -> Path:
        """Of the run."""

    @property
    def problem(self) -> str:
        """Empty if it completed."""


def of_jobs(jobs: Sequence[Job]) -> Compared:
    """`compared` of the jobs that completed, or of two that were begun, whatever they did."""
    begun = [job for job in jobs if job.folder.is_dir()]
    chosen = begun if len(begun) == 2 else [job for job in jobs if not job.problem]
    return compared([job.folder for job in chosen], [job.name for job in chosen])


def compared(folders: Sequence[Path], names: Sequence[str]) -> Compared:
    """The first run beside each of the others that answers the same question, as far as there are not too many.

    Networks are paired by their names; where each run has one, they are paired whatever they are called.

    Args:
        folders: of the runs.
        names: what they are called.
    """
    if not 2 <= len(folders) <= _MOST:
        return Compared()
    try:
        first = read_run(folders[0])
    except InputError as error:
        return Compared(why_not=str(error) if len(folders) == 2 else "")
    found, rows, why_not = [], [], ""
    for folder, name in zip(folders[1:], names[1:], strict=True):
        try:
            after = read_run(folder)
            comparable(first, after, among=("threat", "goal"))
            pairs = paired(first, after)
        except InputError as error:
            why_not = str(error)
            continue
        apart = differences(first.question, after.question)
        renamed = [(old.model, new.model) for new, old in pairs.items() if old.model != new.model]
        networks = f"{renamed[0][0]} in {names[0]}, {renamed[0][1]} in {name}" if renamed else ""
        notes = tuple(
            f"{key}: {old} in {names[0]}, {new} in {name}" for key, old, new in apart if not key.startswith("data.")
        )
        comparison = compare(first, after, Rules(), pairs)
        most = _PICTURES // (len(folders) - 1)
        found.append(read(comparison, names[0], name, notes, networks=networks, most=most))
        told = changes(found[-1].comparison, pairs)
        rows += [{"run_before": names[0], "run_after": name, **row} for row in told]
    return Compared(tuple(found), why_not if len(folders) == 2 else "", tuple(rows))


def paired(before: Snapshot, after: Snapshot) -> dict[Cell, Cell]:
    """The cells of a run, with those of another that they are compared with.

    Raises:
        InputError: there is none.
    """
    same = {model: model for model in after.models if model in before.models}
    if not same and len(after.models) == len(before.models) == 1:
        same = dict(zip(after.models, before.models, strict=True))
    cells = {c: c._replace(model=same[c.model]) for c in after.cells if c.model in same}
    pairs = {new: old for new, old in cells.items() if old in before.cells}
    if not pairs:
        raise InputError(
            f"{after.where}: must have a network that {before.where} has too, or each just one, but has "
            f"{', '.join(after.models)} where that has {', '.join(before.models)}"
        )
    return pairs
