"""Numbers with intervals by the bootstrap: of the samples drawn again, with replacement. Free of torch.

Source: B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993, section 13.3: percentiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eval.intervals import Floats
from eval.studies.cells import Value

_TIMES = 2000

Statistic = Callable[..., Any]
"""As NumPy's mean and median take their arguments."""


def resampled(values: Floats, statistic: Statistic = np.mean, kind: str = "number") -> Value:
    """The mean of what is known of `values` (n,), or its median, with its 95% interval over other samples.

    >>> resampled(np.array([1.0, 1.0, np.nan])).n
    2
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    n = len(known)
    if n == 0:
        return Value(kind, np.nan, np.nan, np.nan, 0)
    drawn = known[np.random.default_rng(0).integers(n, size=(_TIMES, n))]
    low, high = np.quantile(statistic(drawn, axis=1), [0.025, 0.975])
    return Value(kind, float(statistic(known)), float(low), float(high), n)


def said(value: Value, digits: int = 2) -> str:
    """A number as a sentence has it: with its 95% interval.

    >>> said(Value("number", 0.5, 0.25, 0.75, 10))
    '0.50 (0.25 to 0.75)'
    """
    return f"{value.ours:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
