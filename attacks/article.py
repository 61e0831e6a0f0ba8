"""Plain gradient ascent on the probability of a class: the loop that made a cat a toaster.

    x_{t+1} = clip(x_t + step * grad_x p(class | x_t)),  until p(class | x_t) >= stop

The step from the point that arrives is taken too, as in the article's program, which asks after it.

Source: A. Geitgey, "Machine Learning is Fun, part 8: how to intentionally trick neural networks", 2017. Its pixels lie
in -1..1, where the step is 0.1 and the change is clipped to 0.01; in box units that is 0.025 and 0.005.
Departures: none in the loop. Away from a class (untargeted) its probability descends to 1 - stop.
Cost: 1 forward and 1 backward a step. A probability near 0 has a gradient near 0, so that the loop may take thousands
of steps, or never leave the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.base import Logits, rows
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel


@dataclass(frozen=True)
class Article:
    """Gradient ascent on the softmax probability.

    Attributes:
        step: factor of the gradient, in box units.
        stop: probability of the wanted class that ends the loop.
        steps: most steps.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False

    step: float = 0.025
    stop: float = 0.8
    steps: int = 3000

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"step: must be > 0 in box units, got {self.step:g}")
        if not 0 < self.stop < 1:
            raise ValueError(f"stop: must be a probability in (0, 1), got {self.stop:g}")
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """The last images (B, C, H, W), whether they reached the goal or not. Draws nothing from `rng`."""
        x_adv = x.detach().clone()
        active = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            here = goal[active]
            with torch.enable_grad():
                point = x_adv[active].requires_grad_()
                p = self._wanted(rows(logits, active)(point), here)
                (gradient,) = torch.autograd.grad(p.sum(), point)
            x_adv[active] = threat.project(point.detach() + self.step * gradient, x[active])
            active = active[p.detach() < self.stop]
            if len(active) == 0:
                break
        return x_adv

    @staticmethod
    def _wanted(z: Tensor, goal: Goal) -> Tensor:
        """The probability (B,) of the target, or of not being of the class to get away from."""
        p = z.softmax(dim=1).gather(1, goal.classes[:, None])[:, 0]
        return p if goal.direction > 0 else 1 - p
