"""The forms of L-BFGS on networks with known weights: success, and who finds less than whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from tests.attacks.small_networks import length
from tests.benchmarks.measure import measure
from tests.benchmarks.networks import load
from tests.benchmarks.peers import DEFAULT, methods

pytestmark = pytest.mark.slow


def plain_pgd(net: nn.Module, x: Tensor, goal: Goal, eps: float, steps: int) -> Tensor:
    """Whether plain PGD in Linf reaches the goal (B,)."""
    r, hit = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool)
    for _ in range(steps):
        v = (x + r).requires_grad_()
        z = net(v)
        hit |= goal.reached(z)
        value = nn.functional.cross_entropy(z, goal.classes, reduction="sum") * -goal.direction
        (grad,) = torch.autograd.grad(value, v)
        r = (x + (r + grad.sign() * 2.5 * eps / steps).clamp(-eps, eps)).clamp(0, 1) - x
    return hit | goal.reached(net(x + r))


@pytest.mark.parametrize("name", ["mnist_lenet5_clean", "mnist_lenet5_adv"])
@pytest.mark.parametrize("kind", ["untargeted", "targeted"])
def test_known_networks_give_in_wherever_pgd_succeeds(real_data: Path, name: str, kind: str) -> None:
    subject = load(name, 100, first=0)
    goal = subject.goal(kind, 0)
    reached = plain_pgd(subject.network, subject.x, goal, eps=0.4, steps=40)
    assert int(reached.sum()) >= 50
    (default,) = methods([DEFAULT])
    x_adv = default.run(subject.network, subject.x, goal, 0)
    assert bool(goal.reached(subject.network(x_adv))[reached].all())
    assert float((length(x_adv, subject.x) / 28).mean()) < 0.12


@pytest.mark.parametrize(
    ("name", "images"), [("mlp", 100), ("mnist_lenet5_clean", 60), ("mnist_lenet5_adv", 60), ("cifar10_resnet4b", 40)]
)
@pytest.mark.parametrize("kind", ["untargeted", "targeted"])
def test_more_evaluations_find_less_and_ddn_no_less(real_data: Path, name: str, images: int, kind: str) -> None:
    subject = load(name, images)
    goal = subject.goal(kind, 0)
    found = {}
    for method in methods(["quick", DEFAULT, "strong", "ddn-1000"]):
        found[method.name] = measure(method, subject.network, subject.x, goal, 0)
        print(f"{name}, {kind}: {method.name} {np.mean(found[method.name].rms):.5f}, {found[method.name].forwards:.0f}")
    robust = name in ("mnist_lenet5_adv", "cifar10_resnet4b")  # where 60 evaluations may find none, nor may DDN
    for one in (DEFAULT, "strong") if robust else found:
        assert all(found[one].reached), one
    assert np.mean(found["quick"].reached) > 0.95

    def no_larger(one: str, other: str) -> bool:
        both = np.array(found[one].reached) & np.array(found[other].reached)
        return bool(np.array(found[one].rms)[both].mean() <= np.array(found[other].rms)[both].mean())

    assert no_larger("strong", DEFAULT)
    assert no_larger(DEFAULT, "quick")
    assert no_larger(DEFAULT, "ddn-1000")
    undefended = name in ("mlp", "mnist_lenet5_clean")
    assert found["quick"].forwards <= 61
    assert found[DEFAULT].forwards <= (150 if undefended else 400)
    assert found["strong"].forwards <= 1001
