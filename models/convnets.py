"""Convolutional networks to train: a small one, the six layers of cats versus dogs, a CIFAR ResNet-18."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.spec import Network, normalisation


def _require_side(where: str, input_shape: tuple[int, int, int], least: int) -> None:
    if min(input_shape[1:]) < least:
        raise ModelError(
            f"{where}: images must have at least {least} pixels a side, got "
            f"{input_shape[1]} x {input_shape[2]}; take model=mlp or larger images"
        )


def _require_widths(where: str, widths: Sequence[int]) -> None:
    if not widths or any(width < 1 for width in widths):
        raise ModelError(f"{where}: must be one or more widths >= 1, got {list(widths)}")


@dataclass(frozen=True)
class CNN:
    """A small network: [3x3 convolution, 2x2 max-pool, ReLU] for each width, a hidden layer, logits.

    To pool first gives the same values as ReLU first, at a quarter of its work; with the weights' channels last, a
    step of training takes .55 of the time that it takes otherwise (28 x 28, one CPU thread).

    Attributes:
        widths: filters of each convolution; each halves the image.
        hidden: units of the fully connected hidden layer.
        dropout: probability with which training drops a hidden unit.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    widths: list[int] = field(default_factory=lambda: [16, 32])
    hidden: int = 128
    dropout: float = 0.0
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        _require_widths("CNN.widths", self.widths)
        _require_widths("CNN.hidden", [self.hidden])
        if not 0 <= self.dropout < 1:
            raise ModelError(f"CNN.dropout: must be in [0, 1), got {self.dropout:g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network, for images of at least 2**len(widths) pixels a side."""
        norm = normalisation("CNN", self.mean, self.std, input_shape[0])
        shrink = 2 ** len(self.widths)
        _require_side("CNN", input_shape, shrink)
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for filters in self.widths:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
            channels = filters
        flat = channels * (height // shrink) * (width // shrink)
        layers += [nn.Flatten(), nn.Linear(flat, self.hidden), nn.ReLU()]
        if self.dropout:
            layers.append(nn.Dropout(self.dropout))
        layers.append(nn.Linear(self.hidden, num_classes))
        module = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        text = f"CNN {'-'.join(map(str, [*self.widths, self.hidden]))}"
        return {name: Network(module, num_classes, text, *norm)}


@dataclass(frozen=True)
class CatsDogs:
    """The six layers of a well-known cats-versus-dogs tutorial, which pool before the ReLU.

    [3x3 convolution, stride 1, SAME -> 2x2 max-pool, stride 2, SAME -> ReLU] three times, flatten, fully
    connected, ReLU, fully connected. Weights start normal, of deviation .05 cut at two deviations, biases at
    .05. The original takes 128 x 128 x 3 and gives two classes; here flatten adapts to the images.

    Attributes:
        filters: of the convolutions.
        hidden: units of the first fully connected layer.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    filters: list[int] = field(default_factory=lambda: [32, 32, 64])
    hidden: int = 128
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self) -> None:
        _require_widths("CatsDogs.filters", self.filters)
        _require_widths("CatsDogs.hidden", [self.hidden])

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        norm = normalisation("CatsDogs", self.mean, self.std, input_shape[0])
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for filters in self.filters:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
            channels, height, width = filters, -(-height // 2), -(-width // 2)
        layers += [nn.Flatten(), nn.Linear(channels * height * width, self.hidden), nn.ReLU()]
        module = nn.Sequential(*layers, nn.Linear(self.hidden, num_classes))
        for layer in module:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.05, a=-0.1, b=0.1)
                if layer.bias is not None:
                    nn.init.constant_(layer.bias, 0.05)
        text = "cats-versus-dogs CNN, six layers"
        return {name: Network(module, num_classes, text, *norm)}


class _Block(nn.Module):
    """3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm; plus the shortcut; ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 for small images: a 3x3 stem of stride 1 and no max-pool.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016 (arXiv 1512.03385), with the
    stem of its CIFAR networks.

    Attributes:
        width: filters of the first stage; each of the three others has twice those of the one before.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    width: int = 64
    mean: list[float] = field(default_factory=lambda: [0.5])
    std: list[float] = field(default_factory=lambda: [0.25])

    def __post_init__(self) -> None:
        _require_widths("ResNet18.width", [self.width])

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        norm = normalisation("ResNet18", self.mean, self.std, input_shape[0])
        _require_side("ResNet18", input_shape, 8)
        inputs = self.width
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()
        ]  # fmt: skip
        for stage in range(4):
            outputs = self.width * 2**stage
            layers += [_Block(inputs, outputs, 1 if stage == 0 else 2), _Block(outputs, outputs, 1)]
            inputs = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)]
        text = "ResNet-18 for small images" + (f", width {self.width}" if self.width != 64 else "")
        return {name: Network(nn.Sequential(*layers), num_classes, text, *norm)}
