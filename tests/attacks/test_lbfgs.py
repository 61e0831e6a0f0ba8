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
    x_adv = run(attack, net, x, goal)
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


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("form", [LBFGS(), PAPER, QUICK, STRONG, MARGIN])
def test_a_row_whose_logits_are_nan_leaves_the_others_alone(form: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    bad = x[3, 0, 0, 0]

    def broken(v: Tensor) -> Tensor:
        # The network fails for the third image, as soon as it moves.
        near = (v[:, 0, 3:] - x[3, 0, 3:]).flatten(1).norm(dim=1) < 1.0
        moved = near & (v[:, 0, 0, 0] != bad)
        return torch.where(moved[:, None], torch.nan, net(v))

    goal = Goal(labels, targets if targeted else None)
    fine, x_adv = run(form, net, x, goal), run(form, broken, x, goal)
    assert bool(torch.isfinite(x_adv).all())
    others = torch.arange(len(x)) != 3
    torch.testing.assert_close(length(x_adv, x)[others], length(fine, x)[others], rtol=3e-3, atol=0)


def test_a_network_that_never_gives_in_returns_a_finite_try() -> None:
    def stubborn(v: Tensor) -> Tensor:
        flat = v.flatten(1)
        return torch.stack([flat.sum(1) * 0 + 5.0, flat.mean(1)], 1)

    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    x_adv = run(LBFGS(), stubborn, x, Goal(torch.zeros(3, dtype=torch.int64)))
    assert bool(unlimited("l2").inside_box(x_adv).all())


def test_a_constant_network_and_an_empty_batch() -> None:
    x = torch.rand(3, *SHAPE)
    constant = lambda v: v.flatten(1)[:, :3] * 0 + torch.tensor([2.0, 1.0, 0.0])  # noqa: E731
    zero = Goal(torch.zeros(3, dtype=torch.int64))
    assert bool(torch.isfinite(run(LBFGS(), constant, x, zero)).all())
    assert run(LBFGS(), constant, x[:0], zero[torch.arange(0)]).shape == (0, *SHAPE)


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match=r"lbfgs.growth: must be > 1 and finite"):
        LBFGS(growth=1.0)
    with pytest.raises(ValueError, match=r"lbfgs.memory: must be >= 1"):
        LBFGS(memory=0)
    with pytest.raises(ValueError, match=r"lbfgs.stride"):
        LBFGS(stride=8.0)
    with pytest.raises(ValueError, match=r"lbfgs.patience: must be >= 0"):
        replace(LBFGS(), patience=-1)
    with pytest.raises(ValueError, match=r"lbfgs.loss: must be one of pairwise, ce, margin, got 'hinge'"):
        LBFGS(loss="hinge")
    with pytest.raises(ValueError, match=r"lbfgs.guess: must be false with loss=margin"):
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


@pytest.mark.parametrize("form", [LBFGS(), QUICK, PAPER])
def test_a_class_that_is_masked_out_is_no_obstacle(form: LBFGS) -> None:
    net = smooth()
    masked = torch.zeros(10).index_fill(0, torch.tensor([4, 7]), -torch.inf)
    x, labels, _ = images(net)
    labels = (net(x) + masked).argmax(1)
    goal = Goal(labels)
    x_adv = run(form, lambda v: net(v) + masked, x, goal)
    assert bool(goal.reached(net(x_adv) + masked).all())


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


EACH = pytest.mark.parametrize(
    "form",
    [LBFGS(), PAPER, QUICK, replace(STRONG, patience=3), MARGIN],
    ids=["default", "paper", "quick", "strong", "margin"],
)


@EACH
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("box", [(-1.0, 1.0), (0.0, 255.0), (-2.5, 3.0)])
def test_units_of_the_box_change_nothing(form: LBFGS, box: tuple[float, float], targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal, width = Goal(labels, targets if targeted else None), box[1] - box[0]
    scaled = x * width + box[0]
    x_adv = run(form, lambda v: net((v - box[0]) / width), scaled, goal, box)
    assert bool(goal.reached(net((x_adv - box[0]) / width)).all())
    mean, usual = length(x_adv, scaled).mean() / width, length(run(form, net, x, goal), x).mean()
    assert float(mean) == pytest.approx(float(usual), rel=0.02)


@EACH
@pytest.mark.parametrize("targeted", [False, True])
def test_no_images_images_that_are_done_and_a_network_of_nan(form: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    assert run(form, net, x[:0], goal[torch.arange(0)]).shape == (0, *SHAPE)
    done = Goal((labels + 1) % 10, labels if targeted else None)
    assert torch.equal(run(form, net, x, done), x)
    assert torch.equal(run(form, lambda v: net(v) * torch.nan, x, goal), x)


@EACH
def test_two_classes_are_one_goal(form: LBFGS) -> None:
    net = smooth(classes=2)
    x = torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(2))
    labels = net(x).argmax(1)
    away, to = run(form, net, x, Goal(labels)), run(form, net, x, Goal(labels, 1 - labels))
    assert bool(Goal(labels).reached(net(away)).all())
    assert bool(Goal(labels).reached(net(to)).all())
    assert float(length(to, x).mean()) == pytest.approx(float(length(away, x).mean()), rel=1e-3)


@EACH
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_the_fewest_evaluations_are_not_exceeded(form: LBFGS, targeted: bool, most: int) -> None:
    net = smooth()
    x, labels, targets = images(net)
    counter = Counter(net, len(x))
    x_adv = run(replace(form, evaluations=most), counter, x, Goal(labels, targets if targeted else None))
    assert bool(torch.isfinite(x_adv).all())
    assert float(counter.forwards.max()) <= 1 + most
    compared = 1 if targeted else form.candidates
    assert float(counter.backwards.max()) <= most - 1 + compared
