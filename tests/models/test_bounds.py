"""Bounds of logits within a ball: never above what some point of it does, and those of another library."""

from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.bounds import METHODS, Prover, cost, lengths
from models.classifier import Classifier
from models.graph import read
from models.relaxations import choice, lines
from tests.models.branching_networks import BRANCHING, Residual

SHAPE = (1, 6, 6)
FREE = (-math.inf, math.inf)


def layers(name: str, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    if name in BRANCHING:
        return [BRANCHING[name]()]
    flat, last = nn.Flatten(), nn.Linear(20, 4)
    made = {
        "linear": [flat, nn.Linear(36, 4)],
        "relu": [flat, nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), last],
        "sigmoid": [flat, nn.Linear(36, 20), nn.Sigmoid(), nn.Linear(20, 20), nn.Tanh(), last],
        "cnn": [nn.Conv2d(1, 5, 3, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(5, 5, 2), flat, nn.ReLU(), last],
        "pool": [nn.Conv2d(1, 5, 3, padding=1), nn.MaxPool2d(3, 2), nn.ReLU(), flat, nn.Linear(20, 9), nn.ReLU(),
                 nn.Linear(9, 4)],
        "residual": [nn.Conv2d(1, 2, 3, padding=1), Residual(), nn.AvgPool2d(2), flat, nn.Linear(18, 4)],
    }  # fmt: skip
    return made[name]


NETS = ("linear", "relu", "sigmoid", "cnn", "pool", "residual", *BRANCHING)


def classifier(name: str, seed: int = 0) -> Classifier:
    net = Classifier(nn.Sequential(*layers(name, seed)), name=name, input_shape=SHAPE, num_classes=4, std=(0.5,))
    return net.double()


def images(number: int, seed: int = 0) -> Tensor:
    return torch.rand(number, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inside(norm: str, eps: float, number: int, seed: int) -> Tensor:
    """Points (number, *SHAPE) of the ball around 0, most of them on its surface."""
    g = torch.Generator().manual_seed(seed)
    d = torch.randn(number, *SHAPE, generator=g, dtype=torch.float64)
    if norm == "linf":
        return eps * d.sign()
    if norm == "l2":
        return eps * d / d.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    one = torch.zeros_like(d).flatten(1)
    one[torch.arange(number), torch.randint(36, (number,), generator=g)] = eps
    return one.view_as(d) * d.sign()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", METHODS)
def test_no_point_of_the_ball_goes_below_a_bound(name: str, norm: str, method: str) -> None:
    net, x = classifier(name), images(6)
    eps = {"linf": 0.1, "l2": 0.5, "l1": 1.5}[norm]
    labels = net(x).argmax(1)
    for box in ((0.0, 1.0), FREE):
        bound = Prover(read(net), norm, box, method).leads(x, torch.full((6,), eps, dtype=torch.float64), labels)
        for i in range(6):
            points = (x[i] + inside(norm, eps, 300, i)).clamp(*box)
            z = net(points)
            lead = z[:, labels[i]][:, None] - z
            lead[:, labels[i]] = torch.inf
            assert (lead.amin(0) >= bound[i] - 1e-9).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("name", ["cnn", "pool", "residual", *BRANCHING])
def test_no_linear_step_moves_more_than_its_length_says(name: str, norm: str) -> None:
    graph, x = read(classifier(name)), images(1)
    found = lengths(graph, norm)
    assert found or name == "parallel"
    for number, length in found.items():
        rows = torch.autograd.functional.jacobian(lambda x, n=number: graph.forward(x)[n].flatten(), x).flatten(1)
        exact = torch.linalg.vector_norm(rows, 2.0 if norm == "l2" else math.inf, dim=1)
        assert (length >= exact * (1 - 1e-12)).all()
        if norm == "l2":
            assert torch.allclose(length, exact)


@pytest.mark.parametrize("method", METHODS)
def test_the_corners_of_a_small_box_are_above_the_bounds_and_near(method: str) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    small = Classifier(net, name="n", input_shape=(2, 2, 2), num_classes=3)
    x, eps = torch.full((1, 2, 2, 2), 0.5, dtype=torch.float64), 0.02
    corners = x + eps * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8))).view(-1, 2, 2, 2)
    labels = small(x).argmax(1)
    bound = Prover(read(small), "linf", (0.0, 1.0), method).leads(x, torch.tensor([eps], dtype=torch.float64), labels)[
        0
    ]
    z = small(corners)
    worst = (z[:, labels] - z).amin(0)
    others = [k for k in range(3) if k != int(labels)]
    assert (worst[others] >= bound[others] - 1e-12).all()
    if method == "crown":  # no unit changes sign in so small a box: the network is linear there
        assert torch.allclose(worst[others], bound[others])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_bounds_of_a_linear_network_are_exact(norm: str) -> None:
    net, x = classifier("linear"), images(5)
    weight = net.network[1].weight / 0.5  # type: ignore[index,operator]
    labels = net(x).argmax(1)
    apart = weight[labels][:, None] - weight
    length = torch.linalg.vector_norm(apart, {"linf": 1, "l2": 2, "l1": math.inf}[norm], dim=2)
    z = net(x)
    exact = ((z.gather(1, labels[:, None]) - z) / length).nan_to_num(torch.inf)
    exact = exact.scatter(1, labels[:, None], torch.inf).amin(1)
    start = torch.full((5,), 0.05, dtype=torch.float64)
    for method in METHODS:
        prover = Prover(read(net), norm, FREE, method)
        found = prover.largest(x, start, labels, torch.zeros(5, dtype=torch.float64), 24)
        assert (found <= exact).all()
        assert torch.allclose(found, exact, rtol=0.01)


