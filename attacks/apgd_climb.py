"""How APGD climbs: steps whose length every search finds for itself, from what has become of its loss.

Linf and L2, with momentum and a length eta that begins at 2 eps,

    z_t     = project(x_t + eta direction(grad loss(x_t)))
    x_{t+1} = project(x_t + a (z_t - x_t) + (1 - a) (x_t - x_{t-1})),   a = 3/4, and 1 in the first step.

At checkpoints, ever closer to each other, eta is halved and the search goes on from the best point so far where fewer
than rho = 3/4 of the steps since the last one raised the loss, or where eta was kept then and no better point has been
found.

L1, without momentum: a step of length eta, from eps down to eps / 10, is shared by the coordinates with the largest
|gradient|, as many as are 2/3 of those changed at the best point so far. At each checkpoint where that point has become
sparser by 5%, eta is eps again and the search goes on from there; elsewhere eta is divided by 1.5.

Sources: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020 (arXiv 2003.01690), algorithm 1; the same, "Mind the box: l1-APGD for sparse adversarial attacks on
image classifiers", ICML 2021 (arXiv 2103.01208), algorithm 1.
Departures: projections are those onto ball and box together, in L2 too, where the authors' program clips afterwards.
The first checkpoint compares the first step with the start, which the authors' program compares with 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from attacks.rng import Rng
from attacks.threat import ThreatModel

_MOMENTUM = 0.75
_RISES = 0.75
_FIRST_CHECKPOINT, _CLOSER, _CLOSEST = 0.22, 0.03, 0.06  # shares of all steps
_SPARSE_CHECKPOINT = 0.04
_SPARSER = 0.95
_SHARED_BY = 1 / 1.5
_SHORTER = 1.5
_SHORTEST = 10.0


class Climb(ABC):
    """R searches side by side.

    Attributes:
        threat: ball and box.
        steps: of each search.
        low: least perturbations (R, D) inside the box.
        high: greatest ones (R, D).
        delta: perturbations (R, D) whose loss is to be told next.
        best: of those told, the one with the greatest loss (R, D).
        top: that loss (R,).
    """

    first_length: float
    """Of a step, in eps."""

    def __init__(self, threat: ThreatModel, steps: int, low: Tensor, high: Tensor, start: Tensor) -> None:
        self.threat, self.steps, self.low, self.high = threat, steps, low, high
        self.delta = self.best = start
        self.gradient = self.best_gradient = torch.zeros_like(start)
        self.length = torch.full_like(start[:, :1], self.first_length * threat.eps)  # (R, 1)
        self.top = torch.full_like(start[:, 0], -torch.inf)
        self.since = -1  # steps since the last checkpoint
        self.period = self.first_period()

    @classmethod
    @abstractmethod
    def start(cls, rng: Rng, threat: ThreatModel, low: Tensor, high: Tensor) -> Tensor:
        """Where searches begin: random perturbations (R, D) of ball and box."""

    @abstractmethod
    def first_period(self) -> int:
        """Steps up to the first checkpoint."""

    @abstractmethod
    def check(self) -> None:
        """Change what has to be changed at a checkpoint."""

    @abstractmethod
    def move(self) -> Tensor:
        """The next perturbations (R, D)."""

    def keep(self, going: Tensor) -> None:
        """Drop all rows but `going` (R,), bool."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[going])

    def tell(self, value: Tensor, gradient: Tensor) -> None:
        """The loss (R,) at `delta`, and its gradient (R, D), which is finite."""
        better = value > self.top
        self.top = torch.where(better, value, self.top)
        weight = better.to(gradient.dtype)[:, None]  # 0 or 1; on a CPU many times faster than a mask of bools
        self.best = torch.lerp(self.best, self.delta, weight)
        self.best_gradient = torch.lerp(self.best_gradient, gradient, weight)
        self.gradient = gradient
        self.since += 1

    def step(self) -> None:
        """Go on to the next `delta`."""
        if self.since == self.period:
            self.check()
            self.since = 0
        self.delta = self.move()

    def project(self, delta: Tensor) -> Tensor:
        """The nearest perturbations (R, D) of ball and box."""
        return self.threat.table.project(delta, self.threat.eps, self.low, self.high)

    def resume(self, where: Tensor) -> None:
        """Go on from the best points in the rows `where` (R,), bool."""
        self.delta = torch.where(where[:, None], self.best, self.delta)
        self.gradient = torch.where(where[:, None], self.best_gradient, self.gradient)


