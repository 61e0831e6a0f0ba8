"""A first adversarial point, however far: signed-gradient steps of the margin, from x until one is met.

On networks whose loss is flat around x a search for the smallest perturbation finds nothing to follow. The sign of the
gradient does not shrink with it, so the climb goes on; coordinates that stand at the box are left out, and the steps
get longer, so that within a few dozen steps a corner of the box is reached. The climb ends at what is adversarial, or
where it cannot move. Where the climb from x fails, one from a random point near it may not.

Source: the steps of FGSM, Goodfellow, Shlens and Szegedy, ICLR 2015 (arXiv 1412.6572), repeated.
Cost: one forward and one backward a step and sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks import asking
from attacks.closest import Closest, Objective
from attacks.goal import Goal
from attacks.losses import loss_named
from attacks.rng import Rng

_LONGER = 1.05  # factor from one step to the next
_AWAY = 0.1  # noise from which a climb from a random point starts, as RMS and a part of the width of the box


def attempt(closest: Closest, index: Tensor, r: Tensor) -> None:
    """Let `closest` know of the points at `r` (b, D) from the images `index` (b,)."""
    goal = closest.goal[index]
    closest.evaluate(torch.clamp(r, closest.room[0][index], closest.room[1][index]), index, _margin(goal))


def climb(
    closest: Closest, index: Tensor, steps: int, stride: float, evaluations: int, *, rng: Rng | None = None
) -> None:
    """Find something adversarial for those of the images `index` (b,) for which nothing has been found.

    Args:
        closest: takes what is found.
        index: images (b,).
        steps: most steps.
        stride: length of the first step, as RMS and a part of the width of the box.
        evaluations: most evaluations an image, earlier ones included.
        rng: streams of the images of `closest`, to start from random points; without it from the images.
    """
    index = index[~closest.found[index]]
    if len(index) == 0:
        return
    width = closest.threat.box[1] - closest.threat.box[0]
    low, high = closest.room[0][index], closest.room[1][index]
    dim = low.shape[1]
    away = torch.zeros_like(low) if rng is None else rng[index].normal(dim) * (_AWAY * width)
    _ascend(closest, index, torch.clamp(away, low, high), steps, stride * width * dim**0.5, evaluations)


def _ascend(closest: Closest, index: Tensor, r: Tensor, steps: int, length: float, evaluations: int) -> None:
    low, high = closest.room[0][index], closest.room[1][index]
    moved = torch.ones_like(index, dtype=torch.bool)
    period = asking.period(r)
    for step in range(steps):
        if step % period == 0:
            lost = (moved & ~closest.found[index] & (closest.evaluations[index] < evaluations)).nonzero()[:, 0]
            if len(lost) == 0:
                return
            if len(lost) < len(index):
                index, low, high, r = index[lost], low[lost], high[lost], r[lost]
        _, w, _ = closest.evaluate(r, index, _margin(closest.goal[index]))
        held = ((r <= low) & (w < 0)) | ((r >= high) & (w > 0))
        sign = w.sign().nan_to_num().masked_fill(held, 0.0)
        ahead = r + sign * (length * _LONGER**step / sign.norm(dim=1, keepdim=True).clamp(min=1.0))
        ahead = torch.clamp(ahead, low, high)
        moved, r = (ahead != r).any(1), ahead


def _margin(goal: Goal) -> Objective:
    margin = loss_named("margin")
    return lambda z: (margin.value(z, goal), margin.cotangent(z, goal))
