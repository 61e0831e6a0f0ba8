"""Attacks in turn: who breaks what, at whose cost, and that nobody is taken at their word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.base import Logits
from attacks.cascade import in_turn
from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.meter import Meter
from tests.attacks.small_networks import PAPER, images, length, smooth

LINF = ThreatModel("linf", 0.05)
L2 = ThreatModel("l2", 0.15)


@dataclass(frozen=True)
class Boast:
    """Moves all pixels by `by`, box and budget or not."""

    by: float
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2"})
    minimal: ClassVar[bool] = False

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        return x + self.by * torch.sign(x - 0.5)


def rng(n: int) -> Rng:
    return Rng.of(0, [], map(str, range(n)))


def setting() -> tuple[torch.nn.Module, Tensor, Goal]:
    net = smooth()
    x, labels, _ = images(net, 48)
    return net, x, Goal(labels)


def test_each_sample_is_of_the_first_stage_that_breaks_it():
    net, x, goal = setting()
    stages = (("fgsm", FGSM()), ("pgd", PGD(steps=20)))
    found = in_turn(stages, net, x, goal, LINF, rng(len(x)))
    alone = [
        goal.reached(net(attack(net, x, goal, LINF, rng=rng(len(x)).fold(i)))) for i, (_, attack) in enumerate(stages)
    ]
    expected = torch.where(alone[0], 0, torch.where(alone[1], 1, -1))
    assert found.stage.tolist() == expected.tolist()
    assert {0, 1, -1} <= set(found.stage.tolist())  # else this would say little
    assert goal.reached(net(found.x_adv)).tolist() == (found.stage >= 0).tolist()
    assert bool(LINF.within(found.x_adv, x).all())


def test_later_stages_cost_nothing_for_what_is_broken():
    net, x, goal = setting()
    counter = Meter(net, len(x), x.device)
    found = in_turn((("fgsm", FGSM()), ("pgd", PGD(steps=20, early_stop=False))), counter, x, goal, LINF, rng(len(x)))
    first = found.stage == 0
    assert counter.backwards[first].max() == 1
    assert (counter.backwards[~first] == 21).all()


def test_what_lies_outside_of_box_or_budget_counts_for_nothing():
    net, x, goal = setting()
    for by in (0.2, 2.0):  # outside the ball; outside the box as well
        assert bool(goal.reached(net(x + by * torch.sign(x - 0.5))).any())
        found = in_turn((("boast", Boast(by)),), net, x, goal, LINF, rng(len(x)))
        assert (found.stage == -1).all()
        assert torch.equal(found.x_adv, x)


def test_a_search_for_the_smallest_perturbation_takes_part():
    net, x, goal = setting()
    found = in_turn((("lbfgs", PAPER),), net, x, goal, L2, rng(len(x)))
    smallest = PAPER(net, x, goal, ThreatModel("l2", float("inf")), rng=rng(len(x)).fold(0))
    near = length(smallest, x) <= L2.eps
    assert (found.stage >= 0).tolist() == near.tolist()
    assert 0 < int(near.sum()) < len(x)


def test_rows_do_not_depend_on_each_other():
    net, x, goal = setting()
    stages = (("fgsm", FGSM()), ("pgd", PGD(steps=5, restarts=2)))
    whole = in_turn(stages, net, x, goal, LINF, rng(len(x)))
    for part in (torch.arange(7), torch.arange(7, 48)):
        some = in_turn(stages, net, x[part], goal[part], LINF, rng(len(x))[part])
        assert torch.equal(some.stage, whole.stage[part])
        torch.testing.assert_close(some.x_adv, whole.x_adv[part])


def test_a_sample_that_rounding_saves_is_tried_again():
    x = setting()[1]

    @dataclass(frozen=True)
    class Fine(Boast):
        """Answers with what is adversarial before rounding only."""

        def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
            return fine[: len(x)]

    x = torch.full_like(x, 100 / 255)
    fine = x + 0.4 / 255

    def network(images: Tensor) -> Tensor:
        moved = (images - 100 / 255).abs().flatten(1).amax(1) > 0.1 / 255
        logits = torch.zeros(len(images), 10)
        logits[:, 0] = torch.where(moved, -1.0, 1.0)
        return logits

    goal = Goal(torch.zeros(len(x), dtype=torch.int64))
    found = in_turn((("fine", Fine(0.0)), ("more", Boast(0.01))), network, x, goal, LINF, rng(len(x)))
    assert (found.stage == 0).all()  # it was the first to break it
    assert torch.equal(found.x_adv, x + 0.01 * torch.sign(x - 0.5))  # but the second's holds in a file too
