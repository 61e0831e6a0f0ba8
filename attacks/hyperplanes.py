"""The shortest way from a point of a box to a hyperplane, in L1, L2 or Linf, without leaving the box.

    q = argmin |q|   such that   <w, q> = lacking,   low <= q <= high,   where low <= 0 <= high.

With d = sign(lacking) w, of which a coordinate can take at most its room r_i, high_i where d_i > 0 and -low_i else:

    Linf   q_i = sign(d_i) min(t, r_i), where sum |w_i| min(t, r_i) = |lacking|; the sum is concave in t, so that
           Newton's iteration rises to the root and ends on it once it has passed the last room below
    L2     `attacks.halfspaces`
    L1     the coordinates with the largest |w| are filled up to their room, and the last one in part

Where the hyperplane is out of reach, q is the corner of the box that comes closest to it.

Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020
(arXiv 1907.02044), section 3.1, whose program sorts in all norms.
Cost: 4 passes over the coordinates an iteration in Linf, which takes 3 to 6; a sort in L1. No call of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from attacks import asking, halfspaces

_NEWTON_STEPS = 12
_SOLVED = 1e-6

Way = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(w (R, D), lacking (R, J), low (R, J, D), high (R, J, D)) -> q (R, J, D), from J points to the same hyperplane."""


def _signs(w: Tensor, lacking: Tensor) -> Tensor:
    """Which way each coordinate (R, J, D) leads to the hyperplane; 0 where it leads nowhere."""
    return w.sign()[:, None] * torch.where(lacking >= 0, 1.0, -1.0)[:, :, None]


def _room(signs: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far each coordinate (R, J, D) may go that way; arithmetic is faster than a choice by a mask."""
    return ((high + low).mul_(signs) + (high - low)).mul_(0.5)


def _linf(w: Tensor, lacking: Tensor, low: Tensor, high: Tensor) -> Tensor:
    signs = _signs(w, lacking)
    room = _room(signs, low, high)
    weight, wanted = w.abs()[:, None], lacking.abs()  # (R, 1, D), (R, J)
    reach = torch.zeros_like(wanted)
    taken = torch.empty_like(room)
    solved = torch.zeros_like(wanted, dtype=torch.bool)  # these stay, so that no other problem of the batch moves them
    for step in range(_NEWTON_STEPS):
        slope = (weight @ torch.gt(room, reach[:, :, None], out=taken).mT)[:, 0]
        missing = wanted
        if step > 0:
            missing = wanted - (weight @ torch.clamp(room, max=reach[:, :, None], out=taken).mT)[:, 0]
        further = torch.where((slope > 0) & ~solved, missing / slope, 0.0).clamp(min=0)
        reach = reach + further
        if step > 0:
            solved = further <= _SOLVED * reach
            if not asking.waits(w) and bool(solved.all()):
                break
    return torch.clamp(room, max=reach[:, :, None], out=taken).mul_(signs)


def _l2(w: Tensor, lacking: Tensor, low: Tensor, high: Tensor) -> Tensor:
    count = lacking.shape[1]
    normal = w[:, None] * torch.where(lacking >= 0, 1.0, -1.0)[:, :, None]  # (R, J, D)
    q, _ = halfspaces.nearest(
        normal.flatten(0, 1)[:, None], lacking.abs().flatten()[:, None], low.flatten(0, 1), high.flatten(0, 1)
    )
    return q.view(-1, count, q.shape[1])


def _l1(w: Tensor, lacking: Tensor, low: Tensor, high: Tensor) -> Tensor:
    weight = w.abs()
    order = weight.argsort(dim=1, descending=True, stable=True)[:, None].expand_as(low)
    signs = _signs(w, lacking)
    room = _room(signs, low, high).gather(2, order)
    sorted_weight = weight[:, None].expand_as(low).gather(2, order)
    gain = room * sorted_weight
    left = lacking.abs()[:, :, None] - (gain.cumsum(2) - gain)
    amount = torch.minimum(room, left.clamp(min=0) / sorted_weight.clamp(min=torch.finfo(w.dtype).tiny))
    return torch.zeros_like(low).scatter(2, order, amount) * signs


WAYS: Mapping[str, Way] = MappingProxyType({"l1": _l1, "l2": _l2, "linf": _linf})
"""The shortest ways by norm."""
