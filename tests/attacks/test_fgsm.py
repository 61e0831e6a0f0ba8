from __future__ import annotations

import pytest
import torch
from scipy.optimize import linprog

from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.threat import ThreatModel

WIDE = (-100.0, 100.0)


def dual(w, norm):
    return {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_moves_a_linear_margin_by_eps_times_the_dual_norm(linear, images, streams, norm):
    network, x = linear(), images(20, 1, 3, 4)
    goal = Goal(network(x).argmax(1))
    threat = ThreatModel(norm, 0.7, WIDE)
    x_adv = FGSM()(network, x, goal, threat, rng=streams(20))
    gain = goal.margin(network(x_adv)) - goal.margin(network(x))
    expected = 0.7 * dual(network.weight[0] - network.weight[1], norm)
    torch.testing.assert_close(gain, expected.expand(20), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_is_the_optimum_of_the_linear_programme_inside_the_box(linear, images, streams, norm):
    network, x = linear(), images(6, 1, 3, 4)
    goal, eps = Goal(network(x).argmax(1)), {"linf": 0.3, "l1": 1.5}[norm]
    x_adv = FGSM()(network, x, goal, ThreatModel(norm, eps), rng=streams(6))
    w = (network.weight[1] - network.weight[0]).double().numpy()
    for i in range(6):
        c = -(w if goal.labels[i] == 0 else -w)
        flat = x[i].flatten().double().numpy()
        if norm == "linf":
            bounds = [(max(-eps, -v), min(eps, 1 - v)) for v in flat]
            best = -linprog(c, bounds=bounds).fun
        else:  # delta = up - down, sum(up + down) <= eps
            best = -linprog(
                [*c, *-c],
                A_ub=[[1.0] * 24],
                b_ub=[eps],
                bounds=[(0, 1 - v) for v in flat] + [(0, v) for v in flat],
            ).fun
        gain = (goal.margin(network(x_adv)) - goal.margin(network(x)))[i].item()
        assert gain == pytest.approx(best, rel=1e-4)


def test_a_step_in_linf_is_the_sign_of_the_gradient(mlp, images, streams, own_labels):
    x = images(8)
    goal = own_labels(mlp, x)
    leaf = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(mlp(leaf), goal.labels, reduction="sum").backward()
    x_adv = FGSM()(mlp, x, goal, ThreatModel("linf", 0.1), rng=streams(8))
    torch.testing.assert_close(x_adv, (x + 0.1 * leaf.grad.sign()).clamp(0, 1))


def test_targeted_raises_the_probability_of_the_target(mlp, images, streams):
    x = images(8)
    labels = mlp(x).argmax(1)
    goal = Goal(labels, (labels + 1) % 5)
    x_adv = FGSM()(mlp, x, goal, ThreatModel("l2", 0.2), rng=streams(8))
    gain = (mlp(x_adv).softmax(1) - mlp(x).softmax(1)).gather(1, goal.targets[:, None])
    assert (gain > 0).all()


def test_agrees_with_torchattacks(mlp, images, streams, own_labels):
    torchattacks = pytest.importorskip("torchattacks")
    x = images(8)
    goal = own_labels(mlp, x)
    theirs = torchattacks.FGSM(mlp, eps=0.1)(x, goal.labels)
    torch.testing.assert_close(FGSM()(mlp, x, goal, ThreatModel("linf", 0.1), rng=streams(8)), theirs)
