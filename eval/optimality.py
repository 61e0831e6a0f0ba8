"""How near a search for the smallest perturbation comes to the best that is known, as one number. Free of torch.

Let d_i be the distances that a search found for n images, d*_i the smallest that anything found, D = max d*_i and
rho(d) the share of images whose distance is greater than d: accuracy against eps. The area below rho up to D is the
mean of min(d_i, D), and the optimality is

    xi = 1 - (mean min(d_i, D) - mean d*_i) / (a D - mean d*_i),

with a the share of d*_i > 0, which is the clean accuracy: 1 for a search that finds the smallest everywhere, 0 for one
that finds nothing.

Source: Cina et al., "AttackBench: evaluating gradient-based attacks for adversarial examples", AAAI 2025
(arXiv 2404.19460), section 3.
Departures: the integral is that of the step function. The program of the authors takes trapezoids between the distances
of each search, from its own smallest on: for d* = (1, 2) and d = (1.9, 2) that gives 1.13, where 1 is perfect.
"""

from __future__ import annotations

import math

import numpy as np

from eval.intervals import Floats

_RESAMPLES = 1000
_LEVEL = 0.95


def optimality(found: Floats, best: Floats, most: float | None = None) -> float:
    """xi; NaN without images. 1 where nothing can be won: all are at distance 0 or D, and the search knows of it.

    Args:
        found: distances (n,) of the search, 0 where the image was misclassified to begin with, infinity where it found
            nothing.
        best: the smallest known (n,), at most `found`; infinity where nobody found anything.
        most: D; None for the greatest of `best` that is finite.

    NaN where nothing can be won and yet the search has found nothing on some image on which something is to be found.

    >>> round(optimality(np.array([1.9, 2.0]), np.array([1.0, 2.0])), 3)
    0.1
    """
    if len(best) == 0:
        return math.nan
    most = greatest(best) if most is None else most
    if np.isinf(found).any() and len(np.unique(np.minimum(best, most)[best > 0])) <= 1 and np.isfinite(best).any():
        return math.nan
    return float(_xi(np.minimum(found, most)[None], np.minimum(best, most)[None], most)[0])


def optimality_interval(found: Floats, best: Floats, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of xi over other images: bootstrap by percentiles, D held. NaN where xi is."""
    if math.isnan(optimality(found, best)):
        return math.nan, math.nan
    n, most = len(best), greatest(best)
    drawn = np.random.default_rng(seed).integers(n, size=(_RESAMPLES, n))
    values = _xi(np.minimum(found, most)[drawn], np.minimum(best, most)[drawn], most)
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def greatest(best: Floats) -> float:
    """D: the greatest finite distance, 0 without any."""
    return float(best[np.isfinite(best)].max(initial=0.0))


def steps(found: Floats) -> Floats:
    """The step function of accuracy against eps as points (m, 2) of a line: up to the greatest finite distance."""
    n = max(len(found), 1)
    at, fallen = np.unique(found[np.isfinite(found)], return_counts=True)
    left = 1.0 - np.r_[0, np.cumsum(fallen)] / n  # before the first distance, and from each on
    return np.array([(0.0, left[0]), *((x, y) for i, x in enumerate(at) for y in left[i : i + 2])])


def _xi(found: Floats, best: Floats, most: float) -> Floats:
    """Xi of each row of distances (R, n), cut at D."""
    least = best.mean(1)
    room = (best > 0).mean(1) * most - least
    lost = found.mean(1) - least
    known = room > 1e-12 * max(most, 1e-300)
    return np.asarray(1.0 - np.divide(lost, room, out=np.zeros_like(lost), where=known), dtype=np.float64)
