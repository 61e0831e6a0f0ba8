"""Numbers with intervals by the bootstrap, the samples drawn again, with replacement; differences. Free of torch.

Source: B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993, section 13.3: percentiles. G. Zou and A.
Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in Medicine 27, 2008,
for the difference of two numbers with intervals; of shares it is Newcombe's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eval.intervals import Codes, Floats, paired_mean
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


def of_pairs(values: Floats, partner: Codes) -> Value:
    """The mean of what is known of `values` (n,), each of an image and of its `partner` (n,), with its 95% interval.

    An image is in its own pair and in those of which it is the partner; the interval knows that.
    """
    known = ~np.isnan(values)
    ends = np.stack([np.arange(len(values)), partner], axis=1)
    return Value("number", *paired_mean(values[known].astype(np.float64), ends[known]), int(known.sum()))


def beyond(one: Value, other: Value) -> Value:
    """How much greater one number is than another, measured on other things, with its 95% interval."""
    more = one.ours - other.ours
    low = more - math.hypot(one.ours - one.low, other.high - other.ours)
    high = more + math.hypot(one.high - one.ours, other.ours - other.low)
    return Value(one.kind, more, low, high, min(one.n, other.n))


def verdict(gap: Value, more: str, less: str, neither: str = "no difference can be told") -> str:
    """What a difference with its interval says.

    >>> verdict(Value("number", 0.5, -0.1, 1.1, 10), "more", "less")
    'no difference can be told'
    """
    return more if gap.low > 0 else less if gap.high < 0 else neither


def said(value: Value, digits: int = 2) -> str:
    """A number as a sentence has it: with its 95% interval.

    >>> said(Value("number", 0.5, 0.25, 0.75, 10))
    '0.50 (0.25 to 0.75)'
    """
    return f"{value.ours:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
