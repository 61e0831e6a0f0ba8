"""A classifier in bfloat16, which answers in float32."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from models.classifier import Classifier


class Quick(nn.Module):
    """A classifier in bfloat16, between images and logits in float32.

    Attributes:
        network: a copy of the classifier's network in bfloat16.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network: nn.Module = copy.deepcopy(classifier.network).to(torch.bfloat16)
        self._normalised = classifier.normalised  # methods: the classifier is no part of this
        self._pulled = classifier.pulled

    def normalised(self, x: Tensor) -> Tensor:
        """The images (B, C, H, W) as the network takes them, in bfloat16."""
        return self._normalised(x).to(torch.bfloat16)

    def pulled(self, gradient: Tensor) -> Tensor:
        """The gradient by the images, in float32, of one (B, C, H, W) by what `normalised` makes of them."""
        return self._pulled(gradient.float())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units, of the images' dtype."""
        logits: Tensor = self.network(self.normalised(x))
        return logits.to(x.dtype)
