"""The records of a run as a data frame whose names are codes: ten million rows take a gigabyte. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.columns import Small, arrays, give_back, small
from eval.parts import COLUMNS, NAMES, read_table

_ORDER = ("source", "role", "attack", "norm", "eps", "target_model", "sample")
_NETWORKS = ("source", "target_model")


def read_frame(
    folder: Path, parts: Sequence[str] | None = None, columns: Sequence[str] = tuple(COLUMNS)
) -> pd.DataFrame:
    """The rows of a run, sorted so that the order of the parts does not matter.

    Columns of names are categorical, their categories in the order of the alphabet; those of networks have the same.

    Args:
        folder: of the run.
        parts: names of parts; all if None.
        columns: the names of those that are wanted; those that rows are sorted by are there in any case.

    Raises:
        InputError: a part is torn, damaged or of another schema.
    """
    wanted = [c for c in COLUMNS if c in columns or c in _ORDER]
    names, found = arrays(read_table(folder, parts, wanted))
    every = sorted({name for column in _NETWORKS for name in names[column]})
    for column in _NETWORKS:
        found[column] = small(np.searchsorted(every, names[column]), len(every))[found[column]]
        names[column] = every
    order = np.lexsort([found[column] for column in reversed(_ORDER)])
    for column in wanted:
        found[column] = found[column][order]
        give_back()
    return pd.DataFrame({c: _named(v, names[c]) if c in NAMES else v for c, v in found.items()}, copy=False)


def _named(codes: Small, names: Sequence[str]) -> pd.Categorical[Any]:
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.array(names, dtype=object), dtype="str"))
