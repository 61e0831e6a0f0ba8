"""Substitutes learn from labels alone, and ask no more than they may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


def test_each_round_doubles_the_labels_and_the_last_agrees_most(oracle, tmp_path):
    found = list(Imitation(seeds(), 3, 0.1, RECIPE, period=1).networks(oracle, "of", untrained(), 0, CPU, tmp_path))
    assert [name for name, _, _ in found] == [f"oracle_substitute_{n}" for n in (40, 80, 160, 320)]
    assert [trained["queries"] for _, _, trained in found] == [40, 80, 160, 320]
    agrees = [agreement(network, oracle) for _, network, _ in found]
    assert agrees[-1] > agrees[0] + 0.1
    assert agrees[-1] > 0.7


def test_the_limit_is_kept_and_the_last_round_takes_what_is_left(oracle, tmp_path):
    asked = []

    class Counted(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            assert not x.requires_grad
            assert not torch.is_grad_enabled()
            return super().forward(x)

    counted = Counted(oracle.network, name="oracle", input_shape=(1, 4, 4), num_classes=3)
    found = list(Imitation(seeds(), 9, 0.1, RECIPE, queries=100).networks(counted, "of", untrained(), 0, CPU, tmp_path))
    assert [trained["queries"] for _, _, trained in found] == [40, 80, 100]
    assert [trained["samples"] for _, _, trained in found] == [40, 80, 100]
    assert sum(asked) == 100


def test_the_same_seed_gives_the_same_substitute_and_another_one_another(oracle, tmp_path):
    weights = [
        list(Imitation(seeds(), 2, 0.1, RECIPE).networks(oracle, "of", untrained(), seed, CPU, tmp_path / place))[-1][1]
        .module[1]
        .weight
        for seed, place in ((0, "a"), (0, "b"), (1, "a"))
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


class Silent(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("it is asked again")


def weights(found: list[tuple[str, Network, dict[str, Any]]]) -> list[Tensor]:
    return [network.module[1].weight for _, network, _ in found]


def test_substitutes_are_found_again_without_a_question(oracle, tmp_path):
    how = Imitation(seeds(), 9, 0.1, RECIPE, queries=100)
    learnt = list(how.networks(oracle, "of", untrained(), 0, CPU, tmp_path))
    silent = Silent(oracle.network, name="oracle", input_shape=(1, 4, 4), num_classes=3)
    found = list(how.networks(silent, "of", untrained(), 0, CPU, tmp_path))
    assert [(name, trained) for name, _, trained in found] == [(name, trained) for name, _, trained in learnt]
    for mine, theirs in zip(weights(found), weights(learnt), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert all((tmp_path / trained["checkpoint"]).exists() for _, _, trained in found)
    for other in (
        how.networks(silent, "another", untrained(), 0, CPU, tmp_path),
        how.networks(silent, "of", untrained(), 1, CPU, tmp_path),
        replace(how, step=0.2).networks(silent, "of", untrained(), 0, CPU, tmp_path),
        replace(how, seeds=seeds(41)).networks(silent, "of", untrained(), 0, CPU, tmp_path),
    ):
        with pytest.raises(AssertionError, match="asked again"):
            next(other)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_round_that_is_not_there_is_learnt_as_it_was(oracle, tmp_path, lost):
    how = Imitation(seeds(), 2, 0.1, RECIPE)
    learnt = list(how.networks(oracle, "of", untrained(), 0, CPU, tmp_path))
    (tmp_path / learnt[lost][2]["checkpoint"]).unlink()
    found = list(how.networks(oracle, "of", untrained(), 0, CPU, tmp_path))
    for mine, theirs in zip(weights(found), weights(learnt), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert [trained["queries"] for _, _, trained in found] == [40, 80, 160]
