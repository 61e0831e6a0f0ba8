"""Bounds of rounding errors: above what float32 does, and kept clear of by what is proved."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacks.threat import ThreatModel
from models.bounds import Prover
from models.classifier import Classifier
from models.graph import read
from models.propagation import Ball, Propagation
from models.rounding import rounding
from models.spectral import gains, radii
from tests.models.branching_networks import BRANCHING, Cancelling, far_units

SHAPE = (1, 6, 6)


def normed() -> nn.Sequential:
    """A batch norm whose shift is the difference of two large numbers."""
    norm = nn.BatchNorm2d(2)
    with torch.no_grad():
        norm.bias += 3000.0
        norm.running_mean += 3000.0  # type: ignore[operator]
    return nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.Flatten(), nn.Linear(32, 4))


NETS: dict[str, Callable[[], nn.Module]] = {
    **BRANCHING,
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 50), nn.Tanh(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 4)
    ),
    "pools": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, 1), nn.LeakyReLU(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "normed": normed,
    "cancelling": lambda: Cancelling(1000.0),
    "far units": lambda: far_units(1000.0),
}


def classifier(net: nn.Module, shape: tuple[int, int, int] = SHAPE, classes: int = 4) -> Classifier:
    return Classifier(net, name="n", input_shape=shape, num_classes=classes, mean=(0.4,), std=(0.3,))


@given(name=st.sampled_from(sorted(NETS)), seed=st.integers(0, 10**6), eps=st.sampled_from([0.0, 0.01, 0.2]))
@settings(deadline=None, max_examples=60)
def test_float32_is_never_farther_off(name: str, seed: int, eps: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net, x = classifier(NETS[name]()), torch.rand(3, *SHAPE)
        graph = read(net)
        ball = Ball(x.double(), torch.full((3,), eps, dtype=torch.float64), "linf", (0.0, 1.0))
        within = Propagation(graph, ball).intervals
        bounds = [rounding(graph, within), rounding(graph, within, [g.gain for g in gains(graph)])]
        low, high = within[0]
        points = (low + (high - low) * torch.rand(200, *low.shape, dtype=torch.float64)).float().flatten(0, 1)
        off = (net(points) - graph.forward(points.double())[-1]).abs().view(200, 3, -1).amax(0)
    for bound in bounds:
        assert (off <= bound).all()
    assert (bounds[1] <= bounds[0]).all()


def test_of_an_ordinary_network_it_is_little() -> None:
    torch.manual_seed(0)
    net, x = classifier(NETS["mlp"]()), torch.rand(9, *SHAPE)
    graph = read(net)
    values = graph.forward(x.double())
    extent = values[-1].amax() - values[-1].amin()
    assert (rounding(graph, [(v, v) for v in values]) < 1e-3 * extent).all()


def test_more_precise_numbers_would_round_less() -> None:
    torch.manual_seed(0)
    net = classifier(NETS["mlp"]())
    values = [(v, v) for v in read(net).forward(torch.rand(1, *SHAPE, dtype=torch.float64))]
    half = read(classifier(net.network.bfloat16()))
    assert half.unit == 2.0**-8
    assert (rounding(half, values) > 1e4 * rounding(read(classifier(net.network.double())), values)).all()


def test_what_may_overflow_is_not_bounded() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.Linear(20, 4))
    net[1].weight.data *= 1e30
    net[2].weight.data *= 1e10
    assert not classifier(net)(torch.rand(1, *SHAPE)).isfinite().all()
    graph, x = read(classifier(net)), torch.rand(4, *SHAPE, dtype=torch.float64)
    labels = graph.forward(x)[-1].argmax(1)
    assert not Prover(graph, "l2", (0.0, 1.0), "crown").proved(x, torch.zeros(4, dtype=torch.float64), labels).any()
    assert not radii(graph, gains(graph), x, labels, "l2").any()


def nearest_of_each(graph_input: Tensor, logits: Tensor, labels: Tensor, far: Tensor, norm: str) -> list[Tensor]:
    """To each other class the points (B, C, H, W), float32, that come closest within these radii, by the gradient."""
    found = []
    own = logits.gather(1, labels[:, None])[:, 0]
    for k in range(logits.shape[1]):
        (slope,) = torch.autograd.grad((logits[:, k] - own).sum(), graph_input, retain_graph=True)
        rows = []
        for x, g, r in zip(graph_input.detach(), slope, far.tolist(), strict=True):
            threat = ThreatModel(norm, max(r * (1 - 2e-6), 1e-12))
            rows.append(threat.steepest(x[None], g[None]).float())
        found.append(torch.cat(rows))
    return found


LARGE = {
    "units at 100": lambda: far_units(100.0, 784, 10),
    "units at 1000": lambda: far_units(1000.0, 784, 10),
    "there and back": lambda: Cancelling(1000.0, 784, 10),
}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", LARGE)
def test_float32_contradicts_no_radius(name: str, norm: str) -> None:
    """These networks are linear nearby, so that radii reach the boundary, and lose up to four digits."""
    torch.manual_seed(0)
    net = Classifier(LARGE[name](), name="n", input_shape=(1, 28, 28), num_classes=10)
    x = torch.rand(60, 1, 28, 28)
    labels, graph = net(x).argmax(1), read(net)
    start, none = torch.full((60,), 0.01, dtype=torch.float64), torch.zeros(60, dtype=torch.float64)
    graph_input = x.double().requires_grad_()
    logits = graph.forward(graph_input)[-1]
    unmoved = logits.detach().gather(1, labels[:, None]) - logits.detach()
    assert (unmoved.scatter(1, labels[:, None], math.inf).amin(1) > 0).any()
    bounds = Prover(graph, norm, (0.0, 1.0), "crown_ibp").largest(x.double(), start, labels, none, 30)
    for far in (bounds, radii(graph, gains(graph), x.double(), labels, norm)):
        for points in nearest_of_each(graph_input, logits, labels, far, norm):
            inside = ThreatModel(norm, 1.0).size(points.double(), x.double()) * (1 + 1e-6) < far
            assert (net(points).argmax(1) == labels)[inside].all()
    if name != "units at 1000":
        assert bounds.median() > 0
