"""Logistic regression between two classes of many, and the closed form of the worst case within a distance."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel
from models.classifier import Classifier
from models.errors import ModelError
from models.logistic import NEVER, Logistic, worst_loss
from models.spec import build

FREE = (-math.inf, math.inf)


@pytest.fixture
def network() -> Classifier:
    return build(Logistic((3, 7)), "m", (1, 5, 5), 10, seed=0)["m"].classifier("m", (1, 5, 5))


def score(network: Classifier, x: torch.Tensor) -> torch.Tensor:
    layer = network.network.linear
    return x.flatten(1) @ layer.weight[0] + layer.bias


def test_it_is_logistic_regression_of_its_two_classes(network: Classifier) -> None:
    x = torch.rand(9, 1, 5, 5)
    p, second = network(x).softmax(1), torch.sigmoid(score(network, x))
    torch.testing.assert_close(p[:, 7], second)
    torch.testing.assert_close(p[:, 3], 1 - second)
    assert (p[:, [0, 1, 2, 4, 5, 6, 8, 9]] == 0).all()
    assert (network(x)[:, 0] == NEVER).all()


def test_it_equals_softmax_regression_with_two_outputs(network: Classifier) -> None:
    x, y = torch.rand(9, 1, 5, 5), torch.tensor([3, 7, 7, 3, 3, 7, 3, 7, 7])
    w, b = network.network.linear.weight, network.network.linear.bias
    two = x.flatten(1) @ torch.cat([-w, w]).T / 2 + torch.stack([-b[0], b[0]]) / 2
    loss = F.cross_entropy(network(x), y, reduction="none")
    torch.testing.assert_close(loss, F.cross_entropy(two, (y == 7).long(), reduction="none"))
    torch.testing.assert_close(loss, F.softplus(-torch.where(y == 7, 1, -1) * score(network, x)))


@pytest.mark.parametrize("eps", [0.05, 0.25, 1.0])
def test_the_fast_gradient_sign_attains_the_worst_loss_for_both_classes(network: Classifier, eps: float) -> None:
    x = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 7]).repeat(20)
    y = torch.where(labels == 7, 1.0, -1.0)
    rng = Rng.of(0, ["attack"], map(str, range(40)), torch.device("cpu"))
    threat = ThreatModel("linf", eps, FREE)
    x_adv = FGSM()(network, x, Goal(labels), threat, rng=rng)
    layer = network.network.linear
    worst = worst_loss(layer.weight[0], layer.bias[0], x.flatten(1), y, eps)

    torch.testing.assert_close(F.cross_entropy(network(x_adv), labels, reduction="none"), worst)
    for draw in range(20):  # nothing in the ball is worse
        other = threat.random_start(x, rng.fold(draw))
        assert (F.cross_entropy(network(other), labels, reduction="none") <= worst + 1e-6).all()
    printed = F.softplus(y * (eps * layer.weight[0].abs().sum() - score(network, x)))  # as the paper has it
    torch.testing.assert_close(printed[y > 0], worst[y > 0])
    assert (printed[y < 0] < worst[y < 0] - 0.01).all()


def test_the_decay_is_that_of_its_one_layer() -> None:
    network = build(Logistic(decay=0.2), "m", (1, 5, 5), 10, seed=0)["m"]
    assert network.penalty is not None
    assert network.penalty().item() == pytest.approx(0.1 * network.module.linear.weight.square().sum().item())


@pytest.mark.parametrize("classes", [(3, 3), (3,), (1, 2, 3), (-1, 2)])
def test_other_than_two_classes_are_refused(classes: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"Logistic.classes: must be two positions of classes"):
        Logistic(classes)


def test_a_class_that_the_data_lack_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Logistic.classes: must be in 0..4, got \[3, 7\]"):
        build(Logistic(), "m", (1, 5, 5), 5, seed=0)
