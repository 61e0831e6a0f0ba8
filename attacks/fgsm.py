"""The fast gradient method: one step to the point of ball and box that a linear network would mind most.

    x_adv = argmax <grad_x loss(x), x'>  over  |x' - x| <= eps, x' in the box

In Linf this is x + eps * sign(grad), clipped; in L2 the normalised gradient, in L1 the few coordinates with the
largest derivatives, each as far as the box lets it go.

Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015
(arXiv 1412.6572), section 4.
Departures: the paper does not clip to the box; here the best point inside it is taken, in every norm.
Cost: 1 forward, 1 backward per sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.rng import Rng
from attacks.threat import ThreatModel


@dataclass(frozen=True)
class FGSM:
    """Fast gradient (sign) method.

    Attributes:
        loss: `ce`, `margin` or `logit`, the logit of the class alone.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"l0", "l1", "l2", "linf"})
    minimal: ClassVar[bool] = False

    loss: str = "ce"

    def __post_init__(self) -> None:
        loss_named(self.loss)

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W) at the edge of the budget. Draws nothing from `rng`."""
        _, gradient = logits_and_gradient(logits, x, loss_named(self.loss), goal)
        return threat.steepest(x, gradient)
