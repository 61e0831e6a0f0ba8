from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks.fab import FAB
from attacks.goal import Goal
from attacks.hyperplanes import WAYS
from attacks.threat import ThreatModel, quantize, unlimited
from eval.meter import Meter

EPS = {"linf": 0.05, "l2": 0.25, "l1": 0.75}


@pytest.fixture
def distance():
    """Of candidates (B,), infinity for those that do not reach the goal."""

    def measure(network, x_adv, x, goal, norm):
        return torch.where(goal.reached(network(x_adv)), unlimited(norm).size(x_adv, x), torch.inf)

    return measure


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("classes", [2, 4])
def test_finds_the_nearest_boundary_of_a_linear_network(linear, images, streams, distance, norm, classes):
    network, x = linear(classes), images(20, 1, 3, 4)
    goal = Goal(network(x).argmax(1))
    z = network(x)
    low, high = unlimited(norm).room(x)
    exact = torch.full((20,), torch.inf)
    for other in range(classes):
        w = network.weight[other] - network.weight[goal.labels]  # (B, D)
        lacking = z.gather(1, goal.labels[:, None]) - z[:, other, None]  # (B, 1)
        q = WAYS[norm](w, lacking, low[:, None], high[:, None])[:, 0]
        there = ((w * q).sum(1) >= lacking[:, 0] * (1 - 1e-4)) & (goal.labels != other)
        exact = torch.where(there, torch.minimum(exact, unlimited(norm).table.size(q)), exact)
    found = distance(network, FAB()(network, x, goal, unlimited(norm), rng=streams(20)), x, goal, norm)
    assert exact.isfinite().sum() > 15
    assert (found >= exact * (1 - 1e-4)).all()
    assert (found <= exact * 1.01 + 1e-5).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_comes_as_near_as_torchattacks(mlp, images, streams, own_labels, distance, norm):
    torchattacks = pytest.importorskip("torchattacks")
    x = images(60)
    goal = own_labels(mlp, x)
    attack = torchattacks.FAB(
        mlp, norm=norm.capitalize(), eps=9.0, steps=30, n_restarts=1, multi_targeted=False, n_classes=5
    )
    theirs = distance(mlp, attack(x, goal.labels), x, goal, norm)
    ours = distance(mlp, FAB(steps=30)(mlp, x, goal, unlimited(norm), rng=streams(60)), x, goal, norm)
    both = theirs.isfinite() & ours.isfinite()
    assert both.sum() > 50
    assert ours.isfinite().sum() >= theirs.isfinite().sum()
    assert ours[both].mean() <= theirs[both].mean() * 1.005


@pytest.mark.parametrize("norm", EPS)
def test_a_budget_keeps_what_is_inside_and_drops_the_rest(mlp, images, streams, own_labels, distance, norm):
    x, threat = images(100), ThreatModel(norm, EPS[norm])
    goal, rng = own_labels(mlp, x), streams(100)
    before = x.clone()
    x_adv = FAB(minimal=False, steps=40)(mlp, x, goal, threat, rng=rng)
    smallest = distance(mlp, FAB(steps=40, halvings=0)(mlp, x, goal, unlimited(norm), rng=rng), x, goal, norm)
    assert threat.within(x_adv, x).all()
    assert threat.inside_box(x_adv).all()
    assert torch.equal(x, before)
    found = goal.reached(mlp(x_adv))
    assert torch.equal(found, smallest <= threat.eps)
    assert 10 < found.sum() < 90
    assert torch.equal(x_adv[~found], x[~found])


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("minimal", [True, False])
def test_batches_do_not_matter(mlp, images, streams, own_labels, norm, minimal):
    x, threat = images(40), unlimited(norm) if minimal else ThreatModel(norm, EPS[norm])
    goal, rng = own_labels(mlp, x), streams(40)
    attack = FAB(minimal=minimal, steps=15, restarts=2, targets=3)
    whole = attack(mlp, x, goal, threat, rng=rng)
    parts = [torch.arange(25), torch.arange(25, 40)]
    joined = torch.cat([attack(mlp, x[some], goal[some], threat, rng=rng[some]) for some in parts])
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", EPS)
def test_reaches_the_class_of_a_targeted_goal(mlp, images, streams, own_labels, distance, norm):
    x = images(30)
    goal = own_labels(mlp, x)
    goal = Goal(goal.labels, (goal.labels + 2) % 5)
    x_adv = FAB(steps=40)(mlp, x, goal, unlimited(norm), rng=streams(30))
    away = FAB(steps=40)(mlp, x, Goal(goal.labels), unlimited(norm), rng=streams(30))
    assert goal.reached(mlp(x_adv)).float().mean() > 0.9
    there = distance(mlp, x_adv, x, goal, norm)
    assert (there >= distance(mlp, away, x, Goal(goal.labels), norm) * 0.98).all()


