"""The two-loop recursion of limited-memory BFGS, for a batch of histories.

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. 2006, algorithm 7.4.
Departures: restricted to the coordinates that are free; the exact Hessian 2c of a quadratic part is added to each pair
and begins the recursion; a pair without positive curvature on the free coordinates is passed over.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CURVATURE = 1e-6  # least cosine between s and y


def inverse_hessian_times(
    q: Tensor, free: Tensor, initial: Tensor, s: Tensor, dg: Tensor, c: Tensor, pairs: Tensor
) -> Tensor:
    """The approximate inverse Hessian of the free coordinates times `q`.

    Args:
        q: vectors (b, D), 0 in coordinates that are not free.
        free: coordinates (b, D), bool.
        initial: what the recursion begins with (b,), a multiple of the identity; where c = 0 the newest pair's
            scale replaces it.
        s: steps (b, m, D), in a ring per row.
        dg: differences of gradients (b, m, D), without the quadratic part.
        c: weight (b,) of the quadratic part.
        pairs: pairs (b,) ever stored; the newest is in slot (pairs - 1) % m.
    """
    memory = s.shape[1]
    used = min(memory, int(pairs.max())) if q.device.type == "cpu" and len(q) else memory
    if used == 0:
        return initial[:, None] * q
    row = torch.arange(len(q), device=q.device)
    back = torch.arange(1, used + 1, device=q.device)
    slot = (pairs[:, None] - back) % memory  # (b, used), newest first
    held = ~free[:, None]
    s = s[row[:, None], slot].masked_fill_(held, 0.0)  # (b, used, D)
    y = dg[row[:, None], slot].masked_fill_(held, 0.0).add_(s * (2 * c[:, None, None]))
    sy, ss, yy = (s * y).sum(2), s.square().sum(2), y.square().sum(2)  # (b, used)
    valid = (back <= pairs[:, None]) & (sy > _CURVATURE * (ss * yy).sqrt())
    rho = torch.where(valid, 1 / sy, 0.0)
    newest = valid.long().argmax(1, keepdim=True)
    scale = (sy / yy).gather(1, newest)[:, 0]
    initial = torch.where((c == 0) & valid.any(1), scale, initial)
    alpha = []
    for i in range(used):
        a = rho[:, i] * (s[:, i] * q).sum(1)  # (b,)
        q = q - a[:, None] * y[:, i]
        alpha.append(a)
    q = initial[:, None] * q
    for i in reversed(range(used)):
        b = rho[:, i] * (y[:, i] * q).sum(1)
        q = q + (alpha[i] - b)[:, None] * s[:, i]
    return q
