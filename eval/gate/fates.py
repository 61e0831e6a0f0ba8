"""What the records of a run say of one sample in one cell: for lists of the samples that were lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.gate.outcomes import CLEAN, Cell
from eval.gate.snapshot import Snapshot
from eval.levels import WORST


@dataclass(frozen=True)
class Fate:
    """One sample.

    Attributes:
        label: its class.
        before: the class that the network sees without a perturbation.
        after: the class that it sees with it; -1 where it gave no answer.
        attack: that did it: of the worst case the one that moved it least. Empty where it needed none.
        size: of the perturbation in the norm of the threat; 0 where none was needed.
    """

    label: int
    before: int
    after: int
    attack: str = ""
    size: float = 0.0


def fate(snapshot: Snapshot, cell: Cell, sample: str) -> Fate | None:
    """The fate of a sample in a cell of a run; None of a baseline, which keeps outcomes alone."""
    rows = snapshot.rows
    if rows is None:
        return None
    mine = rows.of_sample(sample)
    clean = mine[rows.clean[mine] & rows.is_("target_model", cell.model, mine)]
    if not len(clean):
        return None
    label, before = (int(rows.values[c][clean[0]]) for c in ("label", "clean_pred"))
    if cell.attack == CLEAN or before != label:
        return Fate(label, before, before)
    chosen = mine[rows.white_box[mine] & rows.is_("source", cell.model, mine)]
    if cell.attack != WORST:
        chosen = chosen[rows.is_("attack", cell.attack, chosen)]
    eps = dict(snapshot.levels)[cell.eps]
    chosen = chosen[np.isinf(rows.values["eps"][chosen]) | (rows.values["eps"][chosen] <= eps * (1 + 1e-9))]
    if not len(chosen):
        return Fate(label, before, before)
    success, distance = rows.success[chosen], np.nan_to_num(rows.distance[chosen], nan=np.inf)
    place = np.lexsort((distance, ~success))[0]  # the smallest success, else the nearest failure
    one = int(chosen[place])
    attack = rows.names["attack"][rows.codes["attack"][one]]
    return Fate(label, before, int(rows.values["adv_pred"][one]), attack, float(distance[place]))
