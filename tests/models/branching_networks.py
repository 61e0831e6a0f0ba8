"""Small networks that are no chains, of images (1, 6, 6) and four classes, and networks that round much."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(F.relu(self.norm(self.one(x))))
        return torch.relu(y + x)


class Nested(nn.Module):
    """A residual block in a residual block, beside a mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.lift, self.inner, self.mean = (
            nn.Conv2d(1, 2, 1),
            nn.Conv2d(1, 2, 1),
            Residual(),
            nn.AvgPool2d(2),
        )
        self.last = nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = y + self.inner(y * 0.5 + y)
        return self.last((torch.tanh(self.mean(z + z)) + self.lift(self.mean(x))).flatten(1))


class Scaled(nn.Module):
    """A convolution of one of several scalings of the image, beside a linear map of another.

    `reads` says what it reads: the image, the first scaling, one of that, or one beside it.
    """

    def __init__(self, reads: str) -> None:
        super().__init__()
        self.reads = reads
        self.conv, self.last, self.beside = nn.Conv2d(1, 9, 3, 2), nn.Linear(36, 4), nn.Linear(36, 4)
        with torch.no_grad():
            self.conv.weight *= 6
            self.last.weight *= 6

    def forward(self, x: Tensor) -> Tensor:
        first = x * 0.01
        read = {"image": x, "first": first, "second": first * 70 - 0.5, "beside": x / 0.5}[self.reads]
        return self.last(torch.relu(self.conv(read)).flatten(1)) + self.beside(first.flatten(1))


class Parallel(nn.Module):
    """Three branches from the image: a convolution, a max-pool, and a convolution of a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.mean = nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)
        self.after, self.of_mean, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Linear(72, 4)

    def forward(self, x: Tensor) -> Tensor:
        sum_of = F.leaky_relu(self.conv(x), 0.2) + self.after(self.pool(x))
        return self.last(torch.sigmoid(sum_of + self.of_mean(self.mean(x))).flatten(1))


BRANCHING = {
    "scaled image": lambda: Scaled("image"),
    "scaled first": lambda: Scaled("first"),
    "scaled second": lambda: Scaled("second"),
    "scaled beside": lambda: Scaled("beside"),
    "nested": Nested,
    "parallel": Parallel,
}


class Cancelling(nn.Module):
    """Moves the image far away and back, which costs float32 its last digits."""

    def __init__(self, far: float, pixels: int = 36, classes: int = 4) -> None:
        super().__init__()
        self.far, self.last = far, nn.Linear(pixels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((x + self.far - self.far).flatten(1))


def far_units(far: float, pixels: int = 36, classes: int = 4) -> nn.Sequential:
    """A hidden layer far above 0, which the logits take back."""
    first, last = nn.Linear(pixels, 20), nn.Linear(20, classes)
    with torch.no_grad():
        first.bias += far
        last.bias -= far * last.weight.sum(1)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
