"""Two slips in the bounds of Szegedy et al., beside the norms themselves: the factor of a stride, and max-pools.

The paper has S^-2 where a stride S asks for S^-1, and takes max-pools for contractive. Cyclic convolutions are written
out, and decomposed by NumPy; max-pools are shown one pixel, and random pairs.

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from eval.data import Samples
from eval.trial import Arrays
from models.classifier import Classifier
from models.convolution import Convolution
from models.layer_norms import layer_norm

SLIPS = "slips"
"""Name of the probe in a run's folder."""

_STRIDED = ((3, 1), (3, 2), (3, 3), (5, 2), (11, 4))  # side of the kernel, stride
_POOLS = ((2, 2), (3, 3), (3, 2), (2, 1), (3, 1))  # window, stride
_SIDE = 12  # of the maps; a multiple of all strides
_PAIRS = 1000


@dataclass(frozen=True)
class Slips:
    """Measures layers that have nothing to do with the network.

    Attributes:
        kernels: random ones of each kind.
    """

    kernels: int = 5

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """The norms.

        Returns:
            Of strided convolutions `convolution` (c,), texts, and (c, kernels) `dense`, `fourier`, `printed`, NaN after
            the only kernel of the last; of pools (p,) `pool`, texts, `bound`, `attained` by one pixel, and `typical`
            (p, pairs) of random pairs.
        """
        g = torch.Generator().manual_seed(seed % (1 << 63))
        rows = [strided(side, stride, self.kernels, g) for side, stride in _STRIDED]
        ones = np.full((3, self.kernels), np.nan)
        ones[:, :1] = strided(1, 2, 1, None)
        names = [f"{side}\u00d7{side} random, stride {stride}" for side, stride in _STRIDED]
        whole = np.stack([*rows, ones])  # (c, 3, kernels)
        bound, attained, typical = zip(*(pooled(side, stride, g) for side, stride in _POOLS), strict=True)
        return {
            "convolution": np.array([*names, "identity, stride 2"]),
            "dense": whole[:, 0],
            "fourier": whole[:, 1],
            "printed": whole[:, 2],
            "pool": np.array([f"{side}\u00d7{side}, stride {stride}" for side, stride in _POOLS]),
            "bound": np.array(bound),
            "attained": np.array(attained),
            "typical": np.stack(typical),
        }


def strided(side: int, stride: int, number: int, g: torch.Generator | None) -> np.ndarray:
    """Norms (3, number) of cyclic convolutions: decomposed, by the Fourier form, and as the paper prints that.

    Args:
        side: of the kernel.
        stride: of the convolution, along both axes.
        number: of kernels.
        g: draws them; None for those of ones, of one channel.
    """
    found = []
    for _ in range(number):
        shape = (1, 1, side, side) if g is None else (4, 3, side, side)
        kernel = torch.ones(shape).double() if g is None else torch.randn(shape, generator=g, dtype=torch.float64)
        pad = (side - 1, 0)
        conv = Convolution(kernel, (shape[1], _SIDE, _SIDE), (stride, stride), (pad, pad), mode="circular")
        dense = float(np.linalg.svd(conv.matrix().numpy(), compute_uv=False)[0])
        fourier = conv.above()
        found.append((dense, fourier, fourier / stride))
    return np.array(found).T


def pooled(side: int, stride: int, g: torch.Generator) -> tuple[float, float, np.ndarray]:
    """The norm of a max-pool, what one pixel gets from it at its best place, and ratios (pairs,) of random pairs."""
    pool = nn.MaxPool2d(side, stride)
    norm = layer_norm(pool, (1, _SIDE, _SIDE))
    assert norm is not None
    pixels = torch.eye(_SIDE * _SIDE, dtype=torch.float64).view(-1, 1, _SIDE, _SIDE)
    x, y = torch.randn(2, _PAIRS, 1, _SIDE, _SIDE, generator=g, dtype=torch.float64)
    ratios = _size(pool(x) - pool(y)) / _size(x - y)
    return math.sqrt(round(norm.high**2)), float(_size(pool(pixels)).max()), ratios.numpy()


def _size(x: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return size
