"""The basic iterative method: fast gradient steps of one grey level each, and as many as the budget allows for.

    x_{n+1} = clip_{x, eps}(x_n + alpha * sign(grad_x loss(x_n))),   alpha = 1/255,   N = min(eps + 4, 1.25 eps)

with eps in grey levels. Towards the class that the network finds least likely (`goal=least_likely`) it is the paper's
iterative least-likely-class method.

Source: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world", 2016 (arXiv 1607.02533),
section 2.
Departures: N is rounded up. Of the points of the way the one of the largest margin counts, not the last one.
Cost: N + 1 forwards, N backwards per sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.losses import loss_named
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps


@dataclass(frozen=True)
class BIM:
    """Basic iterative method.

    Attributes:
        steps: gradient steps; None for the paper's number, which depends on eps.
        step_size: length of each, in box units.
        loss: `ce`, `margin` or `logit`, the logit of the class alone.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False

    steps: int | None = None
    step_size: str = "1/255"
    loss: str = "ce"

    def __post_init__(self) -> None:
        loss_named(self.loss)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")
        if not parse_eps(self.step_size) > 0:
            raise ValueError(f"step_size: must be > 0 in box units, got {self.step_size}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W). Draws nothing from `rng`."""
        steps = self.steps or steps_for(threat.eps * 255 / (threat.box[1] - threat.box[0]))
        walk = PGD(steps, self.step_size, random_start=False, loss=self.loss, early_stop=False)
        return walk(logits, x, goal, threat, rng=rng)


def steps_for(eps: float) -> int:
    """The paper's number of steps for a budget in grey levels.

    >>> [steps_for(eps) for eps in (0.5, 2, 4, 8, 16)]
    [1, 3, 5, 10, 20]
    """
    return max(1, math.ceil(min(eps + 4, 1.25 * eps) - 1e-6))