class Halving(Climb):
    """For Linf and L2."""

    first_length = 2.0

    def __init__(self, threat: ThreatModel, steps: int, low: Tensor, high: Tensor, start: Tensor) -> None:
        super().__init__(threat, steps, low, high, start)
        self.before: Tensor | None = None
        self.value = torch.full_like(self.top, torch.inf)  # of `delta`; nothing rises above that of no point
        self.rises = torch.zeros_like(self.top)
        self.top_then = self.top  # at the last checkpoint
        self.halved_then = torch.ones_like(self.top, dtype=torch.bool)

    @classmethod
    def start(cls, rng: Rng, threat: ThreatModel, low: Tensor, high: Tensor) -> Tensor:
        """Random perturbations (R, D) of the ball, clipped to the box."""
        return threat.table.sample(rng, threat.eps, low, high)

    def first_period(self) -> int:
        """Steps up to the first checkpoint."""
        return max(int(_FIRST_CHECKPOINT * self.steps), 1)

    def tell(self, value: Tensor, gradient: Tensor) -> None:
        """The loss (R,) at `delta`, and its gradient (R, D)."""
        super().tell(value, gradient)
        self.rises += value > self.value
        self.value = value

    def check(self) -> None:
        """Halve the steps of searches that make little progress."""
        halved = (self.rises <= _RISES * self.period) | (~self.halved_then & (self.top_then >= self.top))
        self.length = torch.where(halved[:, None], self.length / 2, self.length)
        self.resume(halved)
        self.value = torch.where(halved, self.top, self.value)
        self.rises = torch.zeros_like(self.rises)
        self.halved_then, self.top_then = halved, self.top
        self.period = max(self.period - max(int(_CLOSER * self.steps), 1), int(_CLOSEST * self.steps), 1)

    def move(self) -> Tensor:
        """The next perturbations (R, D)."""
        direction = self.threat.table.step(self.gradient, 1.0, self.delta, self.low, self.high, 1.0)
        ahead = self.project(direction.mul_(self.length).add_(self.delta))
        before, self.before = self.before, self.delta
        if before is None:
            return ahead
        mixed = torch.lerp(self.delta, ahead, _MOMENTUM).add_(self.delta - before, alpha=1 - _MOMENTUM)
        return self.project(mixed)


class Sparse(Climb):
    """For L1."""

    first_length = 1.0

    def __init__(self, threat: ThreatModel, steps: int, low: Tensor, high: Tensor, start: Tensor) -> None:
        super().__init__(threat, steps, low, high, start)
        self.changed = _changed(start)  # (R,)

    @classmethod
    def start(cls, rng: Rng, threat: ThreatModel, low: Tensor, high: Tensor) -> Tensor:
        """Normal numbers, projected: few coordinates of these (R, D) are not 0."""
        return threat.table.project(rng.normal(low.shape[1]).to(low.dtype), threat.eps, low, high)

    def first_period(self) -> int:
        """Steps up to the first checkpoint, and between them."""
        return max(int(_SPARSE_CHECKPOINT * self.steps), 1)

    def check(self) -> None:
        """Begin with long steps again where the best point has become sparser."""
        changed, eps = _changed(self.best), self.threat.eps
        sparser = changed < _SPARSER * self.changed
        length = torch.where(sparser[:, None], self.first_length * eps, self.length / _SHORTER)
        self.length = length.clamp(min=self.first_length * eps / _SHORTEST)
        self.resume(sparser)
        self.changed = changed

    def move(self) -> Tensor:
        """The next perturbations (R, D)."""
        size = self.gradient.abs()
        dim = size.shape[1]
        place = ((1 - _SHARED_BY * self.changed / dim) * dim).long().clamp(0, dim - 1)
        least = size.sort(dim=1).values.gather(1, place[:, None])  # (R, 1)
        sign = torch.where(size >= least, self.gradient.sign(), 0.0)
        return self.project(self.delta + self.length * sign / sign.abs().sum(1, keepdim=True).clamp(min=1.0))


def _changed(delta: Tensor) -> Tensor:
    """How many coordinates (R,) are not 0."""
    return (delta != 0).sum(1).to(delta.dtype)
