"""Distances from images to the boundary of their class, in L2 and in all of R^d: the box of valid pixels is left aside.

    r_adv  = the smallest |r| for which x + r is of another class, as a search for it finds
    r_rand = the smallest |t| for which x + t u is, for a random unit vector u

Random steps and noise are judged beside: the share of steps s u, of the length r_adv of the image or of a given root
mean square, that leave the class; and the share mu(sigma) of Gaussian noise of deviation sigma per pixel, for sigma as
multiples of r_adv. Where the boundary is a hyperplane, r_adv = -sigma Phi^-1(mu(sigma)) for every sigma.

Source: A. Fawzi, S. Moosavi-Dezfooli and P. Frossard, "Robustness of classifiers: from adversarial to random noise",
NeurIPS 2016 (arXiv 1608.08967), for the distances; N. Ford, J. Gilmer, N. Carlini and D. Cubuk, "Adversarial examples
are a natural consequence of test error in noise", ICML 2019 (arXiv 1901.10513), for the noise.
Departures: a line is followed from r_adv outwards in steps of sqrt(2), which are then halved, so that a crossing and
its return between two of them are passed over.
Cost: that of the search; per line some 4 log2(r_rand / r_adv) + 12 forwards; a forward for each step and draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.base import Attack, Logits
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.data import Samples
from eval.trial import Arrays
from models.classifier import Classifier

BOUNDARY = "boundary"
"""Name of the probe in a run's folder."""
WIDE = 3.0
"""Widths of the box that a search may leave it by, on either side: so far that nothing comes there."""
_FARTHEST = 20.0  # as RMS: where a line ends
_NEAREST = 0.01  # as RMS: where it begins if nothing adversarial was found
_FACTOR = math.sqrt(2)
_HALVINGS = 6


def batches(samples: Samples, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Goal, list[str]]]:
    """Images (B, C, H, W), the goal to leave their classes, and their ids."""
    for start in range(0, len(samples), batch_size):
        index = np.arange(start, min(start + batch_size, len(samples)))
        labels = torch.as_tensor(samples.labels[index], device=device)
        yield samples.batch(index).to(device), Goal(labels), samples.ids[index].tolist()


def nearest(logits: Logits, attack: Attack, x: Tensor, goal: Goal, bounds: tuple[float, float], rng: Rng) -> Tensor:
    """The length (B,) of the smallest perturbation that a search finds: 0 for what is wrong, infinity for nothing."""
    low, high = bounds
    away = WIDE * (high - low)
    threat = ThreatModel("l2", math.inf, (low - away, high + away))
    found = attack(logits, x, goal, threat, rng=rng)
    with torch.no_grad():
        length = (found.double() - x.double()).flatten(1).norm(dim=1)
        wrong, there = goal.reached(logits(x)), goal.reached(logits(found))
    return torch.where(wrong, 0.0, torch.where(there, length, math.inf))


@torch.no_grad()
def crossing(logits: Logits, x: Tensor, goal: Goal, direction: Tensor, begin: Tensor, most: float) -> Tensor:
    """How far the boundary is along lines through images, on the nearer side.

    Args:
        logits: the network.
        x: images (B, C, H, W).
        goal: to leave their classes.
        direction: unit vectors, shaped like `x`.
        begin: a distance (B,) up to which there is no boundary; 0 for images that are wrong.
        most: where a line ends, if not a step of sqrt(2) before.

    Returns:
        (B,), to 1%; 0 where `begin` is, infinity where a line ends before it crosses.
    """

    def left(rows: Tensor, length: Tensor) -> Tensor:
        """Whether the class (b,) is left at a distance on either side."""
        step = length.to(x.dtype).view(-1, 1, 1, 1) * direction[rows]
        return goal[rows].reached(logits(x[rows] + step)) | goal[rows].reached(logits(x[rows] - step))

    far = begin.clone()
    crossed = torch.zeros_like(begin, dtype=torch.bool)
    running = ((begin > 0) & (begin <= most)).nonzero()[:, 0]
    while len(running):
        there = left(running, far[running])
        crossed[running[there]] = True
        running = running[~there]
        far[running] *= _FACTOR
        running = running[far[running] <= most]
    found = crossed.nonzero()[:, 0]
    far, near = far[found], far[found] / _FACTOR
    for _ in range(_HALVINGS if len(found) else 0):
        middle = (near + far) / 2
        there = left(found, middle)
        near, far = torch.where(there, near, middle), torch.where(there, middle, far)
    distance = torch.where(begin == 0, 0.0, torch.full_like(begin, math.inf))
    return distance.index_copy(0, found, far)


