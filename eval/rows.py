"""What records say, as NumPy arrays of plain dtypes, whatever pandas made of them. Free of torch.

Names may be text, or categories: codes into a table, as `eval.frames` reads them. A missing value turns a column of
truth values into one of objects, on which `~` is arithmetic and `mean` fails; so nothing counts on a column before it
went through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from eval.intervals import Bools, Floats


def spelled(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names as text, where they are categories."""
    coded = {c: kind.categories.dtype for c, kind in table.dtypes.items() if isinstance(kind, pd.CategoricalDtype)}
    return table.astype(coded)


def flag(column: pd.Series[Any]) -> Bools:
    """Truth values; missing is false."""
    result: Bools = pd.array(column, dtype="boolean").to_numpy(dtype=bool, na_value=False)  # type: ignore[call-overload]
    return result


def numbers(column: pd.Series[Any]) -> Floats:
    """Floating-point numbers; missing is NaN."""
    return np.asarray(column.to_numpy(np.float64, na_value=np.nan), dtype=np.float64)


def named(column: pd.Series[Any], name: str) -> Bools:
    """Where a column of names has this one; what is missing is an empty name."""
    same = column == name
    return np.asarray(same if name else same | column.isna(), dtype=bool)


def erred(records: pd.DataFrame) -> Bools:
    """Which rows have no result, but the reason for it."""
    return ~named(records["error"], "")


def silent(records: pd.DataFrame) -> Bools:
    """Where the network gave the perturbed image no prediction, `adv_pred` -1: its logits were not all finite."""
    return np.asarray(numbers(records["adv_pred"]) < 0, dtype=bool)


def wrong(records: pd.DataFrame, prediction: str) -> Bools:
    """Where the column `prediction` (`clean_pred`, `adv_pred`) is not the label; a missing one is not."""
    return np.asarray(numbers(records[prediction]) != numbers(records["label"]), dtype=bool)


def within(records: pd.DataFrame, rank: str, top: int) -> Bools:
    """Where the label is among the likeliest `top` by the column `rank` (`clean_rank`, `adv_rank`)."""
    before = numbers(records[rank])
    return np.asarray((before >= 0) & (before < top), dtype=bool)


def white_box(records: pd.DataFrame, columns: Sequence[str] | None = None, among: Bools | None = None) -> pd.DataFrame:
    """The rows of attacks on the model that they were made for: all their columns, or those named.

    Args:
        records: of a run.
        columns: names of those that are wanted; all if None.
        among: which rows (n,) come into question; all if None.
    """
    own = (records["role"] == "attack") & (records["source"] == records["target_model"])
    own = own if among is None else own & among
    return (records if columns is None else records[list(columns)])[own]
