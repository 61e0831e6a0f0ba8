from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.rng import Rng


class Linear(nn.Module):
    """Logits W x + b of flattened images: the network on which every attack has a closed form."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def linear() -> Callable[..., Linear]:
    def build(classes: int = 2, dim: int = 12, seed: int = 0) -> Linear:
        g = generator(seed)
        return Linear(torch.randn(classes, dim, generator=g), torch.randn(classes, generator=g))

    return build


@pytest.fixture
def mlp() -> nn.Sequential:
    """A small random network of 1x4x4 images and five classes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 5))
    network.requires_grad_(False)
    for layer in (network[1], network[3]):
        layer.weight *= 4  # else the biases decide, and no small perturbation matters
    return network


@pytest.fixture
def images() -> Callable[..., Tensor]:
    def draw(n: int = 20, *shape: int, seed: int = 1) -> Tensor:
        return torch.rand(n, *(shape or (1, 4, 4)), generator=generator(seed))

    return draw


@pytest.fixture
def streams() -> Callable[[int], Rng]:
    return lambda n: Rng.of(0, ["test"], [f"s{i}" for i in range(n)])


@pytest.fixture
def own_labels() -> Callable[[nn.Module, Tensor], Goal]:
    """Untargeted goals with the network's own predictions as labels: every sample starts correct."""

    def build(network: nn.Module, x: Tensor) -> Goal:
        with torch.no_grad():
            return Goal(network(x).argmax(1))

    return build