def test_tighter_methods_prove_more() -> None:
    net, x = classifier("relu", seed=5), images(40)
    labels = net(x).argmax(1)
    eps = torch.full((40,), 0.03, dtype=torch.float64)
    counts = [int(Prover(read(net), "linf", (0.0, 1.0), m).proved(x, eps, labels).sum()) for m in METHODS]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_each_image_is_bounded_by_itself() -> None:
    net, x = classifier("pool"), images(7)
    labels = net(x).argmax(1)
    eps = torch.linspace(0.01, 0.1, 7, dtype=torch.float64)
    prover = Prover(read(net), "l2", (0.0, 1.0), "crown")
    together = prover.leads(x, eps, labels)
    for i in range(7):
        alone = prover.leads(x[i : i + 1], eps[i : i + 1], labels[i : i + 1])
        assert torch.allclose(alone[0], together[i])


def test_radii_that_are_known_are_kept() -> None:
    net, x = classifier("relu"), images(3)
    labels = net(x).argmax(1)
    known = torch.tensor([0.0, 100.0, 0.0], dtype=torch.float64)
    eps = torch.full((3,), 0.02, dtype=torch.float64)
    found = Prover(read(net), "l2", FREE, "ibp").largest(x, eps, labels, known, 6)
    assert found[1] >= 100.0
    assert (found >= known).all()


def test_the_dearer_method_costs_more() -> None:
    graph = read(classifier("cnn"))
    assert 0 < cost(graph, "ibp") < cost(graph, "crown_ibp") < cost(graph, "crown")


ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Tanh()]


@given(st.sampled_from(ACTIVATIONS), st.floats(-8, 8), st.floats(0, 8))
@settings(deadline=None, max_examples=200)
def test_lines_lie_below_and_above(module: nn.Module, low: float, width: float) -> None:
    ends = torch.tensor([[low]], dtype=torch.float64), torch.tensor([[low + width]], dtype=torch.float64)
    at = lines(module, *ends)
    z = torch.linspace(low, low + width, 101, dtype=torch.float64)
    y = module(z)
    assert (at.below_slope[0, 0] * z + at.below[0, 0] <= y + 1e-9).all()
    assert (at.above_slope[0, 0] * z + at.above[0, 0] >= y - 1e-9).all()


POOLS = [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 2, ceil_mode=True), nn.MaxPool2d((2, 3), 1, 0, 2)]


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_the_choice_of_a_pool_holds_at_every_point(pool: nn.MaxPool2d) -> None:
    g = torch.Generator().manual_seed(0)
    low = torch.randn(3, 2, 7, 7, generator=g, dtype=torch.float64)
    high = low + 0.5 * torch.rand(low.shape, generator=g, dtype=torch.float64)
    chosen = choice(pool, low, high)
    assert 0 < chosen.wins.double().mean() < 1
    for _ in range(50):
        x = low + (high - low) * torch.rand(low.shape, generator=g, dtype=torch.float64)
        y, entry = pool(x).flatten(2), x.flatten(2).gather(2, chosen.entry)
        assert (entry <= y).all()
        assert torch.equal(y[chosen.wins], entry[chosen.wins])
        assert (y <= chosen.most).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["relu", "cnn", "sigmoid"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.3)])
def test_no_looser_than_another_library(name: str, norm: str, eps: float) -> None:
    """auto_LiRPA is not a dependency: no release of it on the package index runs with today's PyTorch."""
    library = pytest.importorskip("auto_LiRPA", reason="auto_LiRPA is not installed (its repository's main branch is)")
    net, x = nn.Sequential(*layers(name)).eval(), images(4).float()
    labels = net(x).argmax(1)
    ours = read(Classifier(net, name="n", input_shape=SHAPE, num_classes=4))
    radius = torch.full((4,), eps, dtype=torch.float64)
    apart = torch.eye(4)[labels][:, None] - torch.eye(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = library.BoundedModule(net, x[:1])
        ptb = library.PerturbationLpNorm(norm=math.inf if norm == "linf" else 2, eps=eps)
        for method, called in zip(METHODS, ("IBP", "CROWN-IBP", "CROWN"), strict=True):
            bound = theirs.compute_bounds(x=(library.BoundedTensor(x, ptb),), method=called, C=apart)[0]
            found = Prover(ours, norm, FREE, method).leads(x.double(), radius, labels)
            mine = found.scatter(1, labels[:, None], 0.0)
            if name != "sigmoid" or method == "ibp":
                assert (mine >= bound.double() - 1e-5).all()
            else:  # other lines, of equal standing
                assert torch.allclose(mine, bound.double(), atol=0.1 * float(bound.detach().abs().max()))
