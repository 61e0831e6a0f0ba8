"""Randomised smoothing: the class that a network gives most often under noise, and how far that is proved to hold.

The smoothed network g(x) = argmax_c P(f(x + d) = c), d normal with deviation sigma, is another network than f. With
probability 1 - alpha over the draws its class at x is c within

    ||r||_2 <= sigma Phi^-1(p),    p the lower end of Clopper and Pearson's interval of P(f(x + d) = c) at level alpha,

if p > 1/2, where c is the commonest of a first, separate set of draws; else nothing is said.

Source: Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019 (arXiv
1902.02918), algorithm CERTIFY.
Departures: n = 1,000 by default, where the paper has 100,000: no radius exceeds sigma Phi^-1(alpha^(1/n)), 2.46 sigma.
Cost: n0 + n forwards a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.rng import Rng
from eval.data import Samples
from eval.errors import InputError
from eval.intervals import Floats
from eval.trial import Arrays
from models.classifier import Classifier

_GROUP = 100  # draws of one stream, however large a batch is


@dataclass(frozen=True)
class Smoothing:
    """Proves classes of the smoothed network.

    Attributes:
        norm: in which radii are given, `l1`, `l2` or `linf`.
        sigma: deviation of the noise, in box units.
        images: samples, at most.
        first: draws that choose the class.
        draws: draws that its probability is bounded by.
        alpha: probability, for each sample, that what is said of it is wrong.
    """

    norm: str = "l2"
    sigma: float = 0.25
    images: int = 100
    first: int = 100
    draws: int = 1000
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise InputError(f"smoothing: the noise's deviation must be > 0 in box units, got {self.sigma:g}")
        if not 0 < self.alpha < 0.5:
            raise InputError(f"smoothing: alpha must be in (0, 1/2), got {self.alpha:g}")
        if min(self.images, self.first, self.draws) < 1:
            raise InputError("smoothing: images, first and draws must be at least 1")

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What is proved of the smoothed network.

        Returns:
            Per sample (n,): `sample`, its id; `right` bool, whether the smoothed network is proved to give its label;
            `abstained` bool, whether nothing is proved; `radius`, in box units of `norm`, 0 unless right. `alpha` ()
            and `sigma` ().
        """
        n = min(self.images, len(samples))
        chosen, lower = np.zeros(n, dtype=np.int64), np.zeros(n)
        for i in range(n):
            index = np.arange(i, i + 1)
            rng = Rng.of(seed, ["smoothing"], samples.ids[index].tolist(), device)
            x = samples.batch(index).to(device)
            chosen[i] = int(self._counts(classifier, x, rng.fold(0), self.first, batch_size).argmax())
            counts = self._counts(classifier, x, rng.fold(1), self.draws, batch_size)
            lower[i] = lower_bound(int(counts[chosen[i]]), self.draws, self.alpha)
        abstained = lower <= 0.5
        right = ~abstained & (chosen == samples.labels[:n])
        radius = np.where(right, radii(lower, self.sigma), 0.0)
        if self.norm == "linf":
            radius = radius / math.sqrt(math.prod(classifier.input_shape))
        ids = np.asarray(samples.ids[:n], dtype=str)
        alpha, sigma = np.array(self.alpha), np.array(self.sigma)
        return {
            "sample": ids, "right": right, "abstained": abstained, "radius": radius, "alpha": alpha, "sigma": sigma,
        }  # fmt: skip

    @torch.no_grad()
    def _counts(self, classifier: Classifier, x: Tensor, rng: Rng, draws: int, batch_size: int) -> Tensor:
        """How often each class (K,) is the answer to x (1, C, H, W) under noise."""
        counts = torch.zeros(classifier.num_classes, dtype=torch.int64, device=x.device)
        for start in range(0, draws, _GROUP):
            noise = rng.fold(start).normal(_GROUP, *x.shape[1:])[0, : draws - start]
            for some in noise.split(batch_size):  # type: ignore[no-untyped-call]
                counts += torch.bincount(classifier(x + self.sigma * some).argmax(1), minlength=len(counts))
        return counts.cpu()


def lower_bound(k: int, n: int, alpha: float) -> float:
    """The lower end of Clopper and Pearson's one-sided interval of a probability after k successes of n.

    >>> round(lower_bound(1000, 1000, 0.001), 6), lower_bound(0, 1000, 0.001)
    (0.993116, 0.0)
    """
    from scipy.stats import beta

    return float(beta.ppf(alpha, k, n - k + 1)) if k else 0.0


def radii(
    lower: np.ndarray[tuple[int], np.dtype[np.float64]], sigma: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Radii (n,) in L2 from lower bounds (n,) of the probability of the class; below 0 where that is below 1/2."""
    from scipy.stats import norm

    found: Floats = sigma * norm.ppf(np.minimum(lower, 1 - 1e-12))
    return found
