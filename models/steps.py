"""The steps that a network consists of: what bounds from below are computed on. `models.graph` reads them.

Everything is in float64, on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from models.errors import ModelError

DENSE, CONV, SCALE, AVERAGE, SELECT, ADD, ACTIVATION, MAXPOOL = (
    "dense", "convolution", "scale", "average", "selection", "sum", "activation", "max-pool",
)  # fmt: skip
"""Kinds: linear layers; x -> a x + b; means; entries moved, dropped or padded by 0; sums of two; the rest as named."""

FLOAT32 = 2.0**-24
"""The unit roundoff of float32, which a network is asked in."""


class NoBoundError(ModelError):
    """Nothing can be proved of a network: it computes what no bound is known of."""


class Scale(nn.Module):
    """x -> factor x + shift, elementwise.

    Attributes:
        size: of the numbers whose sum the shift is.
    """

    factor: Tensor
    shift: Tensor
    size: Tensor

    def __init__(self, factor: Tensor, shift: Tensor, size: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)
        self.register_buffer("size", shift.abs() if size is None else size)

    def forward(self, x: Tensor) -> Tensor:
        """The scaled images."""
        return x * self.factor + self.shift


class Select(nn.Module):
    """Moves entries, drops some, or adds zeros: every entry that goes in comes out at most once."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """What is left, where it is wanted."""
        return self.function(x)


class Add(nn.Module):
    """The sum of two."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Of two results of one shape."""
        return x + y


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: of the module in the network, or of the function.
        kind: what it is.
        module: computes it, images (B, ...) -> (B, *shape).
        inputs: numbers of the steps that it reads; step 0 is the image.
        shape: of its result, without the batch.
    """

    name: str
    kind: str
    module: nn.Module
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """The steps of a network from the image in box units to the logits, in float64.

    Attributes:
        shape: (C, H, W) of the image.
        steps: in the order in which they are computed; the first of them is number 1, the last gives the logits.
        unit: roundoff of the numbers that the network itself computes with.
    """

    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    unit: float = FLOAT32

    def shape_of(self, number: int) -> tuple[int, ...]:
        """The shape of step `number`, 0 for the image."""
        return self.steps[number - 1].shape if number else self.shape

    def forward(self, x: Tensor) -> list[Tensor]:
        """The image (B, C, H, W) and the results of all steps."""
        values = [x]
        for step in self.steps:
            values.append(step.module(*(values[i] for i in step.inputs)))
        return values

    def curved(self) -> set[int]:
        """Numbers of the steps that are not linear in the image."""
        found: set[int] = set()
        for number, step in enumerate(self.steps, 1):
            if step.kind in (ACTIVATION, MAXPOOL) or found & set(step.inputs):
                found.add(number)
        return found

    def widest(self) -> int:
        """Numbers that the largest result of a step has."""
        return max(math.prod(self.shape_of(i)) for i in range(len(self.steps) + 1))

    def multiplications(self, number: int | None = None) -> int:
        """Multiplications of the weights, per image, up to step `number` or of all steps."""
        total = 0
        for step in self.steps[:number]:
            weight = getattr(step.module, "weight", None)
            if step.kind in (DENSE, CONV) and isinstance(weight, Tensor):
                places = step.shape[1:] if step.kind == CONV else step.shape[:-1]
                total += weight.numel() * math.prod(places)
        return total
