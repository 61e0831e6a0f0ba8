"""One perturbation for all images: known optima of linear networks, a naive loop, budgets, and random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.rng import Rng
from attacks.threat import ThreatModel
from attacks.universal import UAP, Ascent, fooled, predictions, projected, random_like, shifted

FREE = (-100.0, 100.0)


def one_sided(linear, n: int = 60) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Two classes, images of the first alone, and the weights w of the margin to be overcome."""
    net = linear(classes=2, dim=12)
    x = torch.rand(4000, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    x = x[net(x).argmax(1) == 0][:n]
    return net, x, net.weight[1] - net.weight[0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ascent_finds_the_optimum_of_a_linear_network(linear, streams, norm):
    net, x, w = one_sided(linear)
    z = net(x)
    behind = z[:, 0] - z[:, 1]
    eps = float(behind.median()) / float(w.abs().sum() if norm == "linf" else w.norm())
    threat = ThreatModel(norm, eps, FREE)
    best = w.sign() * eps if norm == "linf" else w * (eps / w.norm())

    v = Ascent(cap=math.inf)(net, x, threat, rng=streams(len(x)))
    clean = predictions(net, x)

    assert v.flatten() == pytest.approx(best, abs=1e-4 * eps)
    assert fooled(net, x, v, clean, FREE) == pytest.approx(0.5, abs=0.02)


def test_no_random_signs_are_better_than_those_of_the_weights(linear, streams):
    net, x, w = one_sided(linear)
    threat = ThreatModel("linf", 0.15, FREE)
    clean = predictions(net, x)
    best = fooled(net, x, (w.sign() * 0.15).view(1, 3, 4), clean, FREE)
    drawn = [fooled(net, x, v, clean, FREE) for v in random_like(x, threat, streams(30))]

    assert fooled(net, x, Ascent()(net, x, threat, rng=streams(len(x))), clean, FREE) == pytest.approx(best)
    assert max(drawn) <= best
    assert np.mean(drawn) < 0.5 * best


def naive(weight: np.ndarray, bias: np.ndarray, x: np.ndarray, orders: list[list[int]], project, delta: float):
    """Algorithm 1 on a linear network, as it is printed, one image after another; DeepFool in closed form."""
    v, best, most = np.zeros(x.shape[1]), np.zeros(x.shape[1]), -1.0
    clean = [int(np.argmax(weight @ row + bias)) for row in x]
    for order in orders:
        for i in order:
            z = weight @ (x[i] + v) + bias
            if np.argmax(z) != clean[i]:
                continue
            label = int(np.argmax(z))
            ways = []
            for k in range(len(z)):
                if k != label:
                    w = weight[k] - weight[label]
                    size = np.linalg.norm(w)
                    ways.append((abs(z[k] - z[label]) / size, w / size))
            distance, direction = min(ways, key=lambda way: way[0])
            v = project(v + 1.02 * (distance + 1e-4) * direction)
        share = np.mean([np.argmax(weight @ (row + v) + bias) != c for row, c in zip(x, clean, strict=True)])
        if share >= most:
            best, most = v, share
        if share >= 1 - delta:
            break
    return best


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3), ("linf", 0.5)])
def test_the_papers_algorithm_is_the_naive_loop(linear, streams, norm, eps):
    net = linear(classes=4, dim=12)
    x = torch.rand(25, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    rng = streams(25)
    orders = [rng.fold(p).uniform(1)[:, 0].argsort(stable=True).tolist() for p in range(4)]

    def project(v: np.ndarray) -> np.ndarray:
        if norm == "linf":
            return v.clip(-eps, eps)
        return v * min(1.0, eps / max(np.linalg.norm(v), 1e-30))

    expected = naive(
        net.weight.double().numpy(), net.bias.double().numpy(), x.flatten(1).double().numpy(), orders, project, 0.2
    )
    v = UAP(passes=4)(net, x, ThreatModel(norm, eps, FREE), rng=rng)

    assert v.flatten().numpy() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0.01, 1.0),
    seed=st.integers(0, 99),
    maker=st.sampled_from([UAP(passes=1, iterations=3), Ascent(steps=12, batch=5)]),
)
def test_what_is_made_keeps_the_budget_and_touches_nothing(norm, eps, seed, maker):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    net.requires_grad_(False)
    x, threat = torch.rand(9, 1, 4, 4), ThreatModel(norm, eps)
    before = x.clone()
    v = maker(net, x, threat, rng=Rng.of(seed, [], map(str, range(9))))

    assert v.shape == x.shape[1:]
    assert threat.within(v[None], torch.zeros_like(v)[None]).all()
    moved = shifted(x, v, threat.box)
    assert threat.within(moved, x).all()
    assert threat.inside_box(moved).all()
    assert torch.equal(x, before)


def test_both_makers_fool_images_that_they_did_not_see_better_than_chance(mlp, images, streams):
    x, others = images(100, seed=1), images(200, seed=2)
    threat = ThreatModel("linf", 0.1)
    clean = predictions(mlp, others)
    drawn = np.mean([fooled(mlp, others, v, clean, threat.box) for v in random_like(x, threat, streams(20))])
    paper, ascent = (
        fooled(mlp, others, maker(mlp, x, threat, rng=streams(100)), clean, threat.box) for maker in (UAP(), Ascent())
    )

    assert paper > drawn + 0.1
    assert ascent >= paper


def test_the_same_streams_make_the_same(mlp, images, streams):
    x, threat = images(12), ThreatModel("l2", 0.5)
    for maker in (UAP(passes=2), Ascent(steps=20, batch=4)):
        assert torch.equal(*(maker(mlp, x, threat, rng=streams(12)) for _ in range(2)))


def test_random_ones_are_as_long_as_the_budget_lets_them_be(images, streams):
    x = images(3)
    signs = random_like(x, ThreatModel("linf", 0.2), streams(4))
    directions = random_like(x, ThreatModel("l2", 0.7), streams(4))

    assert signs.abs() == pytest.approx(torch.full_like(signs, 0.2))
    assert abs(float(signs.sign().mean())) < 0.4
    assert directions.flatten(1).norm(dim=1) == pytest.approx(torch.full((4,), 0.7))


def test_projection_is_that_of_the_ball():
    v = torch.tensor([[[3.0, -0.05]]])
    assert projected(v, ThreatModel("linf", 0.1)).flatten().tolist() == pytest.approx([0.1, -0.05])
    assert projected(v, ThreatModel("l2", 0.5)).norm() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: UAP(delta=1.0), "delta: must be in"),
        (lambda: UAP(classes=1), "classes: must be at least 2"),
        (lambda: Ascent(steps=0), "steps: must be at least 1"),
        (lambda: Ascent(cap=0.0), "cap: must be > 0"),
        (lambda: Ascent(momentum=1.0), "momentum: must be in"),
    ],
)
def test_what_is_not_allowed_is_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_another_norm_is_refused(mlp, images, streams):
    for maker in (UAP(), Ascent()):
        with pytest.raises(ValueError, match="supports the norms l2, linf"):
            maker(mlp, images(2), ThreatModel("l1", 1.0), rng=streams(2))
