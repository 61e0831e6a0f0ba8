"""Networks read as steps: each image by itself, and a reason for what cannot be read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from models.classifier import Classifier
from models.graph import read
from models.steps import NoBoundError

SHAPE = (2, 4, 4)


def classifier(net: nn.Module) -> Classifier:
    return Classifier(net, name="n", input_shape=SHAPE, num_classes=3)


class Patches(nn.Module):
    """The pixels of patches on the axis of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.last = nn.Linear(16, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.embed(x.reshape(-1, 16))).view(-1, 8))


class Swapped(nn.Module):
    """Images and channels exchanged, of which there are two each."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1).flatten(1)[:, :3]


class Permuted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.permute(x, (1, 0, 2, 3)).flatten(1)[:, :3]


class Stirred(nn.Module):
    """A reshape that keeps the number of rows, not what is in them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(16, -1).permute(1, 0).reshape(2, -1)[:, :3]


class First(nn.Module):
    """The first two images alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:2].flatten(1)[:, :3]


class Raising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wrong = nn.Linear(31, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.wrong(x.flatten(1))


REFUSED = [
    (Patches(), "reshape.*apart"), (Swapped(), "transpose.*apart"), (Permuted(), "permute.*apart"),
    (Stirred(), "reshape.*apart"), (First(), "getitem.*all images"), (Raising(), "wrong.*RuntimeError"),
    (nn.Sequential(nn.AvgPool2d(2, divisor_override=-1), nn.Flatten()), "divisor_override"),
]  # fmt: skip


@pytest.mark.parametrize(("net", "reason"), REFUSED, ids=[type(net).__name__ for net, _ in REFUSED])
def test_what_cannot_be_read_is_told_by_its_step(net: nn.Module, reason: str) -> None:
    with pytest.raises(NoBoundError, match=reason):
        read(classifier(net))


class Reshaping(nn.Module):
    """Moves of all kinds that keep each image by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.pad(x.permute(0, 2, 3, 1).contiguous().view(x.size(0), 4, -1), (1, 1))
        return self.last(y.transpose(1, 2)[..., :2].reshape(-1, 20).unsqueeze(1).squeeze(1))


def test_moves_within_an_image_are_read() -> None:
    net, x = classifier(Reshaping()), torch.rand(5, *SHAPE)
    assert torch.allclose(read(net).forward(x.double())[-1].float(), net(x), atol=1e-6)


@pytest.mark.parametrize("over", [weight_norm, spectral_norm])
def test_weights_that_are_computed_of_others_are_read_as_float32_has_them(over: type) -> None:
    torch.manual_seed(0)
    layer = over(nn.Linear(32, 3))
    net = classifier(nn.Sequential(nn.Flatten(), layer))
    weight = read(net).steps[-1].module.weight
    assert torch.equal(weight, layer.weight.double())
    assert nn.utils.parametrize.is_parametrized(layer)
