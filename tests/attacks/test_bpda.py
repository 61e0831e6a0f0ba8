from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks.base import stand_in
from attacks.bpda import BPDA, Guided
from attacks.lbfgs import LBFGS
from attacks.losses import LOSSES, logits_and_gradient
from attacks.pgd import PGD
from attacks.threat import ThreatModel
from eval.blackbox import Access
from eval.meter import Meter

EPS = {"linf": 0.1, "l2": 0.5, "l1": 1.5}
CPU = torch.device("cpu")


class Offering:
    """A network that offers a stand-in."""

    def __init__(self, network, guide):
        self.network, self.guide = network, guide

    def __call__(self, x):
        return self.network(x)

    def stand_in(self):
        return self.guide


class Rounding:
    """A network of images rounded to a few levels, which offers itself with the identity backwards."""

    def __init__(self, network, levels=8):
        self.network, self.levels = network, levels

    def rounded(self, x):
        return (x * self.levels).round() / self.levels

    def __call__(self, x):
        return self.network(self.rounded(x))

    def stand_in(self):
        return lambda x: self.network(x + (self.rounded(x) - x).detach())


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("early_stop", [False, True])
def test_with_itself_as_the_stand_in_it_is_pgd(mlp, images, streams, own_labels, norm, early_stop):
    x, threat = images(16), ThreatModel(norm, EPS[norm])
    goal, fields = own_labels(mlp, x), {"steps": 9, "restarts": 3, "early_stop": early_stop}
    ours = BPDA(fields)(Offering(mlp, mlp), x, goal, threat, rng=streams(16))
    assert torch.equal(ours, PGD(**fields)(mlp, x, goal, threat, rng=streams(16)))


def test_the_derivative_is_that_of_the_stand_in(linear, images, streams):
    network, guide, x = linear(3, seed=0), linear(3, seed=1), images(20, 1, 3, 4)
    guided = Guided(network, guide)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(guided(leaf)[:, 2].sum(), leaf)
    assert torch.equal(gradient.flatten(1), guide.weight[2].expand(20, -1))


def test_the_decision_is_that_of_the_network(linear, images):
    network, guide, x = linear(3, seed=0), linear(3, seed=1), images(200, 1, 3, 4)
    same = network(x).argmax(1) == guide(x).argmax(1)
    assert 0.1 < same.float().mean() < 0.9
    for z in (Guided(network, guide)(x.clone().requires_grad_()), Guided(network, guide)(x)):
        assert torch.equal(z.argmax(1), network(x).argmax(1))


def test_the_loss_is_taken_at_the_stand_in_where_both_agree(mlp, images, own_labels):
    x = images(16)
    goal = own_labels(mlp, x)
    guided = Guided(lambda x: nn.functional.one_hot(mlp(x).argmax(1), 5).float(), mlp)
    for loss in LOSSES.values():
        expected = logits_and_gradient(mlp, x, loss, goal)
        for a, b in zip(logits_and_gradient(guided, x, loss, goal), expected, strict=True):
            assert torch.equal(a, b)


def test_what_is_not_a_number_stays_so(mlp, images):
    guided = Guided(lambda x: mlp(x) * torch.nan, mlp)
    assert guided(images(4).requires_grad_()).isnan().all()


def test_is_the_loop_of_the_paper_on_a_rounded_input(mlp, images, streams, own_labels):
    x, eps, length = images(16), 0.25, 0.05
    network = Rounding(mlp)
    goal = own_labels(network, x)
    fields = {"steps": 10, "step_size": str(length), "random_start": False, "early_stop": False}
    ours = BPDA(fields)(network, x, goal, ThreatModel("linf", eps), rng=streams(16))
    x_adv, best = x.clone(), goal.margin(network(x))
    for _ in range(10):
        leaf = network.rounded(x_adv).requires_grad_()
        loss = nn.functional.cross_entropy(mlp(leaf), goal.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        x_adv = (x + (x_adv + length * gradient.sign() - x).clamp(-eps, eps)).clamp(0, 1)
        best = torch.maximum(best, goal.margin(network(x_adv)))
    got = goal.margin(network(ours))
    assert torch.isclose(got, best, rtol=1e-4, atol=1e-4).float().mean() > 0.8  # rounding may go either way at a half


def test_breaks_what_rounds_its_input_where_pgd_does_not(mlp, images, streams, own_labels):
    network = Rounding(mlp)
    x, threat = network.rounded(images(60)), ThreatModel("linf", 0.1)
    goal = own_labels(network, x)
    fooled = [
        float(goal.reached(network(attack(network, x, goal, threat, rng=streams(60)))).float().mean())
        for attack in (PGD(steps=20), BPDA({"steps": 20}))
    ]
    assert fooled[1] > fooled[0] + 0.3


@pytest.mark.parametrize("norm", EPS)
def test_stays_inside_ball_and_box_row_by_row(mlp, images, streams, own_labels, norm):
    network = Rounding(mlp)
    x, threat = images(16), ThreatModel(norm, EPS[norm])
    goal, rng = own_labels(network, x), streams(16)
    attack, some = BPDA({"steps": 9, "restarts": 5}), torch.tensor([11, 2, 7])
    whole = attack(network, x, goal, threat, rng=rng)
    assert threat.within(whole, x).all()
    assert threat.inside_box(whole).all()
    torch.testing.assert_close(attack(network, x[some], goal[some], threat, rng=rng[some]), whole[some])


def test_forwards_of_both_networks_are_charged_to_their_samples(mlp, images, streams, own_labels):
    x, threat = images(6), ThreatModel("linf", 1e-4)  # which nothing breaks, so that nothing leaves
    meter = Meter(Rounding(mlp, 1000), 6, CPU)
    BPDA({"steps": 5, "restarts": 3})(meter, x, own_labels(mlp, x), threat, rng=streams(6))
    forwards, backwards = meter.per_sample()
    assert forwards.tolist() == [3 * (5 + 5 + 1)] * 6
    assert backwards.tolist() == [3 * 5] * 6
    assert meter.shared == [0, 0]


def test_a_meter_passes_the_stand_in_on_also_for_some_rows(mlp, images):
    meter, x = Meter(Rounding(mlp), 6, CPU), images(2)
    guide = stand_in(meter.rows(torch.tensor([4, 1])))
    assert guide is not None
    assert torch.equal(guide(x), Rounding(mlp)(x))
    assert meter.forwards.tolist() == [0, 1, 0, 0, 1, 0]
    assert stand_in(Meter(mlp, 6, CPU)) is None


@pytest.mark.parametrize("kind", ["scores", "labels"])
def test_a_black_box_offers_none(mlp, kind):
    assert stand_in(Access(kind).to(Meter(Rounding(mlp), 6, CPU), 6, CPU)) is None


def test_a_network_without_a_stand_in_is_refused(mlp, images, streams, own_labels):
    x = images(4)
    with pytest.raises(ValueError, match=r"^BPDA: the network must offer a stand-in, a method differentiable\(x\)"):
        BPDA()(mlp, x, own_labels(mlp, x), ThreatModel("linf", 0.1), rng=streams(4))


def test_a_search_for_the_smallest_perturbation_is_refused():
    with pytest.raises(ValueError, match=r"^attack: must keep to a budget"):
        BPDA(LBFGS())
