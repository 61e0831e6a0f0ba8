"""Gains of layers against matrices written out, and radii that no attack undercuts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.classifier import Classifier
from models.graph import read
from models.spectral import convolution_norm, cyclic_norm, gains, largest_singular_value, padded_norm, radii, unrolled
from models.steps import NoBoundError


def classifier(*layers: nn.Module, shape: tuple[int, int, int] = (1, 6, 6), **options: object) -> Classifier:
    net = nn.Sequential(*layers)
    return Classifier(net, name="n", input_shape=shape, num_classes=4, **options)  # type: ignore[arg-type]


def dense_norm(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest singular value of an affine layer, written out entry by entry, by NumPy."""
    eye = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        matrix = (module(eye) - module(torch.zeros_like(eye))).flatten(1).T
    return float(np.linalg.svd(matrix.numpy(), compute_uv=False)[0])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, tuple[int, int, int]]:
    groups = draw(st.integers(1, 2))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    conv = nn.Conv2d(
        groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), kernel,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))), groups=groups,
    ).double()  # fmt: skip
    torch.manual_seed(draw(st.integers(0, 1000)))
    nn.init.normal_(conv.weight)
    side = (draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, conv.dilation, strict=True)]
    assume(all(s + 2 * p >= r for s, p, r in zip(side, conv.padding, reach, strict=True)))
    return conv.requires_grad_(False), (conv.in_channels, *side)


@given(convolutions())
@settings(deadline=None, max_examples=150)
def test_a_small_convolution_has_the_norm_of_its_matrix(case: tuple[nn.Conv2d, tuple[int, int, int]]) -> None:
    conv, shape = case
    assert convolution_norm(conv, shape) == pytest.approx(dense_norm(conv, shape), rel=1e-5)


@given(convolutions())
@settings(deadline=None, max_examples=150)
def test_the_fourier_form_is_never_below_the_matrix(case: tuple[nn.Conv2d, tuple[int, int, int]]) -> None:
    conv, shape = case
    assert padded_norm(conv, shape) >= dense_norm(conv, shape) * (1 - 1e-12)


class Cyclic(nn.Module):
    """The convolution of a map that goes on at its other side."""

    def __init__(self, kernel: Tensor, stride: tuple[int, int], groups: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, x: Tensor) -> Tensor:
        high, wide = self.kernel.shape[2:]
        around = torch.cat([x, x[:, :, : high - 1]], 2)
        around = torch.cat([around, around[..., : wide - 1]], 3)
        return nn.functional.conv2d(around, self.kernel, stride=self.stride, groups=self.groups)


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(2, 3), st.integers(1, 2),
    st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=80)
