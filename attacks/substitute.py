"""Jacobian-based augmentation: where to ask a network whose weights are unknown, so that a substitute learns from it.

    S_{k+1} = S_k + { x + lambda * sign(d F_c(x) / dx) : x in S_k },   c = O(x), the class that the network told

F_c is the substitute's probability of that class: new points lie where its answer changes most.

Source: Papernot, McDaniel, Goodfellow, Jha, Celik and Swami, "Practical black-box attacks against machine learning",
Asia CCS 2017 (arXiv 1602.02697), algorithm 1; lambda with alternating signs is its periodic step size.
Departures: the sign is that of d log F_c, the same one, which does not vanish with F_c; points are cut off at the box.
Cost: 1 forward and 1 backward of the substitute for each point; one query of the network for each that is asked.
"""

from __future__ import annotations

from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.losses import LOSSES, logits_and_gradient


def augmented(substitute: Logits, x: Tensor, told: Tensor, step: float, box: tuple[float, float]) -> Tensor:
    """New points (B, C, H, W) to ask at.

    Args:
        substitute: the network as it has been learnt so far.
        x: points (B, C, H, W) that the network has been asked at.
        told: classes (B,) that it told.
        step: lambda, in box units.
        box: least and greatest value of a pixel.
    """
    _, gradient = logits_and_gradient(substitute, x, LOSSES["ce"], Goal(told))  # of -log F_c
    return (x - step * gradient.sign()).clamp(*box)
