"""What the units of a network's first layer look for: their weights, as images."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import nn

from eval.data import Samples
from eval.trial import Arrays
from models.classifier import Classifier

FILTERS = "filters"
"""Name of the probe in a run's folder."""


@dataclass(frozen=True)
class Filters:
    """The weights of the first layer, if it is dense over all pixels, or convolutional over all channels.

    Attributes:
        most: units, from the first one.
    """

    most: int = 64

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """`weights` (units, C, height, width) and the number of `units` there are (); nothing for other networks."""
        layers = (m for m in classifier.network.modules() if isinstance(m, nn.Linear | nn.Conv2d))
        layer = next(layers, None)
        channels = samples.shape[0]
        if isinstance(layer, nn.Linear) and layer.in_features == prod(samples.shape):
            weights = layer.weight.reshape(-1, *samples.shape)
        elif isinstance(layer, nn.Conv2d) and layer.weight.shape[1] == channels:
            weights = layer.weight
        else:
            return {}
        return {"weights": weights[: self.most].detach().cpu().numpy(), "units": np.array(len(weights))}
