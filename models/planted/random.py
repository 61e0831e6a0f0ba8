"""Faults that draw lots at every forward, from torch's global generator as the published defences do.

Broken by expectation over the draws: Athalye, Carlini and Wagner, ICML 2018 (arXiv 1802.00420), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import ModelError
from models.planted.disguise import Fault


@dataclass(frozen=True)
class Noise(Fault):
    """Gaussian noise is added to the input at inference, another at every forward.

    Published: Liu et al., ECCV 2018 (arXiv 1712.00673); He, Rakin and Fan, CVPR 2019 (arXiv 1811.09310). Trips: logits
    that differ from one forward to the next. Broken by: the mean gradient over draws.

    Attributes:
        sigma: standard deviation, in box units.
    """

    sigma: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise ModelError(f"sigma: must be > 0 in box units, got {self.sigma:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"Gaussian noise of {self.sigma:g} on its input"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of a noisy copy."""
        logits: Tensor = network(x + self.sigma * torch.randn_like(x))
        return logits


@dataclass(frozen=True)
class RandomResize(Fault):
    """The images are shrunk to a random size and padded at a random place, one draw for the whole batch.

    Published: Xie et al., ICLR 2018 (arXiv 1711.01991). Trips: logits that differ from one forward to the next. Broken
    by: the mean gradient over draws.

    Attributes:
        shrink: most by which a side is shortened, as a share of it; one pixel at least.
    """

    shrink: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.shrink < 1:
            raise ModelError(f"shrink: must be a share of the side in (0, 1), got {self.shrink:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return "random resize and pad of its input"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the images somewhere else."""
        height, width = x.shape[2:]
        lost = int(torch.randint(0, max(1, round(self.shrink * min(height, width))) + 1, ()))
        small = F.interpolate(x, size=(height - lost, width - lost), mode="bilinear", antialias=True)
        top, left = (int(torch.randint(0, lost + 1, ())) for _ in range(2))
        logits: Tensor = network(F.pad(small, (left, lost - left, top, lost - top)))
        return logits
