"""Per-sample objectives of a search, to be maximised, with their derivatives by the logits written out.

An attack needs the gradient by the image; the part of it from loss to logits is known in closed form, so the loss
itself never enters the autograd graph, and a step needs one backward pass from the logits alone.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020 (arXiv 2003.01690), section 4, for the difference of logits ratio.
Departures: for a target its numerator is the target's logit less the greatest other one, in the paper less the label's.
As long as the label is predicted, these are the same; afterwards the paper's may leave the prediction to a third class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from attacks.base import Logits, differentiated
from attacks.goal import Goal

_LEAST_SPREAD = 1e-12  # divided by where logits are equal


@dataclass(frozen=True)
class Loss:
    """An objective that grows as the goal comes nearer.

    Attributes:
        value: (logits (B, K), goal) -> (B,).
        cotangent: (logits (B, K), goal) -> d value / d logits (B, K).
    """

    value: Callable[[Tensor, Goal], Tensor]
    cotangent: Callable[[Tensor, Goal], Tensor]


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(1, index[:, None], 1.0)


def _cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    own = logits.gather(1, goal.classes[:, None])[:, 0]
    return (own - logits.logsumexp(dim=1)) * goal.direction


def _cross_entropy_cotangent(logits: Tensor, goal: Goal) -> Tensor:
    # 1 - p of a confident network cancels to 0 in float32, and with it the gradient: sum the others instead.
    own = goal.classes.unsqueeze(1)
    p = (logits - logits.amax(1, keepdim=True)).exp_()  # several times faster than softmax for few classes
    p.div_(p.sum(1, keepdim=True)).scatter_(1, own, 0.0)
    p.scatter_(1, own, p.sum(1, keepdim=True).neg_())
    return p if goal.targets is None else p.neg_()


def _margin(logits: Tensor, goal: Goal) -> Tensor:
    return goal.margin(logits)


def _margin_cotangent(logits: Tensor, goal: Goal) -> Tensor:
    rival = logits.scatter(1, goal.classes[:, None], -torch.inf).argmax(dim=1)
    return lead(logits, goal.classes, rival)[1] * goal.direction


def _logit(logits: Tensor, goal: Goal) -> Tensor:
    return logits.gather(1, goal.classes[:, None])[:, 0] * goal.direction


def _logit_cotangent(logits: Tensor, goal: Goal) -> Tensor:
    return _one_hot(goal.classes, logits) * goal.direction


def lead(logits: Tensor, classes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """By how much (B,) the logits of `classes` (B,) exceed those of `others` (B,), and its derivative (B, K)."""
    value = logits.gather(1, classes[:, None]) - logits.gather(1, others[:, None])
    return value[:, 0], _one_hot(classes, logits) - _one_hot(others, logits)


def _spread(logits: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """By how much (B,) the first logit in order exceeds the third, or the third and fourth; its derivative (B, K)."""
    places = 3 if goal.targets is None else 4
    if logits.shape[1] < places:
        return torch.ones_like(logits[:, 0]), torch.zeros_like(logits)
    values, classes = logits.topk(places, dim=1)
    spread = values[:, 0] - values[:, 2:].mean(1)
    wide = spread > _LEAST_SPREAD
    share = torch.zeros_like(values)
    share[:, 0] = 1.0
    share[:, 2:] = -1.0 / (places - 2)
    slope = torch.zeros_like(logits).scatter_(1, classes, share * wide[:, None])
    return torch.where(wide, spread, _LEAST_SPREAD), slope


def _margin_ratio(logits: Tensor, goal: Goal) -> Tensor:
    return goal.margin(logits) / _spread(logits, goal)[0]


def _margin_ratio_cotangent(logits: Tensor, goal: Goal) -> Tensor:
    spread, slope = _spread(logits, goal)
    ratio = goal.margin(logits) / spread
    return (_margin_cotangent(logits, goal) - ratio[:, None] * slope) / spread[:, None]


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "ce": Loss(_cross_entropy, _cross_entropy_cotangent),
        "margin": Loss(_margin, _margin_cotangent),
        "logit": Loss(_logit, _logit_cotangent),
        "dlr": Loss(_margin_ratio, _margin_ratio_cotangent),
    }
)
"""`ce`: cross-entropy of the label (untargeted) or its negative for the target. `margin`: `Goal.margin`.
`logit`: that of the target alone, or of the label, to fall. `dlr`: difference of logits ratio, the margin divided by
z_(1) - z_(3), or by z_(1) - (z_(3) + z_(4)) / 2 for a target, where z_(1) >= z_(2) >= ... are the logits in order: no
change of their scale or level matters. The denominator is differentiated as well, so that a step may also widen it.
Where there are fewer classes than the denominator names, the margin takes its place."""


def loss_named(name: str) -> Loss:
    """The loss of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in LOSSES:
        raise ValueError(f"loss: must be one of {', '.join(LOSSES)}, got {name!r}")
    return LOSSES[name]


def logits_and_gradient(logits: Logits, x: Tensor, loss: Loss, goal: Goal) -> tuple[Tensor, Tensor]:
    """One forward and one backward: logits (B, K) at the images `x`, and the gradient (B, C, H, W) of the loss.

    It is 0 where the logits depend on something else that has a gradient, and on the images not at all.
    """
    known = differentiated(logits)
    if known is not None:
        value, pull = known.vjp(x)
        return value, pull(loss.cotangent(value, goal))
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        out = logits(leaf)
    value = out.detach()
    (gradient,) = torch.autograd.grad(out, leaf, loss.cotangent(value, goal), materialize_grads=True)
    return value, gradient
