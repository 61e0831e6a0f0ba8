"""Shares with their intervals, by Wilson. Free of torch and pandas.

    centre = (p + z^2 / 2n) / (1 + z^2 / n)
    half   = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
of the American Statistical Association 22, 1927.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


def wilson(k: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of the shares k / n, elementwise; (0, 1) where n is 0.

    >>> [round(float(bound), 3) for bound in wilson(8, 10)]
    [0.49, 0.943]
    """
    successes, trials = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z2 = NormalDist().inv_cdf((1.0 + level) / 2.0) ** 2
    some = np.maximum(trials, 1.0)
    share = successes / some
    centre = (share + z2 / (2 * some)) / (1 + z2 / some)
    half = np.sqrt(z2 * (share * (1 - share) / some + z2 / (4 * some**2))) / (1 + z2 / some)
    low = np.where((trials > 0) & (successes > 0), centre - half, 0.0)
    high = np.where((trials > 0) & (successes < trials), centre + half, 1.0)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def rate(frame: pd.DataFrame, k: str, n: str, name: str, suffix: str = "") -> pd.DataFrame:
    """The frame with the share k / n as `name` (NaN without trials) and its `low`, `high`, suffixed."""
    trials = frame[n].to_numpy(np.float64)
    share = np.divide(frame[k].to_numpy(np.float64), trials, out=np.full(len(trials), np.nan), where=trials > 0)
    low, high = wilson(frame[k].to_numpy(np.float64), trials)
    return frame.assign(**{name: share, f"low{suffix}": low, f"high{suffix}": high})
