"""The ensembles: what they are made of, norm by norm, and that each is as strong as its parts."""

from __future__ import annotations

import pytest
import torch

from attacks.apgd import APGD
from attacks.cascade import Cascade
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.square import Square
from attacks.standard import Quick, Standard, Strong
from attacks.threat import ThreatModel
from eval.meter import Meter
from tests.attacks.small_networks import images, linear, smooth

SMALL = Standard(steps=10, targets=3, queries=100)


def rng(n: int) -> Rng:
    return Rng.of(0, [], map(str, range(n)))


def test_the_standard_ensemble_is_that_of_autoattack():
    names = {norm: [name for name, _ in Standard().stages(norm)] for norm in ("linf", "l2", "l1")}
    assert names["linf"] == names["l2"] == ["apgd", "apgd_targeted", "fab", "square"]
    assert names["l1"] == ["apgd", "apgd_targeted", "fab"]
    stages = dict(Standard().stages("linf"))
    assert stages["apgd"] == APGD(steps=100, early_stop=True)
    assert stages["apgd_targeted"] == APGD(steps=100, loss="dlr", targets=9, early_stop=True, give_up=3.0)
    assert stages["square"] == Square(queries=5000, restarts=2, give_up=3.0)
    assert dict(Standard(give_up=None, restarts=1).stages("linf"))["square"] == Square(queries=5000)


@pytest.mark.parametrize("attack", [Standard(), Quick(), Strong()], ids=lambda a: type(a).__name__)
def test_every_stage_fits_every_norm(attack):
    assert isinstance(attack, Cascade)
    for norm in attack.norms:
        assert all(norm in part.norms for _, part in attack.stages(norm))


def test_the_strong_ensemble_begins_as_the_standard_one():
    assert Strong().stages("l2")[:4] == Standard(give_up=None, restarts=1).stages("l2")
    assert "lbfgs" in dict(Strong().stages("l2"))
    assert "lbfgs" not in dict(Strong().stages("linf"))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.04), ("l2", 0.15), ("l1", 0.5)])
def test_nothing_that_a_stage_breaks_is_left(norm, eps):
    net = smooth()
    x, labels, _ = images(net, 32)
    goal, threat = Goal(labels), ThreatModel(norm, eps)
    x_adv = SMALL(net, x, goal, threat, rng=rng(32))
    reached = goal.reached(net(x_adv))
    assert bool(threat.within(x_adv, x).all())
    assert bool(threat.inside_box(x_adv).all())
    assert 0 < int(reached.sum()) < 32
    for number, (_, attack) in enumerate(SMALL.stages(norm)):
        alone = attack(net, x, goal, threat, rng=rng(32).fold(number))
        assert not bool((goal.reached(net(alone)) & threat.within(alone, x) & ~reached).any())


def test_two_classes_are_enough():
    net = linear(classes=2)
    x, labels, _ = images_of_two(net)
    x_adv = SMALL(net, x, Goal(labels), ThreatModel("linf", 0.5), rng=rng(len(x)))
    assert bool((net(x_adv).argmax(1) != labels).all())


def images_of_two(net: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor, None]:
    x = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return x, net(x).argmax(1), None


def test_what_leaves_early_costs_little():
    net = linear()
    x, labels, _ = images(net, 16)
    counter = Meter(net, 16, torch.device("cpu"))
    SMALL(counter, x, Goal(labels), ThreatModel("linf", 0.5), rng=rng(16))
    assert counter.forwards.max() < 12


def test_targets_work():
    net = smooth()
    x, labels, third = images(net, 16)
    goal = Goal(labels, third)
    x_adv = SMALL(net, x, goal, ThreatModel("linf", 0.3), rng=rng(16))
    assert bool(goal.reached(net(x_adv)).all())
