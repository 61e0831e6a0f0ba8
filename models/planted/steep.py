"""Faults whose gradients vanish in saturation, or change from one point to the next.

Sources: vanishing in saturation: Carlini and Wagner, "Towards evaluating the robustness of neural networks", S&P 2017
(arXiv 1608.04644), section VII; Brendel and Bethge, 2017 (arXiv 1704.01547).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.convnets import CNN
from models.errors import ModelError
from models.planted.disguise import Overlaid, check_base
from models.spec import Network


@dataclass(frozen=True)
class LogitScale(Overlaid):
    """Logits are so large that the cross-entropy has no gradient left in float32.

    Published: defensive distillation, Papernot et al., S&P 2016 (arXiv 1511.04508), in effect; saturated networks,
    Nayebi and Ganguli, 2017 (arXiv 1703.09202). Trips: zero gradients of the cross-entropy beside useful ones of the
    margin. Broken by: losses that do not depend on the scale, `margin` and `dlr`.

    Attributes:
        factor: of the logits.
    """

    factor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.factor > 0:
            raise ModelError(f"factor: must be > 0, got {self.factor:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"logits times {self.factor:g}"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Scaled."""
        z: Tensor = network(x)
        return z * self.factor


@dataclass(frozen=True)
class SoftmaxTwice(Overlaid):
    """The answer is a vector of probabilities, of which every loss takes the softmax once more.

    Published: many; AutoAttack warns of it (Croce and Hein, ICML 2020, arXiv 2003.01690, their program). Trips: answers
    in [0, 1] that sum to 1. Broken by: the logits before the softmax.

    Attributes:
        temperature: by which logits are divided before the softmax; below 1 it saturates as a distilled network does.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ModelError(f"temperature: must be > 0, got {self.temperature:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return "answers with probabilities"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Probabilities."""
        z: Tensor = network(x)
        return (z / self.temperature).softmax(1)


@dataclass(frozen=True)
class Clipped(Overlaid):
    """No class may lead by more than a plateau: where one does, all is flat.

    Published: bounded and squeezed logits, such as Kannan, Kurakin and Goodfellow, 2018 (arXiv 1803.06373), broken by
    Engstrom, Ilyas and Athalye, 2018 (arXiv 1807.10272). Trips: gradients that are exactly 0, for the margin too;
    scores that stay the same under noise. Broken by: BPDA through the healthy logits.

    Attributes:
        plateau: greatest lead, in logits.
    """

    plateau: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.plateau > 0:
            raise ModelError(f"plateau: must be > 0, got {self.plateau:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"lead of the first class at most {self.plateau:g}"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the other classes raised to the plateau."""
        z: Tensor = network(x)
        return (z - z.amax(1, keepdim=True)).clamp(min=-self.plateau)


@dataclass(frozen=True)
class Shattered(Overlaid):
    """A fast wave of small amplitude on the input: the answer hardly changes, its slope is that of the wave.

    Published: none so plain; it does to any network what k-winners are meant to do: Athalye et al. call such gradients
    shattered. Trips: gradients that finite differences contradict; scores beat gradients. Broken by: gradients averaged
    over neighbours farther away than a wave is long; BPDA through the healthy logits; searches from scores.

    Attributes:
        amplitude: of the wave, in box units.
        slope: its steepest one; the identity's is 1.
    """

    amplitude: float = 0.02
    slope: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("amplitude", "slope"):
            if not getattr(self, name) > 0:
                raise ModelError(f"{name}: must be > 0, got {getattr(self, name):g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"a wave of slope {self.slope:g} on its input"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the images with the wave."""
        logits: Tensor = network(x + self.amplitude * torch.sin(x * (self.slope / self.amplitude)))
        return logits


class Winners(nn.Module):
    """The largest activations of each image stay, the others become 0."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        """What a checkpoint depends on."""
        return f"{self.share}"

    def forward(self, x: Tensor) -> Tensor:
        """Activations (B, ...) of which ceil(share * units) are kept."""
        flat = x.flatten(1)
        count = math.ceil(self.share * flat.shape[1])
        least = flat.topk(count, dim=1).values[:, -1:]
        return torch.where(flat >= least, flat, 0.0).view_as(x)


@dataclass(frozen=True)
class KWinners:
    """Of each layer the k largest activations win, the others are 0: the answer jumps wherever the winners change.

    The one fault that is no disguise: with winners in place of the ReLUs of a network that was trained with these, a
    third of the digits is lost. So it is trained as it is, and has weights of its own. Published: Xiao, Zhong and
    Zheng, ICLR 2020 (arXiv 1905.10510), broken by Tramer et al., NeurIPS 2020 (arXiv 2002.08347), section 5. Trips:
    gradients that finite differences contradict; scores beat gradients. Broken by: gradients averaged over many
    neighbours of the image; searches from scores.

    Attributes:
        base: fields of `models.convnets.CNN`, where they are to differ from those of `model=cnn`.
        share: of the units that win.
    """

    base: dict[str, Any] = field(default_factory=dict)
    share: float = 0.05

    def __post_init__(self) -> None:
        check_base(self.base)
        if not 0 < self.share <= 1:
            raise ModelError(f"share: must be in (0, 1], got {self.share:g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network, to be trained.

        Raises:
            ModelError: the shape of the images does not allow it.
        """
        network = CNN(**self.base).build(name, input_shape, num_classes)[name]
        layers = network.module.children()
        winners = [Winners(self.share) if isinstance(layer, nn.ReLU) else layer for layer in layers]
        network.module = nn.Sequential(*winners)
        network.description += f", {self.share:.0%} of the units win"
        return {name: network}
