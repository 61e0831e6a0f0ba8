from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks.apgd import APGD
from attacks.apgd_climb import Halving, Sparse
from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.side_by_side import likeliest, searches
from attacks.threat import ThreatModel, quantize
from eval.meter import Meter

EPS = {"linf": 0.1, "l2": 0.5, "l1": 1.5}
LOSSES = ("ce", "dlr", "margin")


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("loss", LOSSES)
def test_reaches_the_closed_form_on_a_linear_network(linear, images, streams, norm, loss):
    network, x = linear(), images(20, 1, 3, 4)
    goal, threat = Goal(network(x).argmax(1)), ThreatModel(norm, EPS[norm])
    before = goal.margin(network(x))
    most = goal.margin(network(FGSM()(network, x, goal, threat, rng=streams(20)))) - before
    gained = goal.margin(network(APGD(loss=loss, early_stop=False)(network, x, goal, threat, rng=streams(20)))) - before
    assert (gained <= most * (1 + 1e-4) + 1e-4).all()
    assert (gained >= most * (0.97 if norm == "l1" else 0.999)).all()  # steps in L1 do not get shorter than eps / 10


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("targeted", [False, True])
def test_stays_inside_ball_and_box_and_leaves_its_input_alone(mlp, images, streams, own_labels, norm, targeted):
    x, threat = images(16), ThreatModel(norm, EPS[norm])
    goal = own_labels(mlp, x)
    if targeted:
        goal = Goal(goal.labels, (goal.labels + 2) % 5)
    before = x.clone()
    for attack in (APGD(steps=20, restarts=6), APGD(steps=20, loss="dlr", targets=3, early_stop=False)):
        x_adv = attack(mlp, x, goal, threat, rng=streams(16))
        assert threat.within(x_adv, x).all()
        assert threat.inside_box(x_adv).all()
        assert torch.equal(x, before)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize(
    "attack", [APGD(steps=20, restarts=6), APGD(steps=20, loss="dlr", targets=4, restarts=2)], ids=["ce", "targeted"]
)
def test_batches_do_not_matter(mlp, images, streams, own_labels, norm, attack):
    x, threat = images(40), ThreatModel(norm, EPS[norm] / 2)
    goal, rng = own_labels(mlp, x), streams(40)
    whole = attack(mlp, x, goal, threat, rng=rng)
    parts = [torch.arange(25), torch.arange(25, 40)]
    joined = torch.cat([attack(mlp, x[some], goal[some], threat, rng=rng[some]) for some in parts])
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-5)
    assert 0 < goal.reached(mlp(whole)).sum() < 40


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_is_at_least_as_strong_as_pgd_with_as_many_steps(mlp, images, streams, own_labels, norm):
    x, threat = images(200), ThreatModel(norm, EPS[norm] / 2)
    goal, rng = own_labels(mlp, x), streams(200)
    margins = [
        goal.margin(mlp(attack(mlp, x, goal, threat, rng=rng)))
        for attack in (APGD(early_stop=False), PGD(steps=100, early_stop=False))
    ]
    assert margins[0].mean() >= margins[1].mean() - 1e-3
    assert (margins[0] > 0).sum() >= (margins[1] > 0).sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targets", [0, 9])
def test_breaks_as_many_as_torchattacks(mlp, images, streams, own_labels, norm, targets):
    torchattacks = pytest.importorskip("torchattacks")
    x, threat = images(200), ThreatModel(norm, EPS[norm] / 2)
    goal = own_labels(mlp, x)
    kwargs = {"norm": norm.capitalize(), "eps": threat.eps, "steps": 50}
    if targets:
        attack = torchattacks.APGDT(mlp, n_classes=5, **kwargs)
        attack.target_class = None
    else:
        attack = torchattacks.APGD(mlp, **kwargs)
    theirs = goal.reached(mlp(attack(x, goal.labels)))
    ours = APGD(steps=50, loss="dlr" if targets else "ce", targets=targets)
    found = goal.reached(mlp(ours(mlp, x, goal, threat, rng=streams(200))))
    assert 20 < theirs.sum() < 180
    assert found.sum() >= theirs.sum()


