"""Numbers with 95% intervals that hold for few values as well, differences of them, and what they say. Free of torch.

    mean             Student's t
    median           the widest pair of order statistics that n fair coins leave: P(fewer than d heads) <= 2.5%
    mean of draws    var = var over draws / D + var over images / n, with Welch and Satterthwaite's degrees of freedom

Below `FEWEST` values there is no interval: not even if all had one sign could chance be ruled out at 5%, as 2 / 2^5 is
more than that. Percentiles of a bootstrap, which give one value alone a width of 0, are too narrow for a few: without
any difference 24% of those of 3 values, and 14% of those of 6, are told as one.

Source: Student, Biometrika 6, 1908. W. R. Thompson, "On confidence ranges for the median", Annals of Mathematical
Statistics 7, 1936. F. E. Satterthwaite, Biometrics Bulletin 2, 1946. G. Zou and A. Donner, "Construction of confidence
limits about effect measures: a general approach", Statistics in Medicine 27, 2008, for the difference of two numbers
with intervals; of shares it is Newcombe's.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, stdtrit

from eval.exponents import student
from eval.intervals import Codes, Floats, paired_mean, wilson
from eval.studies.cells import Value

FEWEST = 6
"""Values that an interval needs."""
TOO_FEW = "too few to tell"
"""What a verdict says without an interval."""


def mean_of(values: npt.ArrayLike, kind: str = "number") -> Value:
    """The mean of what is known of `values` (n,), with Student's interval; that of shares ends where shares end.

    >>> mean_of([1.0, 1.0, np.nan]).n
    2
    """
    known = _known(values)
    n = len(known)
    if n < FEWEST:
        return _alone(kind, known, float(known.mean()) if n else math.nan)
    return _inside(Value(kind, float(known.mean()), *student(known), n))


def correlation_of(values: npt.ArrayLike) -> Value:
    """The mean of what is known of correlations (n,), with Student's interval within what a correlation can be."""
    return _correlation(mean_of(values))


