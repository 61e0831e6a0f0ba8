from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from attacks import lbfgs as lbfgs_module
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited
from tests.attacks.small_networks import (
    MARGIN,
    PAPER,
    QUICK,
    SHAPE,
    STRONG,
    Counter,
    images,
    length,
    rugged,
    run,
    smooth,
)


@pytest.mark.parametrize(
    "attack", [LBFGS(), PAPER, QUICK, STRONG, MARGIN, LBFGS(loss="ce"), LBFGS(climb=0, patience=0, candidates=1)]
)
@pytest.mark.parametrize("targeted", [False, True])
def test_promises_of_an_attack(attack: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    before = x.clone()
    x_adv = run(attack, net, x.requires_grad_(), goal)
    assert torch.equal(x, before)
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert bool(unlimited("l2").inside_box(x_adv).all())
    assert bool(goal.reached(net(x_adv)).all())


@pytest.mark.parametrize("targeted", [False, True])
def test_rows_do_not_depend_on_the_batch(targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    rng = Rng.of(0, [], map(str, range(len(x))))

    def part(rows: Tensor) -> Tensor:
        return LBFGS()(net, x[rows], goal[rows], unlimited("l2"), rng=rng[rows])

    everyone = torch.arange(len(x))
    together = part(everyone)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    # A batch of another size rounds otherwise, and where a walk turns is decided by comparisons.
    torch.testing.assert_close(length(part(order), x[order]), length(together, x)[order], rtol=3e-3, atol=0)
    split = torch.cat([part(everyone[:5]), part(everyone[5:])])
    torch.testing.assert_close(length(split, x), length(together, x), rtol=3e-3, atol=0)
    assert torch.equal(goal.reached(net(split)), goal.reached(net(together)))


def test_images_that_reach_the_goal_are_returned_after_one_forward() -> None:
    net = smooth()
    x, labels, _ = images(net)
    counter = Counter(net, len(x))
    already = torch.arange(len(x)) % 2 == 0
    goal = Goal(torch.where(already, (labels + 1) % 10, labels))
    x_adv = run(LBFGS(), counter, x, goal)
    assert torch.equal(x_adv[already], x[already])
    assert counter.forwards[already].tolist() == [1] * int(already.sum())
    assert counter.backwards[already].sum() == 0
    assert bool((counter.forwards[~already] > 5).all())


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^growth: must be in \(1, 1e6\]"):
        LBFGS(growth=1.0)
    with pytest.raises(ValueError, match=r"^memory: must be >= 1"):
        LBFGS(memory=0)
    with pytest.raises(ValueError, match=r"^stride"):
        LBFGS(stride=8.0)
    with pytest.raises(ValueError, match=r"^patience: must be >= 0"):
        replace(LBFGS(), patience=-1)
    with pytest.raises(ValueError, match=r"^loss: must be one of pairwise, ce, margin, got 'hinge'"):
        LBFGS(loss="hinge")
    with pytest.raises(ValueError, match=r"^guess: must be false with loss=margin"):
        LBFGS(loss="margin")


def test_the_configurations_are_those_of_the_code() -> None:
    folder = Path(lbfgs_module.__file__).parents[1] / "conf" / "attack"
    forms = {"lbfgs": LBFGS(), "lbfgs/paper": PAPER, "lbfgs/quick": QUICK, "lbfgs/strong": STRONG}
    assert {f"lbfgs/{p.stem}" for p in (folder / "lbfgs").glob("*.yaml")} | {"lbfgs"} == set(forms)
    for name, expected in forms.items():
        content = yaml.safe_load((folder / f"{name}.yaml").read_text())
        del content["_target_"], content["defaults"]
        assert LBFGS(**content) == expected
        assert set(content) == {f.name for f in fields(LBFGS)}


def test_the_budget_of_the_threat_model_is_ignored() -> None:
    net = smooth()
    x, labels, _ = images(net, 4)
    rng = Rng.of(0, [], map(str, range(4)))
    small = LBFGS()(net, x, Goal(labels), ThreatModel("l2", 1e-3), rng=rng)
    assert torch.equal(small, run(LBFGS(), net, x, Goal(labels)))


def test_no_image_costs_more_than_the_evaluations_allowed() -> None:
    net = smooth()
    x, labels, targets = images(net)
    for attack in (replace(LBFGS(), evaluations=20), QUICK, LBFGS(), replace(STRONG, evaluations=300)):
        for goal in (Goal(labels), Goal(labels, targets)):
            counter = Counter(net, len(x))
            attack_on = attack(counter, x, goal, unlimited("l2"), rng=Rng.of(0, [], map(str, range(len(x)))))
            assert bool(goal.reached(net(attack_on)).all())
            assert float(counter.forwards.max()) <= attack.evaluations + 1  # the clean image


@pytest.mark.parametrize("targeted", [False, True])
def test_more_evaluations_give_smaller_perturbations_on_a_rugged_boundary(targeted: bool) -> None:
    net = rugged()
    x, labels, targets = images(net, 60)
    goal = Goal(labels, targets if targeted else None)
    sizes = [float(length(run(form, net, x, goal), x).mean()) for form in (QUICK, LBFGS(), STRONG)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_an_image_alone_gets_what_it_gets_among_others() -> None:
    net = rugged()
    x, labels, targets = images(net, 16)
    goal, rng = Goal(labels, targets), Rng.of(0, [], map(str, range(16)))
    together = LBFGS()(net, x, goal, unlimited("l2"), rng=rng)
    one_by_one = [LBFGS()(net, x[i], goal[i], unlimited("l2"), rng=rng[i]) for i in torch.arange(len(x)).split(1)]
    torch.testing.assert_close(length(torch.cat(one_by_one), x), length(together, x), rtol=3e-3, atol=0)


def test_a_network_that_is_flat_around_the_images_is_climbed_out_of() -> None:
    """Saturated: no gradient worth following before some way is gone, as on adversarially trained networks."""
    w = torch.randn(36, generator=torch.Generator().manual_seed(4))

    def flat(v: Tensor) -> Tensor:
        beyond = 40 * ((v.flatten(1) - 0.5) @ w / w.norm() - 1.0)
        return torch.stack([torch.zeros_like(beyond), torch.nn.functional.softplus(beyond) - 0.01], 1)

    x = torch.full((4, *SHAPE), 0.5)
    goal = Goal(torch.zeros(4, dtype=torch.int64))
    alone = run(LBFGS(climb=0), flat, x, goal)
    assert not bool(goal.reached(flat(alone)).any())
    x_adv = run(LBFGS(), flat, x, goal)
    assert bool(goal.reached(flat(x_adv)).all())
    assert float(length(x_adv, x).max()) < 1.0


def test_the_seed_reaches_the_walks_and_only_the_seed() -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets)
    assert torch.equal(run(LBFGS(), net, x, goal), run(LBFGS(), net, x, goal))
    other = LBFGS()(net, x, goal, unlimited("l2"), rng=Rng.of(1, [], map(str, range(len(x)))))
    assert not torch.equal(other, run(LBFGS(), net, x, goal))
    torch.testing.assert_close(length(other, x), length(run(LBFGS(), net, x, goal), x), rtol=0.02, atol=0)
