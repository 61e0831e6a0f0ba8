"""How far it is to an image of another class: nobody's smallest perturbation should be larger than that.

For each image the nearest ones of other classes are sought among the images at hand, and the line to them is halved
until two neighbouring points lie on either side of the boundary. That takes no gradient and no search worth the name,
so that what it finds must have been found by every attack.

Source: Carlini et al., "On evaluating adversarial robustness" (arXiv 1902.06705), section 5: a median distance as large
as that to the nearest image with another label cannot be.
Cost: 1 + 3 * 12 forwards per image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.threat import ThreatModel, parse_eps
from eval.data import Samples
from eval.diagnosis.batches import batches
from eval.trial import Arrays
from models.classifier import Classifier

_NEAREST = 3  # images of other classes that are walked to
_HALVINGS = 12


@dataclass(frozen=True)
class Neighbours:
    """Walks from each image to its nearest ones of other classes.

    Attributes:
        norm: in which they are near, and of the budget.
        eps: text of the budget.
        images: correctly classified samples, at most, which are each other's neighbours.
    """

    norm: str = "linf"
    eps: str = "8/255"
    images: int = 64

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was found.

        Returns:
            Per image: `sample` (n,) ids; `walk` (n,), the distance to the nearest point of another class on these
            lines, infinity without images of other classes; `near` (n,) bool, whether it keeps the budget.
        """
        threat = ThreatModel(self.norm, parse_eps(self.eps), classifier.bounds)
        found = list(batches(classifier, samples, self.images, batch_size, device, seed, "neighbours"))
        ids = [sample for batch in found for sample in batch.ids]
        if not ids:
            return {"sample": np.array([], dtype=str), "walk": np.zeros(0), "near": np.zeros(0, dtype=bool)}
        x, labels = (torch.cat(parts) for parts in zip(*((b.x, b.goal.labels) for b in found), strict=True))
        walk = torch.full((len(x),), torch.inf, dtype=torch.float64)
        near = torch.zeros(len(x), dtype=torch.bool)
        for i in range(len(x)):
            there = _met(classifier, x, labels, i, threat)
            if there is not None:
                size = threat.size(there, x[i : i + 1].expand_as(there))
                best = int(size.argmin())
                walk[i] = float(size[best])
                near[i] = bool(threat.within(there[best : best + 1], x[i : i + 1])[0])
        return {"sample": np.array(ids, dtype=str), "walk": walk.numpy(), "near": near.numpy()}


@torch.no_grad()
def _met(classifier: Classifier, x: Tensor, labels: Tensor, i: int, threat: ThreatModel) -> Tensor | None:
    """Points (k, C, H, W) behind the boundary on the way from image i to its neighbours; None without any."""
    others = torch.nonzero(labels != labels[i])[:, 0]
    if len(others) == 0:
        return None
    here = x[i : i + 1]
    order = threat.size(x[others], here.expand_as(x[others])).argsort(stable=True)[:_NEAREST]
    step = x[others[order]] - here
    goal = Goal(labels[i].expand(len(step)))
    low, high = x.new_zeros(len(step)), x.new_ones(len(step))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        hit = goal.reached(classifier(here + middle.view(-1, 1, 1, 1) * step))
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    point = (here + high.view(-1, 1, 1, 1) * step).clamp(*threat.box)
    behind = goal.reached(classifier(point))
    return point[behind] if bool(behind.any()) else None
