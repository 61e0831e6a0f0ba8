"""The smallest perturbation inside a box that satisfies a few linear inequalities.

    q = argmin ||q||^2   such that   <w_j, q> >= offset_j for all j,   low <= q <= high,   where low <= 0 <= high.

The solution is q = clip(sum_j lambda_j w_j, low, high) with multipliers lambda_j >= 0 that maximise a concave dual,
quadratic between the places where a coordinate meets its bound; what <w_j, q> lacks of offset_j is the dual's
gradient. Newton's iteration takes the coordinates that are free at the moment for those of the solution, and the
matrix G of their inner products for the dual's curvature. The small quadratic program for lambda that is left,

    max  <const, lambda> - lambda' G lambda / 2   such that   lambda >= 0,    const = G lambda_now + lacking,

is solved by a few rounds that guess which multipliers are positive and solve for these. No call of a network.

Source: Cominetti, Mascarenhas and Silva, "A Newton's method for the continuous quadratic knapsack problem", Math.
Prog. Comp. 6 (2014), for one inequality: after one step, from wherever it starts, the iterates go to the solution from
one side and reach it in finitely many steps. For the rounds: Hintermueller, Ito and Kunisch, "The primal-dual active
set strategy as a semismooth Newton method", SIAM J. Optim. 13 (2002).
Departures: several inequalities by the same iteration, without a safeguard; it ends after a fixed number.
Cost: 5 J + 4 passes over (B, D) an iteration for J inequalities; most problems need 3 to 5, with good first multipliers
1 or 2; memory 2 J + 4 numbers a coordinate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks import asking

_TINY = 1e-20
_ROUNDS = 3
_RIDGE = 1e-6  # of the diagonal, for inequalities that say nearly the same
_SOLVED = 32  # units of rounding by which a solution may miss an offset


def nearest(
    w: Tensor, offset: Tensor, low: Tensor, high: Tensor, *, start: Tensor | None = None, steps: int = 12
) -> tuple[Tensor, Tensor]:
    """The smallest point of a few half-spaces inside the box.

    Args:
        w: normals (B, J, D); one of zeros, with offset 0, is no inequality.
        offset: (B, J); an inequality with an offset that is not positive holds at 0.
        low: least values (B, D), <= 0.
        high: greatest values (B, D), >= 0.
        start: first multipliers (B, J), >= 0; those of a problem much like this one save iterations.
        steps: most iterations, and on a GPU, which is not asked, all of them; the default solves one inequality to
            rounding, and several, unless nearly parallel.

    Returns:
        Points (B, D), where one inequality cannot be met a corner that comes close to it; multipliers (B, J).
    """
    scale = torch.maximum(w.amax(2), -w.amin(2))  # (B, J)
    scale = torch.where(scale > 0, scale, 1.0)
    first = torch.zeros_like(offset) if start is None else start * scale
    q, multipliers = _newton(w, scale, offset / scale, low, high, first, steps=steps)
    return q, multipliers / scale


def _newton(
    w: Tensor, scale: Tensor, offset: Tensor, low: Tensor, high: Tensor, multipliers: Tensor, *, steps: int
) -> tuple[Tensor, Tensor]:
    """The same for normals w / scale, whose largest entries are 1: nothing over- or underflows in float32."""
    near = _SOLVED * torch.finfo(w.dtype).eps * offset.abs()
    wanted, q, masked = torch.empty_like(low), torch.empty_like(low), torch.empty_like(w)
    for step in range(steps + 1):
        torch.bmm((multipliers / scale)[:, None], w, out=wanted[:, None])
        torch.clamp(wanted, low, high, out=q)  # (B, D)
        lacking = offset - (q[:, None] @ w.mT)[:, 0] / scale  # (B, J)
        if step == steps:
            break
        off = torch.where(multipliers > 0, lacking.abs(), lacking)
        unsolved = ~(off <= near).all(1)  # (B,)
        if not asking.waits(w):
            left = int(unsolved.sum())
            if left == 0:
                break
            if 4 * left <= len(w):
                some = unsolved.nonzero()[:, 0]
                rest = (x[some] for x in (w, scale, offset, low, high, multipliers))
                point, multiplier = _newton(*rest, steps=steps - step)
                return q.index_copy_(0, some, point), multipliers.index_copy(0, some, multiplier)
        free = torch.eq(q, wanted, out=wanted)  # (B, D), 0 or 1; a mask of numbers is many times faster than of bools
        torch.mul(w, free[:, None], out=masked).div_(scale[:, :, None])
        gram = masked @ w.mT / scale[:, None]  # (B, J, J)
        multipliers = torch.where(unsolved[:, None], _multipliers(gram, lacking, multipliers), multipliers)
    return q, multipliers


def _multipliers(gram: Tensor, lacking: Tensor, now: Tensor) -> Tensor:
    """Multipliers (B, J) of the quadratic program with the matrix `gram` (B, J, J) and the gradient `lacking` `now`."""
    if now.shape[1] == 1:
        return (now + lacking / gram[:, :, 0].clamp(min=_TINY)).clamp(min=0)
    diagonal = gram.diagonal(dim1=1, dim2=2)  # (B, J)
    diagonal += _RIDGE * diagonal + _TINY  # moves the steps, not where they end
    const = (gram @ now[:, :, None])[:, :, 0] + lacking
    new, left, guess = now, lacking, torch.full_like(now, -1)
    for _ in range(_ROUNDS):
        positive = (new + left / diagonal > 0).to(gram.dtype)
        if not asking.waits(gram) and torch.equal(positive, guess):
            break
        guess = positive
        system = gram * (positive[:, :, None] * positive[:, None])
        system.diagonal(dim1=1, dim2=2).add_(1 - positive)
        new = torch.linalg.solve_ex(system, (positive * const)[:, :, None])[0][:, :, 0]
        left = const - (gram @ new[:, :, None])[:, :, 0]
    return new.clamp(min=0)
