"""Whether a network's gradients tell where its loss goes: whether there are any, and what a step along them does.

    slope = (m(x + d) - m(x - d)) / (2 <grad m(x), d>),   d the steepest direction, a share of eps long

for the lead m of the strongest other class over the label. For a smooth network it is near 1; where the
gradient is that of something else, or of a scale finer than any perturbation, it is near 0.

Source of the instability: Pintor et al., "Indicators of attack failure", NeurIPS 2022 (arXiv 2106.09947), I2: the mean
of |L(x) - L(x + u)| / |L(x)| over u uniform in +-4/255 of the box, at most 1, with 1 in the place of a loss of 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.losses import logits_and_gradient, loss_named
from attacks.threat import ThreatModel, parse_eps
from eval.data import Samples
from eval.diagnosis.batches import Batch, batches
from eval.diagnosis.rows import stacked
from eval.trial import Arrays
from models.check import gradient
from models.classifier import Classifier

_SHARES = (0.1, 1.0)  # of eps
_DRAWS = 20
_WIDTH = 8 / 255  # of the uniform noise


@dataclass(frozen=True)
class Slopes:
    """Compares gradients with differences.

    Attributes:
        norm: of the budget.
        eps: text of the budget.
        images: correctly classified samples, at most.
    """

    norm: str = "linf"
    eps: str = "8/255"
    images: int = 24

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was seen.

        Returns:
            `none` () bool, no gradient reaches the pixels; per image (n,): `zero`, the gradient of the cross-entropy
            has no non-zero entry; `zero_margin`, nor has that of the lead; `slope` (n, 2), at a tenth of eps and at
            eps, NaN without a gradient; `unstable`.
        """
        threat = ThreatModel(self.norm, parse_eps(self.eps), classifier.bounds)
        rows: dict[str, list[Tensor]] = {"zero": [], "zero_margin": [], "slope": [], "unstable": []}
        none = False
        for batch in batches(classifier, samples, self.images, batch_size, device, seed, "slopes"):
            none |= gradient(classifier, batch.x) is None
            _, ce = logits_and_gradient(classifier, batch.x, loss_named("ce"), batch.goal)
            _, lead = logits_and_gradient(classifier, batch.x, loss_named("margin"), batch.goal)
            for name, found in (("zero", ce), ("zero_margin", lead)):
                rows[name].append((found == 0).flatten(1).all(1))
            rows["slope"].append(self._slope(classifier, batch, lead, threat))
            rows["unstable"].append(_unstable(classifier, batch, threat))
        return stacked(rows) | {"none": np.array(none)}

    @torch.no_grad()
    def _slope(self, classifier: Classifier, batch: Batch, gradient: Tensor, threat: ThreatModel) -> Tensor:
        """Slopes (b, 2) between the steepest points up and down, both inside the box."""
        loss = loss_named("margin")
        flat = gradient.flatten(1).double()
        found = []
        for share in _SHARES:
            near = ThreatModel(threat.norm, max(threat.eps * share, 1e-6), threat.box)
            up, down = near.steepest(batch.x, gradient), near.steepest(batch.x, -gradient)
            change = loss.value(classifier(up), batch.goal) - loss.value(classifier(down), batch.goal)
            told = (flat * (up - down).flatten(1).double()).sum(1)
            found.append(torch.where(told > 0, change.double() / told, torch.nan))
        return torch.stack(found, 1)


@torch.no_grad()
def _unstable(classifier: Classifier, batch: Batch, threat: ThreatModel) -> Tensor:
    low, high = threat.box
    loss = loss_named("ce")
    here = loss.value(classifier(batch.x), batch.goal)
    by = torch.where(here == 0, 1.0, here.abs())
    total = torch.zeros_like(here)
    for draw in range(_DRAWS):
        noise = (batch.rng.fold(draw).uniform(*batch.x.shape[1:]) - 0.5) * _WIDTH * (high - low)
        total += (loss.value(classifier(batch.x + noise), batch.goal) - here).abs() / by
    return (total / _DRAWS).clamp(max=1.0)
