"""The smallest perturbation inside a box that satisfies a few linear inequalities.

    q = argmin ||q||^2   such that   <w_j, q> >= offset_j for all j,   low <= q <= high,   where low <= 0 <= high.

The solution is q = clip(sum_j lambda_j w_j, low, high) with multipliers lambda_j >= 0 that maximise a concave dual,
quadratic between the places where a coordinate meets its bound. Newton's iteration on the dual takes the coordinates
that are free at the moment for those of the solution; the small quadratic program for lambda that each of its steps
asks for is solved by sweeps over the multipliers, one exact (Gauss-Seidel) at a time. No call of a network.

Source: Cominetti, Mascarenhas and Silva, "A Newton's method for the continuous quadratic knapsack problem", Math.
Prog. Comp. 6 (2014), for one inequality: there the iterates rise to the solution and reach it in finitely many steps.
Departures: several inequalities by the same iteration, without a safeguard; it is stopped after a fixed number.
Cost: J + 4 passes over (B, D) an iteration for J inequalities.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-20


def nearest(
    w: Tensor, offset: Tensor, low: Tensor, high: Tensor, *, steps: int = 12, sweeps: int = 4
) -> tuple[Tensor, Tensor]:
    """The smallest point of a few half-spaces inside the box.

    Args:
        w: normals (B, J, D); one of zeros, with offset 0, is no inequality.
        offset: (B, J); an inequality with an offset that is not positive holds at 0.
        low: least values (B, D), <= 0.
        high: greatest values (B, D), >= 0.
        steps: iterations; the default solves one inequality to rounding, and several, unless nearly parallel.
        sweeps: over the multipliers in each iteration, where there are several.

    Returns:
        Points (B, D), where one inequality cannot be met a corner that comes close to it; multipliers (B, J).
    """
    # Unit largest entries, so that nothing over- or underflows in float32.
    scale = w.abs().amax(2)  # (B, J)
    scale = torch.where(scale > 0, scale, 1.0)
    w, offset = w / scale[:, :, None], offset / scale
    multipliers = torch.zeros_like(offset)
    number = offset.shape[1]
    for _ in range(steps):
        wanted = (multipliers[:, None] @ w)[:, 0]  # (B, D)
        q = torch.minimum(torch.maximum(wanted, low), high)
        free = torch.where((q == wanted)[:, None], w, 0.0)  # (B, J, D)
        gram = free @ free.mT  # (B, J, J)
        diagonal = gram.diagonal(dim1=1, dim2=2).clamp(min=_TINY)  # (B, J)
        lacking = offset - (w @ q[:, :, None])[:, :, 0]  # (B, J), kept up to date through the sweeps
        columns = list(multipliers.unbind(1))
        for _ in range(sweeps if number > 1 else 1):
            for j in range(number):
                new = (columns[j] + lacking[:, j] / diagonal[:, j]).clamp(min=0)  # (B,)
                lacking = lacking - gram[:, :, j] * (new - columns[j])[:, None]
                columns[j] = new
        multipliers = torch.stack(columns, 1)
    q = torch.minimum(torch.maximum((multipliers[:, None] @ w)[:, 0], low), high)
    return q, multipliers / scale