def unit(rng: Rng, x: Tensor) -> Tensor:
    """A random direction for each image, shaped like `x` (B, C, H, W), of length 1."""
    drawn = rng.normal(x[0].numel())
    way: Tensor = (drawn / drawn.norm(dim=1, keepdim=True)).view_as(x)
    return way


@dataclass(frozen=True)
class Boundary:
    """Measures distances to the boundary.

    Attributes:
        attack: a search for the smallest perturbation in L2.
        lines: random lines an image.
        steps: random steps an image, of each length.
        rms: of the steps that are not of the length r_adv.
        noise: deviations of noise, as multiples of r_adv of the image.
        draws: of noise an image, for each deviation.
    """

    attack: Attack
    lines: int = 0
    steps: int = 0
    rms: float = 0.1
    noise: tuple[float, ...] = ()
    draws: int = 400

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What lies around the samples.

        Returns:
            `adversarial` (n,), r_adv: 0 for what is wrong unperturbed, infinity where nothing was found; `random`
            (n, lines); `left` (n, 2), share of steps of length r_adv and of `rms` that leave the class; `error`
            (n, deviations), share of noise that does.
        """
        found: dict[str, list[Tensor]] = {}
        for x, goal, ids in batches(samples, batch_size, device):
            rng = Rng.of(seed, [BOUNDARY], ids, device)
            for name, values in self._measure(classifier, x, goal, rng).items():
                found.setdefault(name, []).append(values)
        return {name: torch.cat(values).cpu().numpy() for name, values in found.items()}

    def _measure(self, classifier: Classifier, x: Tensor, goal: Goal, rng: Rng) -> dict[str, Tensor]:
        root = x[0].numel() ** 0.5
        distance = nearest(classifier, self.attack, x, goal, classifier.bounds, rng.fold(0))
        found = {"adversarial": distance}
        if self.lines:
            begin = torch.where(distance.isfinite(), distance, _NEAREST * root)
            rows = [
                crossing(classifier, x, goal, unit(rng.fold(1, i), x), begin, _FARTHEST * root)
                for i in range(self.lines)
            ]
            found["random"] = torch.stack(rows, 1)
        if self.steps:
            shares = [
                _share(classifier, x, goal, rng.fold(2), length, self.steps)
                for length in (_finite(distance), torch.full_like(distance, self.rms * root))
            ]
            found["left"] = torch.stack(shares, 1)
        if self.noise:
            errors = [
                _share(classifier, x, goal, rng.fold(3, i), times * _finite(distance), self.draws, gaussian=True)
                for i, times in enumerate(self.noise)
            ]
            found["error"] = torch.stack(errors, 1)
        return found


def _finite(distance: Tensor) -> Tensor:
    return torch.where(distance.isfinite(), distance, 0.0)


@torch.no_grad()
def _share(
    logits: Logits, x: Tensor, goal: Goal, rng: Rng, size: Tensor, draws: int, *, gaussian: bool = False
) -> Tensor:
    """The share (B,) of steps of length `size` (B,), or of Gaussian noise of that deviation, that leave the class."""
    left = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for i in range(draws):
        way = rng.fold(i).normal(x[0].numel()).view_as(x) if gaussian else unit(rng.fold(i), x)
        left += goal.reached(logits(x + size.to(x.dtype).view(-1, 1, 1, 1) * way)).double()
    return left / draws
