"""Substitutes learn from labels alone, and ask no more than they may."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval.data import Samples
from eval.substitute import Imitation
from models.classifier import Classifier
from models.recipe import TrainConfig
from models.spec import Network

CPU = torch.device("cpu")
RECIPE = TrainConfig(epochs=15, batch_size=16, lr=1e-2, schedule="constant", val_fraction=0.0)


def seeds(n: int = 40) -> Samples:
    pixels = np.random.default_rng(0).random((n, 1, 4, 4), dtype=np.float32)
    return Samples.of(pixels, np.zeros(n, np.int64), ("a", "b", "c"), "seed")  # labels that would teach nothing


@pytest.fixture
def oracle() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    net[1].weight.data.mul_(8)
    net[1].bias.data.sub_(net[1].weight.data.sum(1) / 2)
    return Classifier(net, name="oracle", input_shape=(1, 4, 4), num_classes=3)


def untrained() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Network(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), 3, "a guess")


def agreement(network: Network, oracle: Classifier) -> float:
    x = torch.rand(500, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    view = network.classifier("view", (1, 4, 4))
    return float((view(x).argmax(1) == oracle(x).argmax(1)).float().mean())


def test_each_round_doubles_the_labels_and_the_last_agrees_most(oracle):
    found = list(Imitation(seeds(), 3, 0.1, RECIPE, period=1).networks(oracle, untrained(), 0, CPU))
    assert [name for name, _, _ in found] == [f"oracle_substitute_{n}" for n in (40, 80, 160, 320)]
    assert [trained["queries"] for _, _, trained in found] == [40, 80, 160, 320]
    agrees = [agreement(network, oracle) for _, network, _ in found]
    assert agrees[-1] > agrees[0] + 0.1
    assert agrees[-1] > 0.7


def test_the_limit_is_kept_and_the_last_round_takes_what_is_left(oracle):
    asked = []

    class Counted(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            assert not x.requires_grad
            assert not torch.is_grad_enabled()
            return super().forward(x)

    counted = Counted(oracle.network, name="oracle", input_shape=(1, 4, 4), num_classes=3)
    found = list(Imitation(seeds(), 9, 0.1, RECIPE, queries=100).networks(counted, untrained(), 0, CPU))
    assert [trained["queries"] for _, _, trained in found] == [40, 80, 100]
    assert [trained["samples"] for _, _, trained in found] == [40, 80, 100]
    assert sum(asked) == 100


def test_the_same_seed_gives_the_same_substitute_and_another_one_another(oracle):
    weights = [
        list(Imitation(seeds(), 2, 0.1, RECIPE).networks(oracle, untrained(), seed, CPU))[-1][1].module[1].weight
        for seed in (0, 0, 1)
    ]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[0], weights[2])


def test_the_steps_turn_round_with_their_period():
    steps = {
        period: [Imitation(seeds(), 6, 0.1, RECIPE, None, period)._step(k) for k in range(6)] for period in (None, 1, 2)
    }
    assert steps == {
        None: [0.1] * 6,
        1: [0.1, -0.1, 0.1, -0.1, 0.1, -0.1],
        2: [0.1, 0.1, -0.1, -0.1, 0.1, 0.1],
    }