def test_a_sample_that_leaves_stays_adversarial_after_rounding(mlp, images, streams, own_labels):
    x, threat = quantize(images(200)), ThreatModel("linf", 0.1)
    goal = own_labels(mlp, x)
    x_adv = APGD()(mlp, x, goal, threat, rng=streams(200))
    fooled = goal.reached(mlp(x_adv))
    assert fooled.float().mean() > 0.5
    assert goal.reached(mlp(quantize(x_adv)))[fooled].float().mean() > 0.97


def test_target_classes_break_what_the_goal_alone_does_not(images, streams):
    """The likeliest other class cannot be reached, whatever the gradient says; the next one can."""

    class Decoy(nn.Module):
        def forward(self, x):
            left, right = x.flatten(1)[:, :8].mean(1), x.flatten(1)[:, 8:].mean(1)
            return torch.stack([0 * left, (left - 0.56).clamp(max=-0.01), right - 0.65], 1)

    x, threat = torch.full((4, 1, 4, 4), 0.5), ThreatModel("linf", 0.2)
    goal = Goal(torch.zeros(4, dtype=torch.int64))
    alone, all_classes = (
        goal.reached(Decoy()(APGD(steps=10, loss="margin", targets=t)(Decoy(), x, goal, threat, rng=streams(4))))
        for t in (1, 2)
    )
    assert not alone.any()
    assert all_classes.all()


def test_fewer_classes_than_targets_or_than_dlr_needs_are_enough(linear, images, streams):
    for classes in (2, 3):
        network, x = linear(classes), images(20, 1, 3, 4)
        goal, threat = Goal(network(x).argmax(1)), ThreatModel("linf", 0.3)
        best = goal.reached(network(FGSM(loss="margin")(network, x, goal, threat, rng=streams(20))))
        found = goal.reached(network(APGD(steps=20, loss="dlr", targets=9)(network, x, goal, threat, rng=streams(20))))
        assert best.sum() > 5
        assert (found >= best).all()


def test_costs_what_it_says(mlp, images, streams, own_labels):
    x, steps = images(12), 10
    goal, threat = own_labels(mlp, x), ThreatModel("linf", 1e-4)
    meter = Meter(mlp, 12, torch.device("cpu"))
    APGD(steps=steps, restarts=2, loss="dlr", targets=3)(meter, x, goal, threat, rng=streams(12))
    assert (meter.forwards == 6 * (steps + 1) + 1).all()
    assert (meter.backwards == 6 * steps).all()


def test_what_is_fooled_at_once_costs_little(mlp, images, streams, own_labels):
    x = images(12)
    goal, meter = own_labels(mlp, x), Meter(mlp, 12, torch.device("cpu"))
    APGD(restarts=3)(meter, x, goal, ThreatModel("linf", 0.9), rng=streams(12))
    assert meter.forwards.max() < 40


def test_gradients_that_are_not_numbers_are_no_obstacle(linear, images, streams):
    network = linear()

    class Broken(nn.Module):
        def forward(self, x):
            hurt = x.clone()
            hurt[:, 0, 0, 0] = (x[:, 0, 0, 0] * 0.0).sqrt()  # its slope is 0 * inf
            return network(hurt)

    x, threat = images(20, 1, 3, 4), ThreatModel("linf", 0.5)
    goal = Goal(Broken()(x).argmax(1))
    x_adv = APGD(steps=20)(Broken(), x, goal, threat, rng=streams(20))
    assert x_adv.isfinite().all()
    assert goal.reached(Broken()(x_adv)).float().mean() > 0.9


def valley(delta: torch.Tensor) -> torch.Tensor:
    """A loss with its top off the middle, far steeper across than along."""
    weight = torch.logspace(0, 2, delta.shape[1])
    return -(weight * (delta - 0.05).square()).sum(1)


