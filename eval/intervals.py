"""Shares with their intervals, by Wilson, and means of pairs that share their ends. Free of torch and pandas.

    centre = (p + z^2 / 2n) / (1 + z^2 / n)
    half   = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

    var(mean of e_p) = 1 / n^2 * sum of e_p e_q over all pairs p, q that have an end in common, p itself among them

Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
of the American Statistical Association 22, 1927. P. Aronow, C. Samii and V. Assenova, "Cluster-robust variance
estimation for dyadic data", Political Analysis 23, 2015 (arXiv 1312.3398), for pairs.
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


def paired_mean(values: Floats, ends: Codes) -> tuple[float, float, float]:
    """The mean of numbers that each belong to a pair of things, with its 95% interval over other things of their kind.

    Numbers whose pairs share a thing depend on one another, and count for less than as many that do not. Pairs without
    a common end count as independent; the interval is never narrower than if all were. Student's quantile, of half as
    many degrees of freedom as there are things, less one: for disjoint pairs his own interval.

    Args:
        values: (n,), without NaN.
        ends: (n, 2) the two things of each pair, by number.

    Returns:
        Mean, low, high; NaN where there are too few.

    >>> apart = np.arange(8).reshape(4, 2)
    >>> [round(v, 3) for v in paired_mean(np.array([1.0, 2.0, 3.0, 4.0]), apart)]
    [2.5, 0.446, 4.554]
    """
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    from scipy.special import stdtrit

    mean = float(values.mean())
    error = values - mean
    things, codes = np.unique(ends, return_inverse=True)
    codes = np.sort(codes.reshape(-1, 2), axis=1)
    _, same = np.unique(codes, axis=0, return_inverse=True)  # the same pair twice
    by_end = np.bincount(codes.ravel(), weights=np.repeat(error, 2))
    by_pair = np.bincount(same.ravel(), weights=error)
    alone = float((by_pair**2).sum())
    shared = float((by_end**2).sum()) - alone
    free = len(things) / 2
    if free <= 1:
        return mean, float("nan"), float("nan")
    variance = max(shared, alone) / len(values) ** 2 * free / (free - 1)
    half = float(stdtrit(free - 1, 0.975)) * variance**0.5
    return mean, mean - half, mean + half
