"""The network under test: normalisation inside, logits out, frozen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A frozen classifier of images (B, C, H, W) in `bounds`, to logits (B, K).

    Normalisation is part of it, so that a perturbation of a given size means the same for every network.
    Construction puts the network in evaluation mode and freezes its parameters.

    Attributes:
        network: normalised images -> logits.
        name: under which it stands in records and reports.
        input_shape: (C, H, W).
        num_classes: K.
        bounds: least and greatest value of a pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        input_shape: tuple[int, int, int],
        num_classes: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        channels = input_shape[0]
        for key, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"Classifier {name}: {key} must have 1 or {channels} values, one a channel, got {len(values)}"
                )
        if any(not s > 0 for s in std):
            raise ValueError(f"Classifier {name}: std must be > 0 in box units, got {list(std)}")
        self.network = network
        self.name = name
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.bounds = bounds
        self.identity = all(m == 0 for m in mean) and all(s == 1 for s in std)
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)
        self.eval()
        self.requires_grad_(False)

    def normalised(self, x: Tensor) -> Tensor:
        """The images (B, C, H, W) as the network takes them."""
        return x if self.identity else (x - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units, of the images' dtype whatever the network computes in."""
        logits: Tensor = self.network(self.normalised(x))
        # what is no tensor, or of whole numbers, is for `models.check` to refuse
        return logits.to(x.dtype) if isinstance(logits, Tensor) and logits.is_floating_point() else logits
