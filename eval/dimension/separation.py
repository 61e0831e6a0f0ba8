"""How far an image is from the nearest one of another class: the yardstick for distances to a boundary."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from eval.data import Samples
from eval.dimension.boundary import batches
from eval.errors import InputError
from eval.trial import Arrays
from models.classifier import Classifier

SEPARATION = "separation"
"""Name of the probe in a run's folder."""
_ROWS = 512  # training images compared at once


@dataclass(frozen=True)
class Separation:
    """Measures distances to training samples. The network has no part in it.

    Attributes:
        train: the training samples.
        digest: their fingerprint.
    """

    train: Samples = field(repr=False)
    digest: str

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """`other` (n,), the L2 distance to the nearest training sample of another class.

        Raises:
            InputError: all training samples are of the class of a sample.
        """
        nearest = []
        for x, goal, _ in batches(samples, batch_size, device):
            least = torch.full((len(x),), torch.inf, device=device, dtype=torch.float64)
            for start in range(0, len(self.train), _ROWS):
                index = np.arange(start, min(start + _ROWS, len(self.train)))
                distance = torch.cdist(x.flatten(1), self.train.batch(index).to(device).flatten(1)).double()
                own = torch.as_tensor(self.train.labels[index], device=device)[None] == goal.labels[:, None]
                least = torch.minimum(least, distance.masked_fill(own, torch.inf).amin(1))
            nearest.append(least)
        found = torch.cat(nearest)
        if not bool(found.isfinite().all()):
            raise InputError("data: must have training samples of two classes for this study, got one class")
        return {"other": found.cpu().numpy()}
