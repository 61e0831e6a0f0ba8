"""What planted faults share: a healthy network, and the disguise that is put on once it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from models.classifier import Classifier
from models.convnets import CNN
from models.errors import ModelError
from models.spec import Network

_BASE = "cnn"  # the name under which `model=cnn` is initialised, trained and stored


class Disguised(nn.Module):
    """A network behind a fault: images (B, C, H, W) in box units -> logits (B, K)."""

    def __init__(self, fault: Fault, network: nn.Module) -> None:
        super().__init__()
        self.fault = fault
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """What it answers."""
        return self.fault.logits(self.network, x)


class SeenThrough(Disguised):
    """One with a known way around its fault."""

    def differentiable(self, x: Tensor) -> Tensor:
        """Much the same answer, with gradients that are worth following."""
        assert isinstance(self.fault, Transparent)
        return self.fault.stand_in(self.network, x)


@dataclass(frozen=True)
class Fault(ABC):
    """A disguise of the small CNN, and the spec of the network behind it.

    Attributes:
        base: fields of `models.convnets.CNN`, where they are to differ from those of `model=cnn`.
    """

    base: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_base(self.base)

    @property
    def trained_as(self) -> tuple[str, CNN]:
        """The healthy network: the same checkpoint as that of `model=cnn`, for all faults."""
        return _BASE, CNN(**self.base)

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network.

        Raises:
            ModelError: the shape of the images does not allow it.
        """
        network = CNN(**self.base).build(name, input_shape, num_classes)[name]
        network.disguise = self
        network.description += f", {self.says}"
        return {name: network}

    def __call__(self, network: Classifier) -> nn.Module:
        """The network in its disguise; the weights are the same tensors, or copies that are not written to."""
        return Disguised(self, self.prepared(network))

    def prepared(self, network: Classifier) -> nn.Module:
        """What `logits` is given: the network itself, unless the fault needs more."""
        return network

    @property
    @abstractmethod
    def says(self) -> str:
        """A few words for the report."""

    @abstractmethod
    def logits(self, network: Any, x: Tensor) -> Tensor:
        """What the disguised network answers (B, K) to images (B, C, H, W) in box units."""


@dataclass(frozen=True)
class Transparent(Fault):
    """A fault that has a differentiable stand-in."""

    def __call__(self, network: Classifier) -> nn.Module:
        """The network in its disguise, with `differentiable`."""
        return SeenThrough(self, self.prepared(network))

    @abstractmethod
    def stand_in(self, network: Any, x: Tensor) -> Tensor:
        """What to follow the gradient of in place of `logits` (B, K)."""


@dataclass(frozen=True)
class Overlaid(Transparent):
    """A fault whose way around is the healthy network itself."""

    def stand_in(self, network: Any, x: Tensor) -> Tensor:
        """The healthy network's logits."""
        logits: Tensor = network(x)
        return logits


@dataclass(frozen=True)
class Preprocessed(Transparent):
    """A fault that stands before the healthy network, and whose way around is the identity backwards."""

    @abstractmethod
    def before(self, x: Tensor) -> Tensor:
        """What the healthy network is shown in place of the images (B, C, H, W)."""

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of what it is shown."""
        logits: Tensor = network(self.before(x))
        return logits

    def stand_in(self, network: Any, x: Tensor) -> Tensor:
        """The same, with the derivative by the images themselves."""
        logits: Tensor = network(passed(self.before(x), x))
        return logits


def check_base(base: Mapping[str, Any]) -> None:
    """Refuse what are no fields of the small CNN.

    Raises:
        ModelError: they are not, or their values are not allowed.
    """
    try:
        CNN(**base)
    except TypeError as error:
        raise ModelError(f"base: must have fields of models.convnets.CNN, got {dict(base)}") from error


def passed(value: Tensor, x: Tensor) -> Tensor:
    """`value`, with the derivative of `x`."""
    return x + (value - x).detach()
