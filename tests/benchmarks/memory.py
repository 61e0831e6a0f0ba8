"""Peak memory of `attacks.quasinewton.minimise`, in numbers a row and dimension.

Measured as `eval.memory` has it. The arguments of the search (start and bounds) are left out; the value and gradient
that the objective returns count.

The claim is (2 m + k) B D with a constant k, for a memory of m pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.quasinewton import Settings, minimise
from eval.memory import peak as bytes_held


@dataclass(frozen=True)
class Peak:
    """The most memory that a search held.

    Attributes:
        memory: pairs kept a row, m.
        finishing: whether rows left the batch on the way.
        floats: in float32 numbers a row and dimension, beyond start and bounds.
    """

    memory: int
    finishing: bool
    floats: float


def problem(rows: int, dim: int, finishing: bool, device: torch.device) -> Callable[[Tensor, Tensor], Any]:
    """Separable quadratics; with `finishing`, every second one is solved in its first steps."""
    scale = torch.logspace(-1.0, 1.0, dim, device=device)
    easy = torch.arange(rows, device=device) % 2 == 0 if finishing else torch.zeros(rows, device=device) > 0

    def f(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        gradient = torch.where(easy[index][:, None], x - 0.3, (x - 0.3) * scale)
        return 0.5 * ((x - 0.3) * gradient).sum(1), gradient

    return f


def peak(memory: int, finishing: bool, rows: int, dim: int, device: torch.device, evaluations: int = 30) -> Peak:
    """Measure one search of `rows` problems in `dim` dimensions, long enough to fill its history."""
    f = problem(rows, dim, finishing, device)
    start, low, high = (torch.full((rows, dim), v, device=device) for v in (0.0, -1.0, 1.0))
    decrease, gradient = (1e-9, 1e-6) if finishing else (0.0, 0.0)
    settings = Settings(memory=memory, decrease=decrease, gradient=gradient)

    def search() -> None:
        minimise(f, start, low, high, evaluations=evaluations, settings=settings)

    most = bytes_held(search, device)
    return Peak(memory, finishing, most / (4 * rows * dim))


def fit(peaks: Sequence[Peak]) -> tuple[float, float, float]:
    """Slope and constant of floats = slope * m + k by least squares, and the largest deviation from the line."""
    m, floats = np.array([p.memory for p in peaks]), np.array([p.floats for p in peaks])
    slope, constant = np.polyfit(m, floats, 1)
    return float(slope), float(constant), float(np.abs(slope * m + constant - floats).max())
