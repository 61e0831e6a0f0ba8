from __future__ import annotations

import math

import pytest
import torch

from attacks.eot import EOT, Averaged
from attacks.lbfgs import LBFGS
from attacks.losses import LOSSES, logits_and_gradient
from attacks.pgd import PGD
from attacks.threat import ThreatModel
from eval.meter import Meter

BOX = (0.0, 1.0)
EPS = {"linf": 0.1, "l2": 0.5, "l1": 1.5}


class Members:
    """Networks that take turns."""

    def __init__(self, *networks):
        self.networks, self.asked, self.sizes = networks, 0, []

    def __call__(self, x):
        self.asked += 1
        self.sizes.append(len(x))
        return self.networks[self.asked % len(self.networks)](x)


@pytest.mark.parametrize("norm", EPS)
def test_on_a_network_that_repeats_it_is_pgd(mlp, images, streams, own_labels, norm):
    x, threat, rng = images(16), ThreatModel(norm, EPS[norm]), streams(16)
    goal = own_labels(mlp, x)
    ours = EOT({"steps": 9, "restarts": 3}, draws=3)(mlp, x, goal, threat, rng=rng)
    theirs = PGD(steps=9, restarts=3, early_stop=False)(mlp, x, goal, threat, rng=rng.fold(1))
    torch.testing.assert_close(goal.margin(mlp(ours)), goal.margin(mlp(theirs)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_value_and_gradient_are_those_of_the_mean_probability(linear, images, streams, own_labels, loss):
    networks = [linear(4, seed=seed).double() for seed in range(5)]
    for network in networks:
        network.weight, network.bias = network.weight.double(), network.bias.double()
    x = images(20, 1, 3, 4).double()
    goal = own_labels(networks[0], x)
    z, gradient = logits_and_gradient(Averaged(Members(*networks), 5, 0.0, streams(20), BOX), x, LOSSES[loss], goal)
    leaf = x.clone().requires_grad_()
    mean = torch.stack([network(leaf).softmax(1) for network in networks]).mean(0).log()
    torch.testing.assert_close(z, mean.detach())
    seed = LOSSES[loss].cotangent(mean.detach(), goal)
    torch.testing.assert_close(gradient, torch.autograd.grad(mean, leaf, seed)[0])


def test_draws_are_forwards_of_their_own(mlp, images, streams):
    members = Members(mlp)
    Averaged(members, 7, 0.0, streams(6), BOX)(images(6))
    assert members.sizes == [6] * 7  # a network that draws once a batch draws seven times


def test_neighbours_are_gaussian_inside_the_box_and_new_at_every_look(images, streams):
    seen = []
    network = Averaged(lambda x: seen.append(x) or x.flatten(1), 50, 0.1, streams(40), BOX)
    x = 0.3 + 0.4 * images(40)  # which no neighbour leaves by chance
    network(x)
    network(x)
    assert torch.equal(seen.pop(101), x)  # the image itself, which decides
    assert torch.equal(seen.pop(50), x)
    away = torch.stack(seen) - x
    assert float(away.mean()) == pytest.approx(0, abs=4 * 0.1 / math.sqrt(away.numel()))
    assert float(away.std()) == pytest.approx(0.1, rel=0.01)
    assert len(torch.stack(seen)[:, 0].flatten(1).unique(dim=0)) == 100
    seen.clear()
    network(torch.ones_like(x))
    assert torch.stack(seen).max() == 1


def test_neighbours_give_the_slope_of_the_large_where_it_is_shattered(images, streams):
    def rugged(x):
        y = (x + 0.001 * torch.sin(x * 5000)).flatten(1).mean(1, keepdim=True)
        return torch.cat([y, -y], dim=1)

    def slope(draws):
        leaf = (0.2 + 0.6 * images(30)).requires_grad_()
        z = Averaged(rugged, draws, 0.05, streams(30), BOX)(leaf)
        return torch.autograd.grad(z[:, 0].sum(), leaf)[0]

    assert (slope(400) > 0).float().mean() > (slope(1) > 0).float().mean() + 0.35


def test_the_image_itself_decides_and_not_its_neighbours(images, streams):
    def spiky(x):  # another class at the images themselves than around them
        there = (x - images(40)).abs().flatten(1).amax(1, keepdim=True) < 1e-6
        return torch.cat([there.float(), 1 - there.float() + x.flatten(1)[:, :1]], dim=1)

    near = Averaged(spiky, 20, 0.1, streams(40), BOX)
    assert (near(images(40)).argmax(1) == spiky(images(40)).argmax(1)).all()
    assert (near(images(40) * 0.9).argmax(1) == 1).all()


@pytest.mark.parametrize("norm", EPS)
def test_stays_inside_ball_and_box_row_by_row(mlp, images, streams, own_labels, norm):
    x, threat, rng = images(16), ThreatModel(norm, EPS[norm]), streams(16)
    goal, some = own_labels(mlp, x), torch.tensor([11, 2, 7])
    attack = EOT({"steps": 5, "restarts": 3}, draws=3, sigma=0.1)
    whole = attack(mlp, x, goal, threat, rng=rng)
    assert threat.within(whole, x).all()
    assert threat.inside_box(whole).all()
    torch.testing.assert_close(attack(mlp, x[some], goal[some], threat, rng=rng[some]), whole[some])


def test_breaks_what_draws_lots_where_pgd_believes_the_first_draw(mlp, images, streams, own_labels):
    def noisy(x):
        return mlp(x + 0.3 * torch.randn_like(x))

    def standing(attack):
        torch.manual_seed(0)
        x_adv = attack(noisy, x, goal, ThreatModel("linf", 0.25), rng=streams(100))
        return torch.stack([noisy(x_adv).argmax(1) == goal.labels for _ in range(30)]).float().mean()

    x = images(100)
    goal = own_labels(mlp, x)
    assert standing(EOT({"steps": 20})) < standing(PGD(steps=20)) - 0.1


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_every_draw_is_charged(mlp, images, streams, own_labels, sigma):
    x, meter = images(6), Meter(mlp, 6, torch.device("cpu"))
    eot = EOT({"steps": 5, "restarts": 2}, draws=4, sigma=sigma)
    eot(meter, x, own_labels(mlp, x), ThreatModel("linf", 0.1), rng=streams(6))
    forwards, backwards = meter.per_sample()
    assert forwards.tolist() == [2 * 6 * (4 + (sigma > 0))] * 6
    assert backwards.tolist() == [2 * 5 * 4] * 6


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"draws": 0}, "draws"), ({"sigma": -0.1}, "sigma"), ({"attack": LBFGS()}, "attack"),
        ({"attack": {"early_stop": True}}, "attack"), ({"attack": PGD()}, "attack"),
    ],
)  # fmt: skip
def test_a_bad_hyper_parameter_is_named(fields, says):
    with pytest.raises(ValueError, match=f"^{says}: must"):
        EOT(**fields)
