"""The smallest perturbation inside a random subspace of m dimensions, between a random line and all of R^d.

    r_m = the smallest |z| for which x + Q z is of another class,   Q (d, m) with orthonormal random columns

Source: A. Fawzi, S. Moosavi-Dezfooli and P. Frossard, "Robustness of classifiers: from adversarial to random noise",
NeurIPS 2016 (arXiv 1608.08967): r_m is about sqrt(d / m) r_adv where the boundary is not too curved.
Departures: all images share the subspace.
Cost: that of a search for each m and draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.base import Attack, View
from attacks.goal import Goal
from attacks.rng import Rng
from eval.data import Samples
from eval.dimension.boundary import batches, crossing, nearest
from eval.trial import Arrays
from models.classifier import Classifier
from models.spec import derive

SUBSPACES = "subspaces"
"""Name of the probe in a run's folder."""
_REACH = 0.5  # RMS along one direction, of the box that is named for z; a search may leave it
_FIRST = 0.001  # RMS at which a line is begun,
_LAST = 20.0  # and at which it ends


def orthonormal(pixels: int, m: int, seed: int) -> Tensor:
    """Random orthonormal columns (pixels, m)."""
    drawn = torch.randn(pixels, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q: Tensor = torch.linalg.qr(drawn).Q.float()
    return q


def inside(classifier: Classifier, x: Tensor, q: Tensor) -> View:
    """The network on the images x + Q z, as one of z (b, 1, 1, m)."""
    flat = x.flatten(1)

    def run(z: Tensor, index: Tensor) -> Tensor:
        logits: Tensor = classifier((flat[index] + z.flatten(1) @ q.T).view(-1, *x.shape[1:]))
        return logits

    return View(run, torch.arange(len(x), device=x.device))


@dataclass(frozen=True)
class Subspaces:
    """Measures distances inside subspaces.

    Attributes:
        attack: a search for the smallest perturbation in L2.
        sizes: m, below the number of pixels.
        draws: subspaces of each m.
    """

    attack: Attack
    sizes: tuple[int, ...]
    draws: int = 2

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """`sizes` (M,) and `distance` (n, draws, M): 0 for what is wrong unperturbed, infinity where none was found."""
        pixels = int(np.prod(samples.shape))
        ways = [[orthonormal(pixels, m, derive(seed, i, m)).to(device) for m in self.sizes] for i in range(self.draws)]
        found = []
        for x, goal, ids in batches(samples, batch_size, device):
            rng = Rng.of(seed, [SUBSPACES], ids, device)
            drawn = [torch.stack([self._distance(classifier, x, goal, q, rng) for q in row], 1) for row in ways]
            found.append(torch.stack(drawn, 1))
        return {"sizes": np.array(self.sizes), "distance": torch.cat(found).cpu().numpy()}

    def _distance(self, classifier: Classifier, x: Tensor, goal: Goal, q: Tensor, rng: Rng) -> Tensor:
        """(B,); a line is looked at from both sides."""
        low, high = classifier.bounds
        unit = (high - low) * len(q) ** 0.5  # the length of what has an RMS of the box's width
        if q.shape[1] == 1:
            with torch.no_grad():
                begin = torch.where(goal.reached(classifier(x)), 0.0, _FIRST * unit).double()
            return crossing(classifier, x, goal, q[:, 0].expand(len(x), -1).view_as(x), begin, _LAST * unit)
        z = torch.zeros(len(x), 1, 1, q.shape[1], device=x.device)
        return nearest(inside(classifier, x, q), self.attack, z, goal, (-_REACH * unit, _REACH * unit), rng)
