"""Searches on a network that answers roughly where a gradient is wanted: nothing is believed but what it confirms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attacks.base import Logits, bears_rounding, exact, is_rough
from attacks.bim import BIM
from attacks.fab import FAB
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.threat import ThreatModel, quantize
from eval.meter import Meter

THREAT = ThreatModel("linf", 0.1)


class Odd:
    """A network whose gradients, and the logits that come with them, are those of another one."""

    def __init__(self, true: nn.Module, said: Logits) -> None:
        self.true, self.said = true, said
        self.quick = self.slow = 0
        self.points: list[Tensor] = []  # points at which it was asked exactly

    def __call__(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            self.quick += 1
            return self.said(x)
        answer: Tensor = self.true(x)
        return answer

    def exact(self) -> Logits:
        def asked(x: Tensor) -> Tensor:
            self.slow += x.requires_grad
            self.points.append(x.detach())
            answer: Tensor = self.true(x)
            return answer

        return asked


def test_what_is_not_confirmed_is_no_success(mlp, images, streams, own_labels):
    x = images(40)
    goal = own_labels(mlp, x)
    boast = Odd(mlp, lambda x: -mlp(x))  # says of everything that it is broken, and leads back to the label
    x_adv = PGD(steps=10)(boast, x, goal, THREAT, rng=streams(40))
    kept = ~goal.reached(mlp(x_adv)) | ~goal.reached(mlp(quantize(x_adv)))
    assert kept.any()
    assert boast.quick == 9


def test_samples_leave_broken_before_and_after_rounding(mlp, images, streams, own_labels):
    x = images(60)
    goal = own_labels(mlp, x)
    steady, network = Odd(mlp, mlp), Meter(Odd(mlp, mlp), 60, torch.device("cpu"))
    x_adv = PGD(steps=40)(network, x, goal, THREAT, rng=streams(60))
    early = network.backwards < 30
    assert early.float().mean() > 0.5
    assert goal.reached(mlp(x_adv))[early].all()
    assert goal.reached(mlp(quantize(x_adv)))[early].all()
    same = PGD(steps=40)(steady.true, x, goal, THREAT, rng=streams(60))
    assert torch.equal(goal.reached(mlp(same)), goal.reached(mlp(x_adv)))


def test_the_last_tenth_is_exact_and_finds_what_no_rounded_gradient_did(mlp, images, streams, own_labels):
    x = images(40)
    goal = own_labels(mlp, x)
    blind = Odd(mlp, lambda x: torch.zeros(len(x), 5) + 0 * x.flatten(1).sum(1, keepdim=True))
    x_adv = PGD(steps=40, early_stop=False)(blind, x, goal, THREAT, rng=streams(40))
    assert (blind.quick, blind.slow) == (36, 4)
    short = PGD(steps=40, step_size="0.006", early_stop=False)(blind, x, goal, THREAT, rng=streams(40))
    for found in (x_adv, short):
        assert (goal.margin(mlp(found)) > goal.margin(mlp(x))).float().mean() > 0.8


def test_what_is_left_in_the_last_tenth_is_exact_whoever_leaves_in_it(mlp, images, streams, own_labels):
    x = images(200)
    goal = own_labels(mlp, x)
    blind = Odd(mlp, lambda x: torch.zeros(len(x), 5) + 0 * x.flatten(1).sum(1, keepdim=True))
    meter = Meter(blind, 200, torch.device("cpu"))
    PGD(steps=100, step_size="0.006")(meter, x, goal, THREAT, rng=streams(200))
    assert ((meter.backwards > 90) & (meter.backwards < 100)).sum() >= 10  # which leave in it
    assert (blind.quick, blind.slow) == (90, 10)


def test_margins_that_are_compared_are_exact(mlp, images, streams, own_labels):
    x = images(20)
    goal = own_labels(mlp, x)
    loud = Odd(mlp, lambda x: 100 * mlp(x))  # margins a hundred times as large as they are, and the same steps
    attack = PGD(steps=40, loss="logit", early_stop=False, restarts=3)
    found = goal.margin(mlp(attack(loud, x, goal, THREAT, rng=streams(20))))
    assert sum(map(len, loud.points)) == 20 * 3 * 5  # four steps and the last point of each restart
    seen = torch.cat([goal[torch.arange(20).repeat(len(x) // 20)].margin(mlp(x)).view(-1, 20) for x in loud.points])
    assert torch.allclose(found, seen.amax(0), atol=1e-6)


@pytest.mark.parametrize("early_stop", [True, False])
def test_an_exact_network_is_asked_as_it_is(mlp, images, streams, own_labels, early_stop):
    x = images(8)
    goal = own_labels(mlp, x)
    attack = PGD(steps=5, early_stop=early_stop)
    assert not is_rough(mlp)
    assert exact(mlp) is mlp
    metered = attack(Meter(mlp, 8, torch.device("cpu")), x, goal, THREAT, rng=streams(8))
    assert torch.equal(metered, attack(mlp, x, goal, THREAT, rng=streams(8)))


def test_the_meter_counts_both_and_hands_both_on(mlp, images, streams, own_labels):
    x = images(12)
    meter = Meter(mlp, 12, torch.device("cpu"))
    odd = Odd(mlp, mlp)
    through = meter.through(odd)
    assert is_rough(through)
    assert not is_rough(exact(through))
    assert not is_rough(meter)
    PGD(steps=10, early_stop=False)(through, x, own_labels(mlp, x), THREAT, rng=streams(12))
    assert (odd.quick, odd.slow) == (9, 1)
    assert meter.forwards.tolist() == [11] * 12
    assert meter.backwards.tolist() == [10] * 12


def test_only_searches_that_bear_it_are_given_rounded_gradients():
    assert bears_rounding(PGD())
    assert not bears_rounding(FAB())
    assert not bears_rounding(BIM(steps=3))


def test_goals_are_reached_where_the_greatest_other_is_as_large():
    z = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    goal = Goal(torch.tensor([0, 1]))
    assert goal.margin(z).tolist() == [0.0, 0.0]
    assert goal.reached(z).tolist() == [False, True]
