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

    Sizes and places may lie between pixels, else small images had few. Published: Xie et al., ICLR 2018 (arXiv
    1711.01991). Trips: logits that differ from one forward to the next. Broken by: the mean gradient over draws.

    Attributes:
        shrink: most by which a side is shortened, as a share of it.
    """

    shrink: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.shrink < 1:
            raise ModelError(f"shrink: must be a share of the side in (0, 1), got {self.shrink:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"random resize and pad by up to {self.shrink:.0%}"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the images somewhere else."""
        size, right, down = torch.rand(3).tolist()
        scale = 1 - self.shrink * size
        room = 1 - scale  # on either side of the middle, where -1 and 1 are the edges
        inverse = [[1 / scale, 0, -room * (2 * right - 1) / scale], [0, 1 / scale, -room * (2 * down - 1) / scale]]
        grid = F.affine_grid(x.new_tensor(inverse).expand(len(x), 2, 3), list(x.shape), align_corners=False)
        logits: Tensor = network(F.grid_sample(x, grid, align_corners=False))
        return logits
