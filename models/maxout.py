"""Maxout networks: layers whose units are the greatest of several linear functions of their input.

    h_i(x) = max_j (w_ij'x + b_ij),  j = 1 .. pieces

Such a network is piecewise linear, and dropout trains it: on the input with one probability, on hidden units with
another.

Source: Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout networks", ICML 2013 (arXiv 1302.4389), sections
3 and 5.1; Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015 (arXiv
1412.6572), trains two layers of 240 and of 1,600 units on MNIST.
Departures: there is no limit to the norm of a unit's incoming weights, and no decay of them; a few epochs of Adam do
without. Both papers leave the number of pieces of the two networks to their code; it is 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from models.errors import ModelError
from models.spec import Network, normalisation


class MaxoutLayer(nn.Module):
    """(B, inputs) -> (B, units)."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, pieces * units)

    def forward(self, x: Tensor) -> Tensor:
        """The greatest piece of each unit."""
        pieces: Tensor = self.linear(x).unflatten(1, (self.pieces, -1))  # (B, pieces, units)
        return pieces.amax(1)

    def extra_repr(self) -> str:
        """What the layer's fields do not show."""
        return f"pieces={self.pieces}"


@dataclass(frozen=True)
class Maxout:
    """A multilayer perceptron of maxout units, trained with dropout.

    Attributes:
        widths: units of each hidden layer.
        pieces: linear functions of which a unit takes the greatest.
        input_dropout: probability with which training drops a pixel.
        dropout: probability with which training drops a hidden unit.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    widths: list[int] = field(default_factory=lambda: [240, 240])
    pieces: int = 5
    input_dropout: float = 0.2
    dropout: float = 0.5
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        if not self.widths or any(width < 1 for width in self.widths):
            raise ModelError(f"Maxout.widths: must be one layer or more, of >= 1 unit each, got {list(self.widths)}")
        if self.pieces < 1:
            raise ModelError(f"Maxout.pieces: must be >= 1, got {self.pieces}")
        for key in ("input_dropout", "dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise ModelError(f"Maxout.{key}: must be in [0, 1), got {getattr(self, key):g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        norm = normalisation("Maxout", self.mean, self.std, input_shape[0])
        body: list[nn.Module] = [nn.Flatten(), nn.Dropout(self.input_dropout)]
        for inputs, units in pairwise([prod(input_shape), *self.widths]):
            body += [MaxoutLayer(inputs, units, self.pieces), nn.Dropout(self.dropout)]
        sizes = "-".join(map(str, self.widths))
        network = Network(
            nn.Sequential(*body, nn.Linear(self.widths[-1], num_classes)),
            num_classes,
            f"maxout network {sizes}, {self.pieces} pieces",
            *norm,
        )
        return {name: network}
