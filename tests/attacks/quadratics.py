"""Convex quadratic problems, side by side, for the tests of the quasi-Newton search."""

from __future__ import annotations

import torch
from torch import Tensor

B, D = 12, 10
INF = torch.full((B, D), torch.inf, dtype=torch.float64)


def quadratics(seed: int, number: int = B, dim: int = D) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(number, dim, dim, dtype=torch.float64, generator=g)
    return a @ a.mT + 0.1 * torch.eye(dim), torch.randn(number, dim, dtype=torch.float64, generator=g)


def objective(a: Tensor, b: Tensor):
    def f(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        ax = (a[rows] @ x[:, :, None])[:, :, 0]
        return 0.5 * (x * ax).sum(1) - (b[rows] * x).sum(1), ax - b[rows]

    return f
