"""How far it is to an image of another class: nobody's smallest perturbation should be larger than that.

For each image the nearest ones of other classes are sought among the images at hand, and the line to them is halved
until two neighbouring points lie on either side of the boundary. That takes no gradient and no search worth the name,
so that what it finds must have been found by every attack.

Source: Carlini et al., "On evaluating adversarial robustness" (arXiv 1902.06705), section 5: a median distance as large
as that to the nearest image with another label cannot be.
Cost: 1 + 3 * 13 forwards an image.
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
        size, near = _nearest(classifier, x, labels, threat, batch_size)
        return {"sample": np.array(ids, dtype=str), "walk": size.cpu().double().numpy(), "near": near.cpu().numpy()}


@torch.no_grad()
def _nearest(
    classifier: Classifier, x: Tensor, labels: Tensor, threat: ThreatModel, batch_size: int
) -> tuple[Tensor, Tensor]:
    """The size (n,) of the nearest point behind the boundary on the ways of each image, and whether it is within."""
    pairs = torch.cat([_pairs(x, labels, i, threat) for i in range(len(x))])  # (p, 3): image, neighbour, which one
    size = x.new_full((len(x), _NEAREST), torch.inf)
    within = torch.zeros_like(size, dtype=torch.bool)
    for start in range(0, len(pairs), batch_size):
        image, other, rank = pairs[start : start + batch_size].unbind(1)
        here = x[image]
        point, behind = _crossed(classifier, here, x[other] - here, Goal(labels[image]), threat)
        size[image, rank] = torch.where(behind, threat.size(point, here), torch.inf)
        within[image, rank] = behind & threat.within(point, here)
    least, best = size.min(1)
    return least, within.gather(1, best[:, None])[:, 0]


def _pairs(x: Tensor, labels: Tensor, i: int, threat: ThreatModel) -> Tensor:
    """Image i, each of its nearest ones of other classes, and the place of that one among them: (k, 3) int64."""
    others = torch.nonzero(labels != labels[i])[:, 0]
    order = threat.size(x[others], x[i : i + 1].expand_as(x[others])).argsort(stable=True)[:_NEAREST]
    return torch.stack([torch.full_like(order, i), others[order], torch.arange(len(order), device=x.device)], 1)


def _crossed(
    classifier: Classifier, here: Tensor, step: Tensor, goal: Goal, threat: ThreatModel
) -> tuple[Tensor, Tensor]:
    """The point (b, C, H, W) where each way from `here` along `step` has left its class; whether it has (b,)."""
    low, high = here.new_zeros(len(here)), here.new_ones(len(here))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        hit = goal.reached(classifier(here + middle.view(-1, 1, 1, 1) * step))
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    point = (here + high.view(-1, 1, 1, 1) * step).clamp(*threat.box)
    return point, goal.reached(classifier(point))
