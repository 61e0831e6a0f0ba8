from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional as F

from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.threat import ThreatModel, quantize
from eval.meter import Meter

EPS = {"linf": 0.1, "l2": 0.5, "l1": 1.5}
TO_THE_END = {"early_stop": False, "random_start": False}


def reference(network, x, labels, eps, steps, length):
    """The textbook loop in Linf, from the image."""
    x_adv = x.clone()
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
        x_adv = torch.min(torch.max(x_adv + length * g.sign(), x - eps), x + eps).clamp(0, 1)
    return x_adv


@pytest.mark.parametrize("norm", EPS)
def test_reaches_the_closed_form_on_a_linear_network(linear, images, streams, norm):
    network, x = linear(), images(20, 1, 3, 4)
    goal, threat = Goal(network(x).argmax(1)), ThreatModel(norm, EPS[norm])
    pgd = PGD(steps=40, spread=0.0, **TO_THE_END)
    best = goal.margin(network(FGSM()(network, x, goal, threat, rng=streams(20))))
    got = goal.margin(network(pgd(network, x, goal, threat, rng=streams(20))))
    torch.testing.assert_close(got, best, rtol=1e-4, atol=1e-5)


def test_is_the_textbook_loop_in_linf(mlp, images, streams, own_labels):
    x = images(16)
    goal = own_labels(mlp, x)
    pgd = PGD(steps=7, step_size="0.02", **TO_THE_END)
    ours = pgd(mlp, x, goal, ThreatModel("linf", 0.1), rng=streams(16))
    theirs = reference(mlp, x, goal.labels, 0.1, 7, 0.02)
    assert (goal.margin(mlp(ours)) >= goal.margin(mlp(theirs)) - 1e-6).all()  # ours is the best iterate
    last = torch.isclose(goal.margin(mlp(ours)), goal.margin(mlp(theirs)), rtol=1e-4, atol=1e-5)
    assert last.float().mean() > 0.8
    torch.testing.assert_close(ours[last], theirs[last], rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_agrees_with_foolbox(mlp, images, streams, own_labels, norm):
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    foolbox = pytest.importorskip("foolbox")
    x = images(16)
    goal = own_labels(mlp, x)
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    theirs, _, _ = attack(abs_stepsize=0.01, steps=20, random_start=False)(
        foolbox.PyTorchModel(mlp.eval(), bounds=(0, 1), device="cpu"), x, goal.labels, epsilons=EPS[norm]
    )
    pgd = PGD(steps=20, step_size="0.01", **TO_THE_END)
    ours = pgd(mlp, x, goal, ThreatModel(norm, EPS[norm]), rng=streams(16))
    margin = goal.margin(mlp(theirs))
    assert (goal.margin(mlp(ours)) >= margin - 1e-4).all()
    if norm == "linf":  # the L2 projections differ where the box cuts the ball
        same = torch.isclose(goal.margin(mlp(ours)), margin, rtol=1e-3, atol=1e-4)  # Foolbox: the last iterate
        assert same.float().mean() > 0.8


def test_agrees_with_torchattacks(mlp, images, streams, own_labels):
    torchattacks = pytest.importorskip("torchattacks")
    x = images(16)
    goal = own_labels(mlp, x)
    theirs = torchattacks.PGD(mlp, eps=0.1, alpha=0.02, steps=20, random_start=False)(x, goal.labels)
    ours = PGD(steps=20, step_size="0.02", **TO_THE_END)(mlp, x, goal, ThreatModel("linf", 0.1), rng=streams(16))
    assert (goal.margin(mlp(ours)) >= goal.margin(mlp(theirs)) - 1e-5).all()


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("targeted", [False, True])
def test_stays_inside_ball_and_box_and_leaves_its_input_alone(mlp, images, streams, own_labels, norm, targeted):
    x, threat = images(16), ThreatModel(norm, EPS[norm])
    goal = own_labels(mlp, x)
    if targeted:
        goal = Goal(goal.labels, (goal.labels + 2) % 5)
    before = x.clone()
    x_adv = PGD(steps=9, restarts=6, momentum=0.9)(mlp, x, goal, threat, rng=streams(16))
    assert threat.within(x_adv, x).all()
    assert threat.inside_box(x_adv).all()
    assert torch.equal(x, before)


@pytest.mark.parametrize("early_stop", [False, True])
def test_a_row_depends_on_that_row_alone(mlp, images, streams, own_labels, early_stop):
    x, threat = images(16), ThreatModel("l2", 0.3)
    goal, rng = own_labels(mlp, x), streams(16)
    pgd = PGD(steps=9, restarts=6, momentum=0.9, early_stop=early_stop)
    whole = pgd(mlp, x, goal, threat, rng=rng)
    some = torch.tensor([11, 2, 7])
    torch.testing.assert_close(pgd(mlp, x[some], goal[some], threat, rng=rng[some]), whole[some])


def test_leaving_early_decides_every_sample_as_going_to_the_end(mlp, images, streams, own_labels):
    x, threat = images(200), ThreatModel("linf", 0.04)
    goal, rng = own_labels(mlp, x), streams(200)
    fooled = {
        stop: goal.reached(mlp(PGD(steps=20, early_stop=stop)(mlp, x, goal, threat, rng=rng))) for stop in (False, True)
    }
    assert 0.1 < fooled[True].float().mean() < 0.9
    assert torch.equal(fooled[False], fooled[True])


def test_more_restarts_never_break_fewer_samples(mlp, images, streams, own_labels):
    x, threat = images(200), ThreatModel("linf", 0.04)
    goal, rng = own_labels(mlp, x), streams(200)
    once, often = (goal.reached(mlp(PGD(steps=3, restarts=r)(mlp, x, goal, threat, rng=rng))) for r in (1, 7))
    assert (often | ~once).all()


def test_a_sample_that_leaves_stays_adversarial_after_rounding(mlp, images, streams, own_labels):
    x = quantize(images(200))
    goal = own_labels(mlp, x)
    x_adv = PGD(steps=40)(mlp, x, goal, ThreatModel("linf", 0.1), rng=streams(200))
    fooled = goal.reached(mlp(x_adv))
    assert fooled.float().mean() > 0.5
    assert goal.reached(mlp(quantize(x_adv)))[fooled].float().mean() > 0.97


def test_no_sample_leaves_with_a_hit_that_vanishes_in_rounding(mlp, images, streams, own_labels):
    def unrounded(x):
        """Fooled wherever a pixel is between two levels of 8 bits."""
        between = (x - quantize(x)).abs().flatten(1).amax(1, keepdim=True).detach()
        return mlp(x) - 1e6 * (between > 1e-6) * torch.nn.functional.one_hot(mlp(x.detach()).argmax(1), 5)

    x = quantize(images(20))
    meter = Meter(unrounded, 20, torch.device("cpu"))
    goal = own_labels(mlp, x)
    x_adv = PGD(steps=12)(meter, x, goal, ThreatModel("linf", 0.01), rng=streams(20))
    hit, rounded = goal.reached(unrounded(x_adv)), goal.reached(mlp(quantize(x_adv)))
    assert hit.all()
    assert rounded.sum() < 10
    assert (meter.backwards[~rounded] == 12).all()


def test_momentum_is_per_sample(mlp, images, streams, own_labels):
    x, threat = images(8), ThreatModel("linf", 0.1)
    goal, rng = own_labels(mlp, x), streams(8)
    pgd = PGD(steps=10, momentum=1.0, early_stop=False)
    one = torch.tensor([3])
    torch.testing.assert_close(
        pgd(mlp, x[one], goal[one], threat, rng=rng[one]), pgd(mlp, x, goal, threat, rng=rng)[one]
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_momentum_stays_with_its_sample_whoever_leaves(mlp, images, streams, own_labels, norm):
    x, threat = images(60), ThreatModel(norm, EPS[norm] / 2)
    goal, rng = own_labels(mlp, x), streams(60)
    pgd = PGD(steps=30, momentum=1.0)
    meter = Meter(mlp, 60, torch.device("cpu"))
    whole = pgd(meter, x, goal, threat, rng=rng)
    assert len(meter.backwards.unique()) > 3  # they leave in several steps
    rows = (torch.tensor([i]) for i in range(60))
    alone = torch.cat([pgd(mlp, x[i], goal[i], threat, rng=rng[i]) for i in rows])
    torch.testing.assert_close(whole, alone, atol=2e-3, rtol=0)  # rounding grows over the steps


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("restarts", 0), ("loss", "mse"), ("momentum", -1.0), ("spread", 2.0), ("step_size", "0")],
)
def test_a_bad_hyper_parameter_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: must"):
        PGD(**{field: value})


