"""The smallest budget, against the closed form of a linear network and against trying every budget."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.smallest_eps import SmallestEps
from attacks.threat import ThreatModel, quantize, unlimited

FREE = unlimited("linf")


def streams(n: int) -> Rng:
    return Rng.of(0, ["a"], map(str, range(n)))


def test_a_linear_network_has_a_closed_form() -> None:
    """Without the box in the way, eps = margin / ||w_target - w_label||_1."""
    torch.manual_seed(0)
    layer = nn.Linear(30, 2)
    network = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    x = 0.5 + 0.02 * torch.randn(12, 1, 5, 6)
    labels = network(x).argmax(1)
    goal = Goal(labels, 1 - labels)
    found = SmallestEps(steps=20, eight_bit=False, accuracy=1e-4, most=0.4)(network, x, goal, FREE, rng=streams(12))
    exact = -goal.margin(network(x)) / (layer.weight[0] - layer.weight[1]).abs().sum()
    size = (found - x).flatten(1).abs().amax(1)
    assert bool(goal.reached(network(found)).all())
    assert bool((size <= exact + 2.5e-4).all())
    assert bool((size >= exact - 1e-6).all())


def test_whole_steps_of_8_bits_are_as_small_as_trying_them_all(mlp: nn.Module) -> None:
    torch.manual_seed(1)
    x = (torch.rand(10, 1, 4, 4) * 255).round() / 255
    goal = Goal(mlp(x).argmax(1))
    found = SmallestEps(steps=10)(mlp, x, goal, FREE, rng=streams(10))
    levels = ((found - x) * 255).flatten(1).abs().amax(1)
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    smallest = torch.full((10,), 33)
    for k in range(32, 0, -1):
        tried = PGD(steps=10)(mlp, x, goal, ThreatModel("linf", k / 255), rng=streams(10).fold(k))
        smallest[goal.reached(mlp(quantize(tried)))] = k
    reached = goal.reached(mlp(found))
    assert bool((reached == (smallest < 33)).all())
    assert bool((levels.round()[reached] <= smallest[reached]).all())


def test_an_image_is_searched_for_alone() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)).eval().requires_grad_(False)
    x = torch.rand(6, 1, 4, 4)
    goal = Goal(network(x).argmax(1))
    together = SmallestEps(steps=8)(network, x, goal, FREE, rng=streams(6))
    for i in range(6):
        index = torch.tensor([i])
        alone = SmallestEps(steps=8)(network, x[index], goal[index], FREE, rng=streams(6)[index])
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-6)


def test_a_goal_out_of_reach_ends_with_the_largest_budget() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).requires_grad_(False)
    network[1].weight.zero_()
    x = torch.full((2, 1, 2, 2), 0.5)
    goal = Goal(torch.tensor([0, 0]) + int(network(x)[0].argmax()))
    found = SmallestEps(steps=2, most=4 / 255)(network, x, goal, FREE, rng=streams(2))
    assert bool(((found - x).abs() <= 4.6 / 255).all())


@pytest.mark.parametrize("bad", [{"steps": 0}, {"most": 0.001}, {"most": 2.0}, {"accuracy": 0.0}])
def test_fields_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: must be"):
        SmallestEps(**bad)
