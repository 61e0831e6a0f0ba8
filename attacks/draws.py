"""Parameters of random transformations: drawn per sample, up to a strength."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.rng import Rng


def check(name: str, value: float, most: float) -> None:
    """Refuse a strength outside of 0 to `most`.

    Raises:
        ValueError: it is.
    """
    if not 0 <= value <= most:
        raise ValueError(f"{name}: must be in [0, {most:g}], got {value:g}")


def part(rng: Rng, count: int, fixed: bool) -> Tensor:
    """Shares (B, count) of a strength: uniform on [0, 1), or 1."""
    return torch.ones_like(rng.uniform(count)) if fixed else rng.uniform(count)


def signed(rng: Rng, count: int, fixed: bool) -> Tensor:
    """The same with a random sign."""
    sign = torch.where(rng.fold(1).uniform(count) < 0.5, -1.0, 1.0)
    return part(rng.fold(0), count, fixed) * sign