def test_restarts_need_a_random_start():
    with pytest.raises(ValueError, match="random_start"):
        PGD(restarts=2, random_start=False)


def test_who_has_hit_is_looked_up_in_the_first_steps_and_then_every_so_often():
    steps = range(20)
    assert [k for k in steps if PGD._asks(k, 1, False)] == [*range(8), 11, 15, 19]
    assert [k for k in steps if PGD._asks(k, 1, True)] == list(steps)  # in between it would be believed nothing
    assert [k for k in steps if PGD._asks(k, 4, False)] == [3, 7, 11, 15, 19]


def test_a_hit_between_two_looks_is_not_lost(streams):
    """A network that is fooled in one step alone, which nobody looks at."""
    asked = 0

    def network(x: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += 1
        near = 0 * x.flatten(1).sum(1) + (1.0 if asked == 10 else -1.0)
        return torch.stack([-near, near], 1)

    x = torch.full((1, 1, 2, 2), 0.5)
    found = []

    def noted(z: torch.Tensor) -> torch.Tensor:
        if asked == 9:
            found.append(z.detach().clone())
        return network(z)

    point = PGD(steps=14)(noted, x, Goal(torch.tensor([0])), ThreatModel("linf", 0.2), rng=streams(1))
    assert asked == 15
    assert torch.equal(point, found[0])
