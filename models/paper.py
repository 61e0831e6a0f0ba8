"""Softmax regression and multilayer perceptrons with the weight decay of Szegedy et al.

The loss of layer l with k units and weights w gets a decay in one of three forms:

    half: lambda / 2 * sum(w^2)      full: lambda * sum(w^2)      per_unit: lambda * sum(w^2) / k

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section
4.2, which prints `per_unit`.
Departures: `half` is the default. Softmax regression on MNIST, trained to convergence, comes nearest to the
errors of the paper's Table 1 with it, at each of the three decays there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from models.errors import ModelError
from models.spec import Network, normalisation

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}

DECAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "half": lambda w: w.square().sum() / 2,
    "full": lambda w: w.square().sum(),
    "per_unit": lambda w: w.square().sum() / len(w),
}
"""Form of the decay -> its value for the weights (k, inputs) of a layer, without lambda."""


def decay_penalty(layers: Sequence[nn.Linear], strengths: Sequence[float], form: str) -> Callable[[], Tensor] | None:
    """The decay of some layers, as a function of their present weights; None where it is zero."""
    decay = DECAYS[form]
    active = [(layer, strength) for layer, strength in zip(layers, strengths, strict=True) if strength > 0]
    if not active:
        return None

    def penalty() -> Tensor:
        first, *rest = (strength * decay(layer.weight) for layer, strength in active)
        return sum(rest, first)

    return penalty


def check_decay(where: str, strengths: Sequence[float], form: str) -> None:
    """Refuse a form that is unknown, or a decay below 0.

    Raises:
        ModelError: naming the field of `where`.
    """
    if form not in DECAYS:
        raise ModelError(f"{where}.decay_form: must be one of {', '.join(DECAYS)}, got {form!r}")
    if any(not strength >= 0 for strength in strengths):
        raise ModelError(f"{where}.decay: must be >= 0, got {list(strengths)}")


@dataclass(frozen=True)
class Softmax:
    """Softmax regression: FC10(decay) of the paper's Table 1.

    Attributes:
        decay: lambda of the weight decay.
        decay_form: `half`, `full` or `per_unit`.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    decay: float = 1e-4
    decay_form: str = "half"
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        check_decay("Softmax", [self.decay], self.decay_form)

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        norm = normalisation("Softmax", self.mean, self.std, input_shape[0])
        layer = nn.Linear(prod(input_shape), num_classes)
        network = Network(
            nn.Sequential(nn.Flatten(), layer),
            num_classes,
            f"softmax regression, decay {self.decay:g}",
            *norm,
            penalty=decay_penalty([layer], [self.decay], self.decay_form),
        )
        return {name: network}


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: FC100-100-10 of the paper's Table 1 as it stands.

    Attributes:
        widths: units of each hidden layer.
        activation: `sigmoid` or `relu`.
        dropout: probability with which training drops a hidden unit.
        decay: lambda of the weight decay: one a layer, the output's last, or one for all.
        decay_form: `half`, `full` or `per_unit`.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    widths: list[int] = field(default_factory=lambda: [100, 100])
    activation: str = "sigmoid"
    dropout: float = 0.0
    decay: list[float] = field(default_factory=lambda: [1e-5, 1e-5, 1e-6])
    decay_form: str = "half"
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        check_decay("MLP", self.decay, self.decay_form)
        if any(width < 1 for width in self.widths):
            raise ModelError(f"MLP.widths: must be >= 1 unit a layer, got {list(self.widths)}")
        if self.activation not in ACTIVATIONS:
            raise ModelError(f"MLP.activation: must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"MLP.dropout: must be in [0, 1), got {self.dropout:g}")
        if len(self.decay) not in (1, len(self.widths) + 1):
            raise ModelError(
                f"MLP.decay: must have 1 value or one for each of {len(self.widths) + 1} layers, got {len(self.decay)}"
            )

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network; sigmoid layers start with Glorot's uniform weights, to keep gradients alive."""
        norm = normalisation("MLP", self.mean, self.std, input_shape[0])
        sizes = [prod(input_shape), *self.widths, num_classes]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        if self.activation == "sigmoid":
            for layer in layers:
                nn.init.xavier_uniform_(layer.weight)
        body: list[nn.Module] = [nn.Flatten()]
        for layer in layers[:-1]:
            body += [layer, ACTIVATIONS[self.activation]()]
            if self.dropout:
                body.append(nn.Dropout(self.dropout))
        strengths = list(self.decay) * (len(layers) if len(self.decay) == 1 else 1)
        network = Network(
            nn.Sequential(*body, layers[-1]),
            num_classes,
            f"{self.activation} perceptron {'-'.join(map(str, sizes[1:]))}",
            *norm,
            penalty=decay_penalty(layers, strengths, self.decay_form),
        )
        return {name: network}
