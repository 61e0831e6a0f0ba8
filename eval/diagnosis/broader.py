"""What else an image may meet than a small perturbation: it is turned and moved, or seen through noise.

Nothing here counts against an evaluation. It says what the robust accuracy beside it does not speak of.

Sources: Carlini et al., "On evaluating adversarial robustness" (arXiv 1902.06705), section 5, which asks for broader
threat models; Engstrom et al., "Exploring the landscape of spatial robustness", ICML 2019 (arXiv 1712.02779), for
trying out rotations up to 30 degrees and moves up to a tenth of the side, all of them.
Departures: 7 angles and 5 moves along each axis in place of 31 and 5; what comes from beyond the edge continues it.
Cost: 175 + 3 forwards per image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.warp import warped
from eval.data import Samples
from eval.diagnosis.batches import batches
from eval.diagnosis.comparisons import DEGREES, MOVED, SIGMAS
from eval.diagnosis.rows import stacked
from eval.trial import Arrays
from models.classifier import Classifier

_ANGLES, _MOVES = 7, 5


@dataclass(frozen=True)
class Broader:
    """Turns and moves each image in every way of a grid, and adds Gaussian noise.

    Attributes:
        images: correctly classified samples, at most.
    """

    images: int = 24

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What changed the class.

        Returns:
            Per image (n,) bool: `turned`, whether some rotation and move did; `noise_0`, `noise_1`, ..., whether noise
            of these deviations did (one draw).
        """
        rows: dict[str, list[Tensor]] = {}
        low, high = classifier.bounds
        for batch in batches(classifier, samples, self.images, batch_size, device, seed, "broader"):
            with torch.no_grad():
                turned = torch.zeros(len(batch.x), dtype=torch.bool, device=device)
                for matrix in _grid(batch.x):
                    turned |= batch.goal.reached(classifier(warped(batch.x, matrix.expand(len(batch.x), 3, 3))))
                rows.setdefault("turned", []).append(turned)
                for k, sigma in enumerate(SIGMAS):
                    noise = batch.rng.fold(k).normal(*batch.x.shape[1:]).to(batch.x.dtype)
                    noisy = (batch.x + sigma * (high - low) * noise).clamp(low, high)
                    rows.setdefault(f"noise_{k}", []).append(batch.goal.reached(classifier(noisy)))
        return stacked(rows)


def _grid(like: Tensor) -> list[Tensor]:
    """All rotations with all moves, as `attacks.warp.warped` takes them: (3, 3) each."""
    matrices = []
    for angle in np.linspace(-DEGREES, DEGREES, _ANGLES):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        for u in np.linspace(-2 * MOVED, 2 * MOVED, _MOVES):
            for v in np.linspace(-2 * MOVED, 2 * MOVED, _MOVES):
                matrices.append(like.new_tensor([[c, -s, u], [s, c, v], [0, 0, 1]]))
    return matrices