def test_the_fourier_form_is_the_norm_of_the_cyclic_matrix(
    high: int, wide: int, down: int, across: int, times: int, groups: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    kernel = torch.randn(2 * groups, 2, high, wide, generator=g, dtype=torch.float64)
    size = (down * times + down, across * times + across)
    assume(size[0] >= high and size[1] >= wide)
    found = cyclic_norm(kernel, size, (down, across), groups)
    dense = dense_norm(Cyclic(kernel, (down, across), groups), (2 * groups, *size))
    assert found == pytest.approx(dense, rel=1e-5)


def test_padding_given_as_a_word_counts() -> None:
    conv = nn.Conv2d(2, 3, 3, padding="same", dilation=2).double()
    assert padded_norm(conv, (2, 7, 7)) >= dense_norm(conv, (2, 7, 7))


def test_the_slip_of_the_paper_would_prove_too_much() -> None:
    conv = nn.Conv2d(1, 1, 1, stride=2, bias=False).double()
    nn.init.ones_(conv.weight)
    assert padded_norm(conv, (1, 8, 8)) == pytest.approx(1.0)  # divided by the stride once more it would be 1/2


def test_unrolled_is_the_convolution() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False).double()
    x = torch.rand(1, 2, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(unrolled(conv, (2, 5, 5)) @ x.flatten(), conv(x).flatten())


def test_the_largest_singular_value_is_that_of_a_decomposition() -> None:
    matrix = torch.randn(5, 30, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert largest_singular_value(matrix) == pytest.approx(float(torch.linalg.svdvals(matrix).max()), rel=1e-12)


POOLS = [
    (nn.MaxPool2d(2), 1.0), (nn.MaxPool2d(3, 2), 2.0), (nn.MaxPool2d(3, 1, 1), 3.0),
    (nn.MaxPool2d((1, 3), (1, 2)), math.sqrt(2)),
    (nn.AvgPool2d(2), 0.5), (nn.AdaptiveAvgPool2d(1), 1 / 6),
]  # fmt: skip


@pytest.mark.parametrize(("pool", "expected"), POOLS, ids=str)
def test_gains_of_pools(pool: nn.Module, expected: float) -> None:
    graph = read(classifier(pool, nn.Flatten()))
    assert gains(graph)[0].gain == pytest.approx(expected)


def test_an_overlapping_max_pool_reaches_its_gain() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 1.0
    assert float(nn.MaxPool2d(3, 2)(x).norm()) == 2.0


@pytest.mark.parametrize(
    "pool", [nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.AvgPool2d(2, ceil_mode=True)]
)
def test_a_mean_is_never_below_its_matrix(pool: nn.Module) -> None:
    graph = read(classifier(pool, nn.Flatten(), shape=(1, 7, 7)))
    assert gains(graph)[0].gain >= dense_norm(pool, (1, 7, 7)) * (1 - 1e-12)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.norm(self.conv(x)) + x)


def random_network(seed: int) -> Classifier:
    torch.manual_seed(seed)
    block = Residual()
    nn.init.uniform_(block.norm.running_var, 0.2, 2.0)  # type: ignore[arg-type]
    nn.init.normal_(block.norm.running_mean)  # type: ignore[arg-type]
    layers = [
        nn.Conv2d(1, 2, 3, padding=1),
        nn.Sigmoid(),
        block,
        nn.MaxPool2d(3, 1),
        nn.Flatten(),
        nn.Linear(32, 8),
        nn.Tanh(),
    ]
    return classifier(*layers, nn.LeakyReLU(0.1), nn.Linear(8, 4), mean=(0.3,), std=(0.4,))


@pytest.mark.parametrize("seed", range(5))
def test_the_product_is_never_below_a_measured_ratio(seed: int) -> None:
    net = random_network(seed)
    total = gains(read(net))[-1].total
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(400, 1, 6, 6, generator=g)
    y = x + 0.01 * torch.randn(x.shape, generator=g)
    ratio = (net(x) - net(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert float(ratio.max()) <= total
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v).sum(0), x[:1])
    assert float(torch.linalg.matrix_norm(jacobian.view(4, -1), 2)) <= total


def test_a_linear_network_is_proved_up_to_its_boundary() -> None:
    torch.manual_seed(0)
    net = classifier(nn.Flatten(), nn.Linear(36, 4), mean=(0.3,), std=(0.4,))
    x = torch.rand(20, 1, 6, 6, dtype=torch.float64)
    graph = read(net)
    z = graph.forward(x)[-1]
    labels = z.argmax(1)
    rows = graph.steps[-1].module.weight / 0.4  # type: ignore[operator]
    apart = (rows[labels][:, None] - rows).norm(dim=2)
    lead = z.gather(1, labels[:, None]) - z
    exact = torch.where(apart > 0, lead / apart, torch.inf).amin(1)
    found = radii(graph, gains(graph), x, labels, "l2")
    assert (found <= exact).all()
    assert torch.allclose(found, exact, rtol=1e-3, atol=1e-5)
    assert torch.allclose(radii(graph, gains(graph), x, labels, "linf"), found / 6)
    assert torch.allclose(radii(graph, gains(graph), x, labels, "l1"), found)
    assert (radii(graph, gains(graph), x, (labels + 1) % 4, "l2") == 0).all()


def test_steps_compute_what_the_network_computes() -> None:
    net = random_network(3)
    x = torch.rand(5, 1, 6, 6)
    assert torch.allclose(read(net).forward(x.double())[-1].float(), net(x), atol=1e-5)


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


class Twisted(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tensor([0.5])


REFUSED = [
    ([Squared()], "no known bound"), ([Branching()], "cannot be traced"),
    ([nn.Softmax(1)], "Softmax has no known bound"),
    ([nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")], "padding_mode"), ([nn.LeakyReLU(2.0)], "negative_slope"),
    ([Twisted(6, 6)], "no known bound"), ([Shifted()], "a tensor that forward makes"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "reason"), REFUSED, ids=[r for _, r in REFUSED])
def test_what_is_not_known_is_refused(layers: list[nn.Module], reason: str) -> None:
    with pytest.raises(NoBoundError, match=reason):
        read(classifier(*layers, nn.Flatten()))


def test_a_hook_is_refused() -> None:
    net = classifier(nn.Flatten(), nn.Linear(36, 4))
    net.network[1].register_forward_hook(lambda module, args, out: 2 * out)  # type: ignore[index]
    with pytest.raises(NoBoundError, match="hook"):
        read(net)


def test_norms_that_take_too_long_are_refused() -> None:
    graph = read(classifier(nn.Flatten(), nn.Linear(36, 4)))
    with pytest.raises(NoBoundError, match="more than the work"):
        gains(graph, work=10.0)