@pytest.mark.parametrize(("kind", "norm"), [(Halving, "linf"), (Halving, "l2"), (Sparse, "l1")])
def test_the_best_loss_never_falls_and_belongs_to_the_best_point(streams, kind, norm):
    threat, dim, steps = ThreatModel(norm, EPS[norm]), 10, 60
    low, high = torch.full((8, dim), -0.5), torch.full((8, dim), 0.5)
    climb = kind(threat, steps, low, high, kind.start(streams(8), threat, low, high))
    seen = []
    for _ in range(steps):
        leaf = climb.delta.clone().requires_grad_()
        value = valley(leaf)
        climb.tell(value.detach(), torch.autograd.grad(value.sum(), leaf)[0])
        seen.append(climb.top)
        torch.testing.assert_close(valley(climb.best), climb.top)
        assert (threat.table.size(climb.delta) <= threat.eps * (1 + 1e-5)).all()
        climb.step()
    history = torch.stack(seen)
    assert (history.diff(dim=0) >= 0).all()
    assert (history[-1] > history[0]).all()


def test_steps_are_halved_where_the_loss_swings_and_kept_where_it_rises(streams):
    threat, steps = ThreatModel("linf", 1.0, (-9.0, 9.0)), 50
    low, high = torch.full((2, 1), -9.0), torch.full((2, 1), 9.0)
    climb = Halving(threat, steps, low, high, torch.tensor([[-0.9], [-0.9]]))
    for step in range(12):
        rising = torch.tensor([float(step % 2), float(step)])
        climb.tell(rising, torch.ones(2, 1))
        climb.step()
    assert climb.length[:, 0].tolist() == [1.0, 2.0]


def test_searches_of_a_sample_have_their_own_class_and_stream(mlp, images, streams, own_labels):
    x = images(3)
    goal = own_labels(mlp, x)
    order = likeliest(mlp, x, goal, 9)
    assert torch.equal(order, mlp(x).argsort(1, descending=True)[:, 1:])
    groups = list(searches(mlp, x, goal, streams(3), lambda: torch.tensor([0, 2]), restarts=2, targets=9))
    assert [len(group.owner) for group in groups] == [2, 8, 6]
    keys = torch.cat([group.rng.keys for group in groups])
    assert len(keys.unique()) == len(keys)
    wanted = torch.cat([group.aim.classes for group in groups]).view(8, 2)
    assert torch.equal(wanted[:4], order[[0, 2]].T)
    assert torch.equal(wanted[4:], wanted[:4])


def test_a_search_for_one_class_ends_in_any_that_reaches_the_goal(streams):
    def network(x):
        s = x.flatten(1).mean(1) - 0.5
        return torch.stack([0 * s, 0.1 * s - 0.2, 10 * s - 0.7], 1)  # on the way to the second class lies the third

    x = torch.full((3, 1, 2, 2), 0.5)
    goal = Goal(torch.zeros(3, dtype=torch.int64))
    meter = Meter(network, 3, torch.device("cpu"))
    attack = APGD(steps=30, loss="margin", targets=1)
    assert network(attack(meter, x, goal, ThreatModel("linf", 0.2), rng=streams(3))).argmax(1).tolist() == [2, 2, 2]
    assert (meter.backwards < 10).all()


def test_a_targeted_goal_keeps_its_class(mlp, images, streams, own_labels):
    goal = own_labels(mlp, images(3))
    goal = Goal(goal.labels, (goal.labels + 1) % 5)
    rng = Rng(torch.arange(3))
    groups = list(searches(mlp, images(3), goal, rng, lambda: torch.arange(3), restarts=1, targets=9))
    assert [group.aim.classes.tolist() for group in groups] == [goal.targets.tolist()]


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("restarts", 0), ("loss", "mse"), ("targets", -1)])
def test_a_bad_hyper_parameter_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: must"):
        APGD(**{field: value})
