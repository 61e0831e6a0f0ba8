"""Another image beside each one, and what the maps of both have in common: a null for maps of the same image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from eval.inside.ranks import rank_correlation
from eval.intervals import Codes, Floats


def another(labels: npt.ArrayLike) -> Codes:
    """For each image (n,) the number of another one, of another class where there is one.

    It is the nearest before it, the last one coming before the first; its own where there is no other image.

    >>> another([0, 1, 1, 2]).tolist()
    [3, 0, 0, 2]
    """
    kinds = np.asarray(labels)
    n = len(kinds)
    before = (np.arange(n)[:, None] - np.arange(1, n + 1)) % max(n, 1)  # (n, n), the nearest first, itself last
    apart = kinds[before] != kinds[:, None]
    found: Codes = before[np.arange(n), apart.argmax(1)] if n else np.zeros(0, np.int64)
    return found


def in_common(maps: Tensor, partner: Codes) -> Floats:
    """Rank correlations (n,) of maps (n, ...) with those of their partners (n,); NaN where an image is its own."""
    pairs = enumerate(partner.tolist())
    return np.array([rank_correlation(maps[j], maps[i]) if i != j else np.nan for i, j in pairs], dtype=np.float64)