def test_restarts_never_find_a_larger_perturbation(mlp, images, streams, own_labels, distance):
    x, rng = images(40), streams(40)
    goal = own_labels(mlp, x)
    once, often = (
        distance(mlp, FAB(steps=3, restarts=r)(mlp, x, goal, unlimited("l2"), rng=rng), x, goal, "l2") for r in (1, 4)
    )
    assert (often <= once).all()
    assert (often < once).any()


def test_a_sample_leaves_adversarial_after_rounding(mlp, images, streams, own_labels):
    x, threat = quantize(images(100)), ThreatModel("linf", 0.1)
    goal = own_labels(mlp, x)
    meter = Meter(mlp, 100, torch.device("cpu"))
    x_adv = FAB(minimal=False)(meter, x, goal, threat, rng=streams(100))
    fooled = goal.reached(mlp(x_adv))
    assert fooled.float().mean() > 0.5
    assert goal.reached(mlp(quantize(x_adv)))[fooled].float().mean() > 0.95
    assert meter.forwards[fooled].float().mean() < 0.1 * meter.forwards.max()


@pytest.mark.parametrize("norm", EPS)
def test_what_was_found_is_shortened_to_the_boundary(mlp, images, streams, own_labels, distance, norm):
    x = images(40)
    goal = own_labels(mlp, x)
    rough, fine = (
        distance(mlp, FAB(steps=5, halvings=n)(mlp, x, goal, unlimited(norm), rng=streams(40)), x, goal, norm)
        for n in (0, 10)
    )
    known = rough.isfinite()
    assert known.sum() > 30
    assert (fine <= rough).all()
    assert (fine < rough)[known].float().mean() > 0.5


def test_costs_what_it_says(mlp, images, streams, own_labels):
    x = images(12)
    goal = own_labels(mlp, x)
    for attack, threat, more in (
        (FAB(steps=7, restarts=2, targets=3), unlimited("linf"), 11),
        (FAB(steps=7, restarts=2, targets=3, halvings=0), unlimited("linf"), 0),
        (FAB(minimal=False, steps=7, restarts=2, targets=3), ThreatModel("linf", 1e-5), 0),
    ):
        meter = Meter(mlp, 12, torch.device("cpu"))
        attack(meter, x, goal, threat, rng=streams(12))
        assert (meter.forwards == 6 * 8 + 1 + more).all()
        assert (meter.backwards == 6 * 7).all()


def test_a_network_without_gradients_leaves_the_images_as_they_are(images, streams):
    class Flat(nn.Module):
        def forward(self, x):
            return (x.flatten(1) * 0.0)[:, :3] + torch.tensor([1.0, 0.0, 0.0])

    x = images(5)
    goal = Goal(torch.zeros(5, dtype=torch.int64))
    assert torch.equal(FAB(steps=5, restarts=2)(Flat(), x, goal, unlimited("linf"), rng=streams(5)), x)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("restarts", 0), ("targets", 0), ("overshoot", 0.9), ("back", 1.0), ("bias", 2.0)],
)
def test_a_bad_hyper_parameter_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: must"):
        FAB(**{field: value})
