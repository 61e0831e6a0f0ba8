"""Logistic regression between two of the K classes of the data.

    P(y = second | x) = sigmoid(z),   z = w'x + b

The network has K logits: -z/2 and z/2 for the two classes, and for the others a constant so low that softmax gives
them a probability of exactly 0 in float32. So it is logistic regression, equal to softmax regression with two outputs,
and yet its labels, predictions and pictures speak of the classes of the data.

Within an Linf distance of eps the loss zeta(-y z), y = -1 or 1, zeta(t) = log(1 + exp(t)), is at most

    zeta(eps ||w||_1 - y (w'x + b)),

and the fast gradient sign method attains it. Goodfellow et al. print zeta(y (eps ||w||_1 - w'x - b)), which is this for
y = 1 alone.

Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015 (arXiv 1412.6572),
section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.paper import check_decay, decay_penalty
from models.spec import Network, normalisation

NEVER = -1e4
"""Logit of the classes that the network does not know."""


class TwoClasses(nn.Module):
    """Images (B, C, H, W) -> logits (B, K), of which all but two are `NEVER`."""

    def __init__(self, inputs: int, num_classes: int, classes: tuple[int, int]) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 1)
        signs = torch.zeros(num_classes)
        signs[list(classes)] = torch.tensor([-0.5, 0.5])
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("rest", torch.where(signs == 0, NEVER, 0.0), persistent=False)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.linear(x.flatten(1)) * self.signs + self.rest
        return logits

    def extra_repr(self) -> str:
        """What the layer's fields do not show."""
        return f"classes={self.classes}"


def worst_loss(w: Tensor, b: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The greatest loss (B,) of logistic regression within an Linf distance of `eps` from the images `x` (B, D).

    Args:
        w: weights (D,).
        b: bias ().
        x: images, flattened.
        y: classes (B,), -1 or 1.
        eps: in box units.

    >>> worst_loss(torch.tensor([3.0, -1.0]), torch.tensor(0.0), torch.tensor([[1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    tensor([0.6931])
    """
    return F.softplus(eps * w.abs().sum() - y * (x @ w + b))


@dataclass(frozen=True)
class Logistic:
    """Logistic regression between two classes, for samples of these alone.

    Attributes:
        classes: positions of both.
        decay: lambda of the weight decay.
        decay_form: `half`, `full` or `per_unit`.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    classes: Sequence[int] = (3, 7)
    decay: float = 0.0
    decay_form: str = "half"
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        check_decay("Logistic", [self.decay], self.decay_form)
        if len(set(self.classes)) != 2 or len(self.classes) != 2 or min(self.classes) < 0:
            raise ModelError(f"Logistic.classes: must be two positions of classes, got {list(self.classes)}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        first, second = self.classes
        if max(first, second) >= num_classes:
            raise ModelError(f"Logistic.classes: must be in 0..{num_classes - 1}, got {list(self.classes)}")
        norm = normalisation("Logistic", self.mean, self.std, input_shape[0])
        module = TwoClasses(prod(input_shape), num_classes, (first, second))
        network = Network(
            module,
            num_classes,
            f"logistic regression, class {first} or {second}",
            *norm,
            penalty=decay_penalty([module.linear], [self.decay], self.decay_form),
        )
        return {name: network}
