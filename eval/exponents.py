"""Exponents of power laws, y ~ d^alpha, with intervals over seeds and over images. Free of torch.

The exponent of one seed is the slope of the least-squares line through (log d, log of the median of y over images).
Over seeds it is their mean, with Student's t interval; over images, the middle 95% of what resampled images give, the
same ones for all seeds and sizes, with the mean over the seeds that there are.

Beside them stand closed forms: how much of a ball lies near its surface, and how far a set of a given share of a sphere
can be at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

Floats = npt.NDArray[np.float64]
_RESAMPLES = 500
_AT_ONCE = 2_000_000  # numbers that are resampled
_FEW = 3  # images, fewer of which have no median to speak of


@dataclass(frozen=True)
class Exponent:
    """A power law's exponent.

    Attributes:
        by_seed: (S,).
        low: of Student's 95% interval over seeds; NaN for a single one.
        high: see `low`.
        near: of the 95% interval over images.
        far: see `near`.
        images: the fewest that a seed's exponent is about.
    """

    by_seed: Floats
    low: float
    high: float
    near: float
    far: float
    images: int

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.by_seed.mean())


def slope(pixels: npt.ArrayLike, logs: npt.ArrayLike) -> Floats:
    """The slopes (...) of logs (..., D), natural, against the logarithm of `pixels` (D,); NaN for one size alone.

    >>> round(float(slope([1, 10, 100], np.log([3, 30, 300]))), 9)
    1.0
    """
    across = np.log(np.asarray(pixels, dtype=np.float64))
    across = across - across.mean()
    spread = float(across @ across)
    found: Floats = np.asarray(np.asarray(logs, dtype=np.float64) @ across / (spread or math.nan))
    return found


def student(values: npt.ArrayLike) -> tuple[float, float]:
    """The 95% interval of the mean of a few normal values; NaN for one alone.

    >>> [round(bound, 3) for bound in student([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return math.nan, math.nan
    half = float(stdtrit(len(sample) - 1, 0.975)) * float(sample.std(ddof=1)) / len(sample) ** 0.5
    return float(sample.mean()) - half, float(sample.mean()) + half


def medians(values: Floats) -> Floats:
    """The medians (...) of values (..., n) that are not NaN; NaN where there are fewer than three."""
    ordered = np.sort(values, axis=-1)  # NaN goes last
    count = (~np.isnan(values)).sum(axis=-1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)
    picked = [np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0] for place in (low, high)]
    found: Floats = np.where(count >= _FEW, (picked[0] + picked[1]) / 2, math.nan)
    return found


def together(values: Floats) -> Floats:
    """Values (S, D, n) without images that one size lacks: NaN for a seed is NaN at all its sizes."""
    return np.where(np.isnan(values).any(axis=1, keepdims=True), math.nan, values)


def exponent(pixels: npt.ArrayLike, values: Floats, beside: Floats | None = None, seed: int = 0) -> Exponent:
    """How values grow with the number of pixels.

    Args:
        pixels: (D,).
        values: (S, D, n), by seed, size and image; NaN for an image that does not count.
        beside: (S, D, n) or (D, n) whose own exponent is subtracted, on the images that count for `values`.
        seed: of the resampling.
    """
    counted = together(values)
    usual = None if beside is None else np.where(np.isnan(counted), math.nan, np.broadcast_to(beside, counted.shape))

    def slopes(index: npt.NDArray[np.int64]) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(medians(counted[..., index]))  # (S, D, resamples)
            if usual is not None:
                logs = logs - np.log(medians(usual[..., index]))
        logs = np.where(np.isfinite(logs), logs, math.nan)  # a median of 0 or of what was not found has no logarithm
        return slope(pixels, logs.swapaxes(1, 2))

    n = values.shape[-1]
    by_seed = slopes(np.arange(n)[None])[:, 0]
    index = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
    parts = np.array_split(index, min(_RESAMPLES, 1 + index.size * values[..., 0].size // _AT_ONCE))
    drawn = np.concatenate([slopes(part).mean(axis=0) for part in parts])
    near, far = np.quantile(drawn, [0.025, 0.975])
    images = int((~np.isnan(counted[:, 0])).sum(axis=-1).min())
    return Exponent(by_seed, *student(by_seed), float(near), float(far), images)


def near_surface(depth: float, dimensions: npt.ArrayLike) -> Floats:
    """The share of a ball's volume within a part `depth` of its radius of the surface: 1 - (1 - depth)^d.

    >>> round(float(near_surface(0.01, 784)), 4)
    0.9996
    """
    return np.asarray(-np.expm1(np.asarray(dimensions, dtype=np.float64) * math.log1p(-depth)))


def farthest_error(share: float, dimensions: int) -> float:
    """How far from points of the unit sphere a set that holds a `share` of it can be at most, on average.

    It is the distance to a cap, -Phi^-1(share) / sqrt(d), the largest of all sets by isoperimetry.

    Source: J. Gilmer et al., "Adversarial spheres", 2018 (arXiv 1801.02774), theorem 5.1.

    >>> round(farthest_error(1e-3, 500), 3)
    0.138
    """
    return float(-ndtri(share) / np.sqrt(dimensions))


def half_space(sigma: npt.ArrayLike, error: npt.ArrayLike) -> Floats:
    """The distance of a hyperplane beyond which a share `error` of Gaussian noise of deviation `sigma` lies.

    >>> round(float(half_space(2.0, 0.1586553)), 4)
    2.0
    """
    return np.asarray(-np.asarray(sigma, dtype=np.float64) * ndtri(np.asarray(error, dtype=np.float64)))
