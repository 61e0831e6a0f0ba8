"""Where the decision boundaries lie if the network is linear: which class to go to, how far it is, and which way.

At an image x the margin between its class and another one, M(r) = z_label(x + r) - z_k(x + r), is taken for
M(0) + <w, r> with w = grad M. The smallest r inside the box with M <= 0 is then that of one inequality
(`attacks.halfspaces`), and the class whose r is shortest the nearest.

Source: the linearisation of DeepFool, Moosavi-Dezfooli, Fawzi and Frossard, CVPR 2016 (arXiv 1511.04599).
Departures: box inside the program.
Cost: two forwards, the first without gradient; a backward for each class looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import rows
from attacks.closest import Closest
from attacks.halfspaces import nearest
from attacks.losses import lead

_FURTHER = 10  # times the part of its way that a boundary lacks inside the box, it is taken to lie further off


@dataclass(frozen=True)
class Outlook:
    """The linearised network at the b images that do not reach the goal and whose logits are finite enough to tell.

    Attributes:
        index: these images (b,).
        deficit: margin (b,) that each has to gain, > 0.
        towards: classes (b, n) to go to, nearest first; for a targeted goal the target (b, 1).
        lengths: L2 norm (b, n) of the smallest perturbation that reaches each.
        deficits: (b, n), by how much their logits are below that of the label; of a target, below the greatest.
        multipliers: (b, n), of these perturbations r = clip(multiplier * w).
        shift: the shortest of them (b, D).
    """

    index: Tensor
    deficit: Tensor
    towards: Tensor
    lengths: Tensor
    deficits: Tensor
    multipliers: Tensor
    shift: Tensor


def linearise(closest: Closest, candidates: int, classes: int) -> Outlook:
    """Look at the likeliest `candidates` other classes of every image, and keep the `classes` nearest ones.

    Calibrates `closest`, and counts one evaluation. For a targeted goal the one inequality is that with the likeliest
    other class.
    """
    goal = closest.goal
    with torch.no_grad():
        z = closest.logits(closest.x).to(closest.x.dtype)
    index = (~goal.reached(z) & torch.isfinite(goal.margin(z)) & ~z.isnan().any(1)).nonzero()[:, 0]
    z, goal = z[index], goal[index]
    closest.calibrate(z, goal.margin(z), index)
    least = closest.clear[index]  # what a tie has to gain
    deficit = torch.maximum(-goal.margin(z), least)
    own = goal.classes[:, None]
    others = z.scatter(1, own, -torch.inf).argsort(stable=True, dim=1, descending=True)
    low, high = closest.room[0][index], closest.room[1][index]
    shift, shortest = torch.zeros_like(low), z.new_full((len(index),), torch.inf)
    count = 1 if goal.targets is not None else min(candidates, z.shape[1] - 1)
    if len(index) == 0 or count == 0:
        none = z.new_zeros(len(index), 0)
        return Outlook(index, deficit, others[:, :0], none, none, none, shift)

    found = []
    with torch.enable_grad():
        closest.evaluations[index] += 1
        points = closest.x[index].requires_grad_()
        out = rows(closest.logits, index)(points)
        for k in range(count):
            ahead, seed = lead(z, goal.classes, others[:, k])
            seed = (seed * goal.direction).to(out.dtype)
            w = torch.autograd.grad(out, points, seed, retain_graph=k + 1 < count, materialize_grads=True)[0].flatten(1)
            lack = torch.maximum(-goal.direction * ahead, least)
            q, multiplier = nearest(w[:, None], lack[:, None], low, high)
            short = 1 - (w * q).sum(1) / lack
            length = q.norm(dim=1) * (1 + _FURTHER * short.clamp(min=0))
            # Where its gradient is 0 it reaches nothing; q is then 0, which would come first.
            length = torch.where(w.any(1) & ~length.isnan(), length, torch.inf)
            shift = torch.where((length < shortest)[:, None], q, shift)
            shortest = torch.minimum(shortest, length)
            found.append(torch.stack([length, lack, multiplier[:, 0]]))
    lengths, deficits, multipliers = torch.stack(found, 2)  # (b, count) each
    order = lengths.argsort(stable=True, dim=1)[:, :classes]
    towards = others[:, :count] if goal.targets is None else goal.targets[:, None]
    towards, lengths, deficits, multipliers = (t.gather(1, order) for t in (towards, lengths, deficits, multipliers))
    return Outlook(index, deficit, towards, lengths, deficits, multipliers, shift)
