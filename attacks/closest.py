"""The closest adversarial point that a search for minimal L2 distortion has met, per sample.

Every evaluation of the network goes through here, so that nothing met on the way is lost: a point that reaches the
goal replaces the best one if it is smaller; until one does, the point with the greatest margin is kept as the closest
try.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from attacks import asking
from attacks.base import Logits, rows
from attacks.goal import Goal
from attacks.threat import ThreatModel

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Logits (b, K) -> values (b,) and their derivatives by the logits (b, K)."""

_ROUNDING = 4e-6  # of the larger of the logits that the margin compares: what a batch of another size may change
_CLEARANCE = 1e-4  # of the margin to be overcome
_LEAST = 1e-30  # clearance where all logits are the same


class Closest:
    """A network, the images, and the smallest perturbations found for them.

    Attributes:
        r: perturbations (B, D).
        size: their L2 norm (B,); infinity where none reaches the goal.
        margin: of the goal at x + r (B,), less `clear`.
        evaluations: forwards with a backward (B,), int64.
        clear: margin (B,) that a point must have to count, a little above 0 so that rounding cannot undo it; 0 before
            it is calibrated.
        room: least and greatest perturbation, each (B, D).
    """

    def __init__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel) -> None:
        self.logits, self.x, self.goal, self.threat = logits, x.detach(), goal, threat
        self.room = threat.room(self.x)
        self.r = torch.zeros_like(self.room[0])
        self.size = self.r.new_full((len(x),), torch.inf)
        self.margin = torch.full_like(self.size, -torch.inf)
        self.clear = torch.zeros_like(self.size)
        self.evaluations = torch.zeros(len(x), dtype=torch.int64, device=x.device)

    @property
    def found(self) -> Tensor:
        """Rows (B,) with a point that reaches the goal."""
        return torch.isfinite(self.size)

    def branch(self) -> Closest:
        """For the same images, with nothing found; it counts its evaluations here."""
        other = copy.copy(self)
        other.r, other.size = torch.zeros_like(self.r), torch.full_like(self.size, torch.inf)
        other.margin = torch.full_like(self.margin, -torch.inf)
        return other

    def take(self, other: Closest) -> None:
        """Take what `other` has found where that is smaller, or where nothing is found comes closer to the goal."""
        better = torch.where(self.found | other.found, other.size < self.size, other.margin > self.margin)
        self.r = torch.where(better[:, None], other.r, self.r)
        self.size = torch.where(better, other.size, self.size)
        self.margin = torch.where(better, other.margin, self.margin)

    def calibrate(self, z: Tensor, margin: Tensor, index: Tensor) -> None:
        """Set what margin is clear of rounding, from the logits (b, K) and margins (b,) of the images `index`."""
        goal = self.goal[index]
        own = z.gather(1, goal.classes[:, None])[:, 0]
        other = own - goal.direction * margin
        clear = _ROUNDING * torch.maximum(own.abs(), other.abs()) + _CLEARANCE * margin.abs()
        if len(z) > 0:  # a tie of two logits at 0 is as near to rounding as the others say
            finite = torch.isfinite(z)
            spread = torch.where(finite, z, -torch.inf).amax(1) - torch.where(finite, z, torch.inf).amin(1)
            clear = torch.where(clear > 0, clear, (_ROUNDING * spread).clamp(min=_LEAST))
        self.clear = self.clear.index_copy(0, index, clear)
        self.margin = self.margin.index_copy(0, index, margin - clear)

    def evaluate(self, r: Tensor, index: Tensor, loss: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """One forward and one backward of the rows `index` (b,) at the perturbations `r` (b, D).

        Returns:
            Values (b,) of `loss`, their gradients (b, D) by the image, and margins (b,) less the clearance.
        """
        self.evaluations[index] += 1
        x = self.x[index]
        with torch.enable_grad():
            points = self.threat.place(x, r).requires_grad_()
            out = rows(self.logits, index)(points)
            z = out.detach().to(x.dtype)
            value, by_logits = loss(z)
            (grad,) = torch.autograd.grad(out, points, by_logits.to(out.dtype), materialize_grads=True)
        margin = self.goal[index].margin(z) - self.clear[index]
        moved = (points.detach() - x).flatten(1)
        self._offer(moved, margin, index)
        return value, grad.flatten(1), margin

    def _offer(self, r: Tensor, margin: Tensor, index: Tensor) -> None:
        size, best = r.norm(dim=1), self.size[index]
        better = torch.where(margin > 0, size < best, torch.isinf(best) & (margin > self.margin[index]))
        if asking.waits(r):
            self.r[index] = torch.where(better[:, None], r, self.r[index])
        else:
            self.r[index[better]] = r[better]
        self.margin[index] = torch.where(better, margin, self.margin[index])
        self.size[index] = torch.where(better & (margin > 0), size, best)