def median_of(values: npt.ArrayLike, kind: str = "number") -> Value:
    """The median of what is known of `values` (n,), with the interval of the sign test.

    >>> median_of([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    Value(kind='number', ours=3.5, low=1.0, high=6.0, n=6, paper=None, apart=False)
    """
    known = np.sort(_known(values))
    n = len(known)
    if n < FEWEST:
        return _alone(kind, known, float(np.median(known)) if n else math.nan)
    depth = int((bdtr(np.arange(n // 2), n, 0.5) <= 0.025).sum())  # coins that are left out on either side
    return Value(kind, float(np.median(known)), float(known[depth - 1]), float(known[n - depth]), n)


def share_of_groups(hits: npt.ArrayLike) -> Value:
    """The share of `hits` (g, m), with Wilson's interval as of g things: those of a group may share their fate.

    >>> value = share_of_groups(np.ones((10, 3), bool))
    >>> value.n, round(value.low, 3)
    (10, 0.722)
    """
    by_group = np.asarray(hits, dtype=np.float64).mean(1)
    low, high = (float(bound) for bound in wilson(by_group.sum(), len(by_group)))
    return Value("share", float(by_group.mean()), low, high, len(by_group))


def of_pairs(values: Floats, partner: Codes) -> Value:
    """The mean of what is known of `values` (n,), each of an image and of its `partner` (n,), with its 95% interval.

    An image is in its own pair and in those of which it is the partner; the interval knows that.
    """
    known = ~np.isnan(values)
    n = int(known.sum())
    ends = np.stack([np.arange(len(values)), partner], axis=1)
    mean, low, high = paired_mean(values[known].astype(np.float64), ends[known])
    return Value("number", mean, *((low, high) if n >= FEWEST else (math.nan, math.nan)), n)


def correlation_of_pairs(values: Floats, partner: Codes) -> Value:
    """`of_pairs` of correlations, the interval within what one can be."""
    return _correlation(of_pairs(values, partner))


def of_draws(drawn: npt.ArrayLike, kind: str = "number") -> Value:
    """The mean of what was measured of things that were drawn at random, (D, n) on n images, over draws and images.

    Where one thing alone was drawn there is no interval; `n` counts images.
    """
    by = np.asarray(drawn, dtype=np.float64)
    return _crossed(kind, by.mean(1), by.mean(0))


def beyond_draws(ours: npt.ArrayLike, drawn: npt.ArrayLike, kind: str = "excess") -> Value:
    """How much greater the mean of `ours` (n,) is than that of draws (D, n), image by image, over draws and images."""
    by = np.asarray(drawn, dtype=np.float64)
    return _crossed(kind, by.mean(1), np.asarray(ours, dtype=np.float64) - by.mean(0))


def _crossed(kind: str, by_draw: Floats, by_image: Floats) -> Value:
    """The mean of `by_image` (n,), of which the draws (D,) are one source of chance, and the images another.

    Chance in a single draw on a single image is in both, so that the interval is too wide rather than too narrow.
    """
    mean, n = float(by_image.mean()), len(by_image)
    if min(len(by_draw), n) < 2:
        return Value(kind, mean, math.nan, math.nan, n)
    parts = [(float(by.var(ddof=1)) / len(by), len(by) - 1) for by in (by_draw, by_image)]
    variance = sum(part for part, _ in parts)
    free = variance**2 / sum(part**2 / degrees for part, degrees in parts) if variance > 0 else 1.0
    half = float(stdtrit(free, 0.975)) * math.sqrt(variance)
    return _inside(Value(kind, mean, mean - half, mean + half, n))


def beyond(one: Value, other: Value) -> Value:
    """How much greater one number is than another, measured on other things, with its 95% interval."""
    more = one.ours - other.ours
    low = more - math.hypot(one.ours - one.low, other.high - other.ours)
    high = more + math.hypot(one.high - one.ours, other.ours - other.low)
    return Value(one.kind, more, low, high, min(one.n, other.n))


def verdict(gap: Value, more: str, less: str, neither: str = "no difference can be told") -> str:
    """What a difference with its interval says; without an interval, that there is too little to say anything.

    >>> verdict(Value("number", 0.5, -0.1, 1.1, 10), "more", "less")
    'no difference can be told'
    >>> verdict(Value("number", 0.5, math.nan, math.nan, 1), "more", "less")
    'too few to tell'
    """
    if math.isnan(gap.low) or math.isnan(gap.high):
        return TOO_FEW
    return more if gap.low > 0 else less if gap.high < 0 else neither


def standing(clear: int, cases: int, against: int = 0) -> str:
    """What becomes of a claim that holds clearly in some of all cases, and clearly does not in some others.

    >>> standing(3, 3), standing(0, 2, 2), standing(0, 2, 1)
    ('the claim stands here', 'the claim does not stand here', 'whether the claim stands here cannot be told')
    >>> standing(1, 3, 2), standing(0, 0)
    ('the claim stands here in 1 of 3 cases, in 2 it does not', 'whether the claim stands here cannot be told')
    """
    if not cases:
        return "whether the claim stands here cannot be told"
    if clear == cases:
        return "the claim stands here"
    if clear:
        return f"the claim stands here in {clear} of {cases} cases" + (f", in {against} it does not" if against else "")
    return "the claim does not stand here" if against == cases else "whether the claim stands here cannot be told"


def said(value: Value, digits: int = 2) -> str:
    """A number as a sentence has it: with its 95% interval, or with how few values there are.

    >>> said(Value("number", 0.5, 0.25, 0.75, 10))
    '0.50 (0.25 to 0.75)'
    >>> said(Value("number", -0.001, math.nan, math.nan, 3))
    '0.00 (n=3, no interval)'
    """
    if math.isnan(value.ours):
        return "unknown"
    ours, low, high = (round(part, digits) + 0.0 for part in (value.ours, value.low, value.high))  # no negative zero
    if math.isnan(low) or math.isnan(high):
        return f"{ours:.{digits}f} (n={value.n}, no interval)"
    return f"{ours:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _known(values: npt.ArrayLike) -> Floats:
    known = np.asarray(values, dtype=np.float64)
    found: Floats = known[~np.isnan(known)]
    return found


def _alone(kind: str, known: Floats, ours: float) -> Value:
    return Value(kind, ours, math.nan, math.nan, len(known))


def _inside(value: Value) -> Value:
    """The interval of a share, or of a difference of shares, cut where there can be none."""
    if value.kind not in ("share", "excess"):
        return value
    return _cut(value, 0.0 if value.kind == "share" else -1.0)


def _correlation(value: Value) -> Value:
    return _cut(value, -1.0)


def _cut(value: Value, least: float) -> Value:
    """The interval from `least` to 1 at most; none stays none."""
    return replace(value, low=float(np.maximum(least, value.low)), high=float(np.minimum(1.0, value.high)))
