"""Defensive distillation: a network that learns the softened answers of another one, at a high temperature.

    teacher:  CE(softmax(z / T), y)        student:  CE(softmax(z / T), softmax(z_teacher / T))

Both are trained at temperature T and used at 1, so that the logits are T times as large as they need be, and the
gradient of the cross-entropy vanishes in the softmax: an attack that follows it finds nothing. The decision boundary is
about where it was, as an attack on the logits shows.

Source: Papernot, McDaniel, Wu, Jha and Swami, "Distillation as a defense to adversarial perturbations against deep
neural networks", IEEE S&P 2016 (arXiv 1511.04508); broken by Carlini and Wagner, IEEE S&P 2017 (arXiv 1608.04644).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import ModelError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (B, C, H, W) in box units, logits (B, K), labels (B,)) -> loss ()."""


def distillation(temperature: float, teacher: Callable[[Tensor], Tensor] | None = None) -> Loss:
    """The loss of the student, or without `teacher` that of the teacher itself.

    Raises:
        ModelError: the temperature is below 1.
    """
    if not temperature >= 1:
        raise ModelError(f"temperature: must be >= 1, got {temperature:g}")

    def loss(x: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        if teacher is None:
            return F.cross_entropy(logits / temperature, labels)
        with torch.no_grad():
            soft = (teacher(x) / temperature).softmax(1)
        return F.cross_entropy(logits / temperature, soft)

    return loss
