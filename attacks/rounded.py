"""The fast gradient method with the gradient that automatic differentiation gives, rounding and all.

    d loss / d z_k = p_k - [k = y],   p = softmax(z)

Where a network is sure of its label y, 1 - p_y cancels to a few digits or to 0 in float32, and with it what would push
the label's logit down, though the other p_k are known to full precision. So the step points elsewhere, and spares
images that the method would have turned: `attacks.losses` sums the others in place of 1 - p_y. This form stands beside
it where numbers of implementations are compared that did not.

Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015
(arXiv 1412.6572), section 4, as `torch.nn.functional.cross_entropy` and its backward pass compute it.
Cost: 1 forward, 1 backward per sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.losses import Loss, logits_and_gradient, loss_named
from attacks.rng import Rng
from attacks.threat import ThreatModel


def _cotangent(logits: Tensor, goal: Goal) -> Tensor:
    p = logits.softmax(dim=1)
    return (p.scatter_add(1, goal.classes[:, None], p.new_full((len(p), 1), -1.0))) * -goal.direction


_ROUNDED = Loss(loss_named("ce").value, _cotangent)


@dataclass(frozen=True)
class RoundedFGSM:
    """Fast gradient (sign) method with a gradient that cancels where the network is sure."""

    norms: ClassVar[frozenset[str]] = frozenset({"l0", "l1", "l2", "linf"})
    minimal: ClassVar[bool] = False

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W) at the edge of the budget. Draws nothing from `rng`."""
        _, gradient = logits_and_gradient(logits, x, _ROUNDED, goal)
        return threat.steepest(x, gradient)
