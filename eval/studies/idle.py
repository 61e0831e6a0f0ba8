"""Transformations that leave the pictures of a run as they are, as measured. Free of torch."""

from __future__ import annotations

import pandas as pd

from eval.records import Run
from eval.rows import erred, numbers

_LEVEL = 1 / 255


def idle(run: Run, records: pd.DataFrame) -> list[str]:
    """The transformations that move no pixel of any unperturbed picture by half a level of 8 bits.

    A blur by a share of the side is none where the side is 8 pixels: what it would say of a perturbation is nothing.
    """
    low, high = run.data["box"]
    rows = records[~erred(records)]
    found = []
    for name in run.config["study"]["transformations"]:
        moved = numbers(rows.loc[rows["role"] == f"clean_{name}", "linf"])
        if len(moved) and moved.max() < 0.5 * _LEVEL * (high - low):
            found.append(name)
    return found
