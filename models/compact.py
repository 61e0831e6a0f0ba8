"""A small convolutional network for colour pictures, which learns from some thousand of them in a minute."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from models.errors import ModelError
from models.spec import Network, normalisation


@dataclass(frozen=True)
class Compact:
    """[Convolution, batch norm, 2x2 max-pool, ReLU] for each width, the mean over what is left of the image, logits.

    The first convolution has a stride of two in place of a pool, and the last one has none. The mean in place
    of a hidden layer makes it matter little where in the picture something is, so that few pictures teach it.

    Attributes:
        widths: filters of each convolution.
        stem: side of the first convolution's filters, odd; the others' is 3.
        mean: subtracted from the pixels, in box units: one value, or one a channel.
        std: by which they are divided.
    """

    widths: list[int] = field(default_factory=lambda: [16, 32, 64, 96, 128])
    stem: int = 5
    mean: list[float] = field(default_factory=lambda: [0.5])
    std: list[float] = field(default_factory=lambda: [0.25])

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ModelError(f"Compact.widths: must be one or more widths >= 1, got {list(self.widths)}")
        if self.stem < 1 or self.stem % 2 == 0:
            raise ModelError(f"Compact.stem: must be odd and >= 1, got {self.stem}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network, for images of at least 2**(len(widths) - 1) pixels a side."""
        norm = normalisation("Compact", self.mean, self.std, input_shape[0])
        least = 2 ** (len(self.widths) - 1)
        if min(input_shape[1:]) < least:
            raise ModelError(
                f"Compact: images must have at least {least} pixels a side, got {input_shape[1]} x {input_shape[2]}; "
                f"take fewer model widths or larger images"
            )
        layers: list[nn.Module] = []
        channels = input_shape[0]
        for depth, filters in enumerate(self.widths):
            side = 3 if depth else self.stem
            layers.append(nn.Conv2d(channels, filters, side, 1 if depth else 2, side // 2, bias=False))
            layers.append(nn.BatchNorm2d(filters))
            if 0 < depth < len(self.widths) - 1:
                layers.append(nn.MaxPool2d(2))  # before the ReLU: the same values for less work
            layers.append(nn.ReLU())
            channels = filters
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
        module = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        return {name: Network(module, num_classes, f"compact CNN {'-'.join(map(str, self.widths))}", *norm)}
