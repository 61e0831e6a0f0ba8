"""What is judged beside a perturbation: images made from it without any search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attacks.noise import gaussian_of_rms
from attacks.norms import rms
from attacks.rng import Rng
from attacks.threat import widest


class Derived(Protocol):
    """Makes images of images; its `repr` names all that it depends on."""

    def __call__(self, x: Tensor, x_adv: Tensor, rng: Rng, box: tuple[float, float]) -> Tensor:
        """Images (B, C, H, W) in the box, from the unperturbed and the perturbed ones."""


def _sizes(x: Tensor, x_adv: Tensor) -> Tensor:
    return rms((widest(x_adv) - widest(x)).flatten(1)).nan_to_num(0.0)


@dataclass(frozen=True)
class SameSizeNoise:
    """Gaussian noise of the perturbation's RMS: what a transfer has to beat."""

    def __call__(self, x: Tensor, x_adv: Tensor, rng: Rng, box: tuple[float, float]) -> Tensor:
        """Noisy images."""
        return gaussian_of_rms(x, _sizes(x, x_adv), rng, box)


@dataclass(frozen=True)
class Amplified:
    """The perturbation made larger or smaller, to an RMS in box units, before the box cuts it off.

    Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), table 4.
    Departures: the paper prints x + 0.1 (x' - x) / ||x' - x||_2, which for MNIST is 28 times smaller than what it
    says; the divisor is the RMS.
    """

    rms: float

    def __call__(self, x: Tensor, x_adv: Tensor, rng: Rng, box: tuple[float, float]) -> Tensor:
        """Images moved further the same way; those that were not moved stay."""
        size = _sizes(x, x_adv)
        factor = torch.where(size > 0, self.rms / size, 0.0).to(x.dtype)
        return (x + (x_adv - x).nan_to_num(0.0) * factor.view(-1, 1, 1, 1)).clamp(*box)


CONTROL: Mapping[str, Derived] = {"control": SameSizeNoise()}
"""What stands beside every perturbation of a run with controls."""
