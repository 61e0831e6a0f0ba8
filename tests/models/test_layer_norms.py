"""Bounds of layers against matrices written out, steepest slopes, and ratios that are measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.layer_norms import DRAWN, layer_norm, thinned


def seeded(module: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=g)
    return module.double().eval().requires_grad_(False)


def dense_norm(module: nn.Module, shape: tuple[int, ...]) -> float:
    eye = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        matrix = (module(eye) - module(torch.zeros_like(eye))).flatten(1).T
    return float(np.linalg.svd(matrix.numpy(), compute_uv=False)[0])


LINEAR = [
    (nn.Linear(12, 5), (12,)), (nn.Conv2d(2, 3, 3, 2, 1), (2, 7, 6)), (nn.Conv1d(2, 3, 3, 2, 1), (2, 9)),
    (nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular", groups=2), (2, 9)),
    (nn.ConvTranspose2d(4, 2, 3, 2, 1, output_padding=1), (4, 4, 5)),
    (nn.ConvTranspose2d(4, 4, 2, groups=2), (4, 4, 5)),
    (nn.BatchNorm2d(3), (3, 2, 2)), (nn.BatchNorm1d(6), (6,)), (nn.ZeroPad2d((1, 2, 0, 1)), (2, 4, 4)),
    (nn.ReflectionPad2d((2, 1, 0, 1)), (2, 4, 4)), (nn.ReplicationPad2d(2), (1, 4, 4)),
    (nn.CircularPad2d(1), (1, 4, 4)),
    (nn.Upsample(scale_factor=2), (2, 3, 3)), (nn.PixelShuffle(2), (4, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("module", "shape"), LINEAR, ids=[str(m) for m, _ in LINEAR])
def test_a_linear_layer_has_the_norm_of_its_matrix(module: nn.Module, shape: tuple[int, ...]) -> None:
    found = layer_norm(seeded(module), shape)
    assert found is not None
    assert found.low == pytest.approx(dense_norm(module, shape), rel=1e-5)
    assert found.high == pytest.approx(found.low, rel=1e-5)


MEANS: list[nn.Module] = [
    nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d(3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2, divisor_override=1),
]  # fmt: skip


@pytest.mark.parametrize("module", MEANS, ids=str)
def test_the_bounds_of_a_mean_hold_its_norm(module: nn.Module) -> None:
    found, dense = layer_norm(module, (2, 7, 6)), dense_norm(module, (2, 7, 6))
    assert found is not None
    assert found.low <= dense * (1 + 1e-9)
    assert found.low == pytest.approx(dense, rel=1e-3)
    assert dense * (1 - 1e-9) <= found.high <= 1.01 * dense


MAXIMA = [
    (nn.MaxPool2d(2), 1.0), (nn.MaxPool2d(3, 2), 2.0), (nn.MaxPool2d(3, 1, 1), 3.0), (nn.MaxPool2d(5, 2, 2), 3.0),
    (nn.MaxPool2d((1, 3), (1, 2)), math.sqrt(2)), (nn.MaxPool2d(2, 1, dilation=2), 2.0),
    (nn.MaxPool2d(3, 2, ceil_mode=True), 2.0), (nn.AdaptiveMaxPool2d(3), 1.0), (nn.AdaptiveMaxPool2d(5), 2.0),
]  # fmt: skip


@pytest.mark.parametrize(("pool", "expected"), MAXIMA, ids=[str(m) for m, _ in MAXIMA])
def test_one_pixel_attains_the_norm_of_a_max_pool(pool: nn.Module, expected: float) -> None:
    found = layer_norm(pool, (1, 9, 9))
    pixels = torch.eye(81, dtype=torch.float64).view(-1, 1, 9, 9)
    attained = float(pool(pixels).flatten(1).norm(dim=1).max())
    assert found is not None
    assert attained == pytest.approx(expected)
    assert found.low == pytest.approx(attained)
    assert found.high == pytest.approx(attained)


CURVED = [
    nn.ReLU(), nn.ReLU6(), nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(), nn.Softplus(), nn.Softsign(), nn.LogSigmoid(),
    nn.Hardsigmoid(), nn.Hardswish(), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(),
    nn.SELU(), nn.CELU(),
    nn.Tanhshrink(), nn.Softshrink(), nn.ELU(), nn.ELU(2.0), nn.LeakyReLU(0.1), nn.LeakyReLU(3.0), nn.PReLU(),
]  # fmt: skip


@pytest.mark.parametrize("activation", CURVED, ids=str)
def test_an_activation_has_its_steepest_slope(activation: nn.Module) -> None:
    x = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    with torch.no_grad():
        steepest = float((activation.double()(x).diff() / x.diff()).abs().max())
    found = layer_norm(activation, (4,))
    assert found is not None
    assert steepest <= found.high
    assert steepest == pytest.approx(found.low, rel=1e-3)


BOUNDED = [
    (nn.LayerNorm(8), (8,)), (nn.GroupNorm(2, 4), (4, 3, 3)), (nn.InstanceNorm2d(3, affine=True), (3, 4, 4)),
    (nn.LocalResponseNorm(3, alpha=1.0, k=0.5), (6, 3, 3)), (nn.LocalResponseNorm(5, 2.0, 0.9, 1.0), (6, 3, 3)),
    (nn.Softmax(1), (5,)), (nn.MaxPool2d(3, 2), (2, 7, 7)), (nn.Dropout(), (5,)), (nn.Flatten(), (2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("module", "shape"), BOUNDED, ids=[str(m) for m, _ in BOUNDED])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_no_bound_is_below_a_measured_ratio(module: nn.Module, shape: tuple[int, ...], scale: float) -> None:
    found = layer_norm(seeded(module), shape)
    g = torch.Generator().manual_seed(1)
    x = scale * torch.randn(500, *shape, generator=g, dtype=torch.float64)
    y = x + 0.1 * scale * torch.randn(500, *shape, generator=g, dtype=torch.float64)
    ratio = (module(x) - module(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert found is not None
    assert float(ratio.max()) <= found.high
    assert found.low <= found.high


def test_contrast_normalisation_attains_its_bounds_nearly() -> None:
    norm = nn.LayerNorm(8).double()
    found = layer_norm(norm, (8,))
    x = torch.zeros(2, 8, dtype=torch.float64)
    x[1, 0], x[1, 1] = 1e-6, -1e-6
    with torch.no_grad():
        out = norm(x)
    assert found is not None
    assert float((out[1] - out[0]).norm() / (x[1] - x[0]).norm()) == pytest.approx(found.high, rel=1e-3)


@pytest.mark.parametrize("module", [nn.LayerNorm(4, eps=0.0), nn.GroupNorm(2, 4, eps=0.0), nn.CELU(alpha=-1.0)])
def test_what_has_no_bound_has_none(module: nn.Module) -> None:
    assert layer_norm(module.double(), (4,)) is None


class Twisted(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


UNKNOWN = [
    Twisted(3, 3),
    nn.LogSoftmax(1),
    nn.BatchNorm1d(3, track_running_stats=False),
    nn.Upsample(2, mode="bicubic"),
]


@pytest.mark.parametrize("module", UNKNOWN, ids=str)
def test_of_other_layers_nothing_is_known(module: nn.Module) -> None:
    assert layer_norm(module, (3, 3, 3)) is None


def test_singular_values_are_thinned_evenly() -> None:
    values = torch.arange(1000.0)
    kept = thinned(values[torch.randperm(1000, generator=torch.Generator().manual_seed(0))])
    assert len(kept) == DRAWN
    assert (float(kept[0]), float(kept[-1])) == (999.0, 0.0)
    assert bool((kept.diff() <= 0).all())


def test_a_strided_convolution_tells_the_printed_form_too() -> None:
    conv = nn.Conv2d(1, 1, 1, stride=2, bias=False).double()
    nn.init.ones_(conv.weight)
    found = layer_norm(conv, (1, 8, 8))
    assert found is not None
    assert (found.low, found.printed) == (pytest.approx(1.0), pytest.approx(0.5))
