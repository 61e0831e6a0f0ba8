"""The smallest distances that are known, image by image, as they are stored between runs. Free of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from eval.errors import InputError

KEYS = ["weights", "data", "sample", "norm"]
"""What a distance belongs to: the fingerprint of the network, the data's name, the sample's, and the norm."""

COLUMNS = ["network", *KEYS, "distance", "attack"]
"""`distance` is infinite where no attack found anything; `attack` is the one that came nearest."""


def read_pool(path: Path) -> pd.DataFrame:
    """The pool in a file.

    Raises:
        InputError: there is none, or it is not one.
    """
    try:
        pool = pd.read_csv(path, dtype={name: str for name in COLUMNS if name != "distance"}, keep_default_na=False)
        pool["distance"] = pool["distance"].astype(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"study.pool: must be a pool.csv that this experiment wrote, got {path}: {error}") from None
    if missing := [name for name in COLUMNS if name not in pool]:
        raise InputError(f"study.pool: must have the columns {', '.join(COLUMNS)}, but {path} lacks {missing[0]}")
    if bool(((pool["distance"] < 0) | pool["distance"].isna()).any()):
        raise InputError(f"study.pool: distances must be >= 0, but not all in {path} are")
    return pool


def nearest(pools: list[pd.DataFrame]) -> pd.DataFrame:
    """One row for each network, image and norm: the nearest of all; of equals the first."""
    rows = pd.concat(pools, ignore_index=True)[COLUMNS]
    return rows.sort_values("distance", kind="stable").drop_duplicates(KEYS).sort_index().reset_index(drop=True)
