"""Random networks of any graph: float32 contradicts no radius that is proved."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from attacks.threat import ThreatModel
from models.bounds import METHODS, Prover
from models.classifier import Classifier
from models.graph import read
from models.spectral import gains, radii

CLASSES, IMAGES = 3, 2
ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (nn.ReLU, nn.Sigmoid, nn.Tanh, lambda: nn.LeakyReLU(0.3))


def convolution(rnd: random.Random, shape: torch.Size) -> nn.Module:
    channels = shape[1]
    groups = rnd.choice([1, 1, channels])
    same = rnd.random() < 0.3
    kernel = rnd.choice([1, 3] if same else [1, 2, 3, (3, 1)])
    stride = 1 if same else rnd.choice([1, 2])
    padding = "same" if same else rnd.choice([0, 1, (0, 1)])
    bias = rnd.random() < 0.7
    return nn.Conv2d(channels, 2 * groups, kernel, stride, padding, rnd.choice([1, 1, 2]), groups, bias)


def pool(rnd: random.Random, shape: torch.Size) -> nn.Module:
    kernel, stride, padding, ceil = rnd.choice([2, 3]), rnd.choice([1, 2]), rnd.choice([0, 1]), rnd.random() < 0.4
    if rnd.random() < 0.5:
        return nn.MaxPool2d(kernel, stride, padding, rnd.choice([1, 1, 2]), ceil_mode=ceil)
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=rnd.random() < 0.5)


def batch_norm(rnd: random.Random, shape: torch.Size) -> nn.Module:
    norm = nn.BatchNorm2d(shape[1])
    for tensor, far in ((norm.weight, 1.5), (norm.bias, 1.0), (norm.running_mean, rnd.choice([1.0, 100.0]))):
        nn.init.normal_(tensor, std=far)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.1, 3.0)  # type: ignore[arg-type]
    return norm


def activation(rnd: random.Random, shape: torch.Size) -> nn.Module:
    return rnd.choice(ACTIVATIONS)()


MODULES = (convolution, convolution, pool, batch_norm, activation)


def network(seed: int, shape: tuple[int, int, int], depth: int) -> nn.Module:
    """A graph whose steps read any of those before, two of which a dense layer reads in the end."""
    rnd = random.Random(seed)
    root, graph = nn.Module(), fx.Graph()
    known: list[tuple[fx.Node, Tensor]] = [(graph.placeholder("x"), torch.rand(2, *shape))]

    def module(made: nn.Module, at: fx.Node, value: Tensor) -> tuple[fx.Node, Tensor]:
        result = made.eval()(value)
        name = f"step{len(list(root.children()))}"
        root.add_module(name, made)
        return graph.call_module(name, (at,)), result

    def step() -> tuple[fx.Node, Tensor]:
        at, value = known[-1] if rnd.random() < 0.6 else rnd.choice(known)
        kind = rnd.choice([*MODULES, "scale", "sum", "sum"])
        if kind == "scale":
            factor, shift = rnd.uniform(-3, 3), rnd.choice([1.0, 1.0, 300.0]) * rnd.uniform(-1, 1)
            moved = graph.call_function(torch.sub, (graph.call_function(torch.mul, (at, factor)), shift))
            return moved, value * factor - shift
        if kind == "sum":
            other, same = rnd.choice([k for k in known if k[1].shape == value.shape])
            return graph.call_function(torch.add, (at, other)), value + same
        return module(kind(rnd, value.shape), at, value)

    for _ in range(depth):
        try:
            found = step()
        except RuntimeError:  # a window larger than the map, or a padding larger than half of it
            continue
        if found[1].isfinite().all():  # a window of nothing but padding says -infinity: `models.check` refuses it
            known.append(found)

    def dense(at: fx.Node, value: Tensor) -> tuple[fx.Node, Tensor]:
        flat = graph.call_method("flatten", (at, 1))
        return module(nn.Linear(value.flatten(1).shape[1], CLASSES), flat, value.flatten(1))

    out, _ = dense(*known[-1])
    if rnd.random() < 0.5:
        out = graph.call_function(torch.add, (out, dense(*rnd.choice(known))[0]))
    graph.output(out)
    made = fx.GraphModule(root, graph)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made


def points(net: Classifier, x: Tensor, far: float, norm: str) -> Iterator[Tensor]:
    """Float32 points (N, C, H, W) of the ball around an image (1, C, H, W): random ones, and those of descents."""
    width = net.bounds[1] - net.bounds[0]
    threat = ThreatModel(norm, min(far * (1 - 1e-6), width if norm == "linf" else far), net.bounds)
    many = x.expand(30, -1, -1, -1)
    yield threat.steepest(many, torch.randn(many.shape, dtype=torch.float64))
    yield threat.project(x + far * torch.randn(many.shape, dtype=torch.float64), many)
    label = int(net(x.float()).argmax())
    other = torch.arange(CLASSES)[torch.arange(CLASSES) != label].repeat(2)
    start = x.expand(len(other), -1, -1, -1)
    at = threat.steepest(start, torch.randn(start.shape, dtype=torch.float64))
    for _ in range(6):
        now = at.float().requires_grad_()
        z = net(now)
        (slope,) = torch.autograd.grad((z.gather(1, other[:, None])[:, 0] - z[:, label]).sum(), now)
        at = threat.steepest(start, slope.double())
        yield at


def check(seed: int, norm: str, depth: int) -> int:
    """How many radii above 0 were asked after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = (1 + seed % 2, 5, 5)
        net = Classifier(
            network(seed, shape, depth), name="n", input_shape=shape, num_classes=CLASSES, mean=(0.3,), std=(0.4,)
        )
        x, graph = torch.rand(IMAGES, *shape), read(net)
        labels, wide = net(x).argmax(1), x.double()
        start = torch.full((IMAGES,), 0.05, dtype=torch.float64)
        proofs = {m: Prover(graph, norm, net.bounds, m).largest(wide, start, labels, 0 * start, 7) for m in METHODS}
        proofs["norms"] = radii(graph, gains(graph), wide, labels, norm)
        asked = 0
        for far in proofs.values():
            for i in range(IMAGES):
                if not far[i] > 0:
                    continue
                asked += 1
                for found in points(net, wide[i : i + 1], float(far[i]), norm):
                    near = found.float().clamp(*net.bounds)
                    inside = ThreatModel(norm, 1.0).size(near.double(), wide[i : i + 1].expand_as(near)) <= far[i]
                    assert (net(near).argmax(1)[inside] == labels[i]).all(), (proofs, i)
    return asked


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@given(seed=st.integers(0, 10**9), depth=st.integers(1, 7))
@settings(deadline=None, max_examples=12)
def test_float32_contradicts_no_radius(norm: str, seed: int, depth: int) -> None:
    check(seed, norm, depth)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_float32_contradicts_no_radius_of_many_networks(norm: str) -> None:
    assert sum(check(seed, norm, 1 + seed % 9) for seed in range(150)) > 600
