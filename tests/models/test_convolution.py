"""Norms of convolutions against their matrices, written out entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from models.convolution import MODES, Convolution, lanczos
from models.layer_norms import convolved


@st.composite
def convolutions(draw: st.DrawFn, modes: tuple[str, ...] = MODES) -> Convolution:
    groups, mode = draw(st.integers(1, 2)), draw(st.sampled_from(modes))
    side = (draw(st.integers(3, 8)), draw(st.integers(3, 7)))
    taps = (draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    kernel = (groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *taps)
    g = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    pads = st.tuples(st.integers(0, 2), st.integers(0, 2))
    found = Convolution(
        torch.randn(kernel, generator=g, dtype=torch.float64), (groups * kernel[1], *side),
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))), (draw(pads), draw(pads)),
        (draw(st.integers(1, 2)), draw(st.integers(1, 2))), groups, mode,
    )  # fmt: skip
    assume(all(side[a] + sum(found.around[a]) >= found.reach(a) for a in (0, 1)))
    return found


def dense_norm(conv: Convolution) -> float:
    return float(np.linalg.svd(conv.matrix().numpy(), compute_uv=False)[0])


def below(conv: Convolution) -> float:
    size, stride, _ = conv.grids()[0]
    return conv.below(conv.scan(size, stride))


@given(convolutions())
@settings(deadline=None, max_examples=100)
def test_a_norm_agrees_with_the_decomposition(conv: Convolution) -> None:
    found, dense = convolved(conv), dense_norm(conv)
    assert found.low == pytest.approx(dense, rel=1e-5, abs=1e-12)
    assert found.high == pytest.approx(dense, rel=1e-5, abs=1e-12)


@given(convolutions())
@settings(deadline=None, max_examples=100)
def test_the_bounds_of_a_large_layer_hold_the_norm(conv: Convolution) -> None:
    dense = dense_norm(conv)
    assert below(conv) <= dense * (1 + 1e-9) + 1e-12
    assert conv.above() >= dense * (1 - 1e-12)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_cyclic_convolution_is_exact_at_any_stride(stride: int, dilation: int, groups: int) -> None:
    g = torch.Generator().manual_seed(stride)
    reach = 2 * dilation
    kernel = torch.randn(4, 4 // groups, 3, 3, generator=g, dtype=torch.float64)
    pads = ((reach, 0), (0, reach))
    conv = Convolution(kernel, (4, 8, 12), (stride, stride), pads, (dilation, dilation), groups, "circular")
    assert conv.whole
    assert conv.above() == pytest.approx(dense_norm(conv), rel=1e-10)


def test_a_kernel_larger_than_the_map_goes_around_it() -> None:
    g = torch.Generator().manual_seed(0)
    kernel = torch.randn(2, 1, 5, 5, generator=g, dtype=torch.float64)
    conv = Convolution(kernel, (1, 4, 4), around=((2, 2), (2, 2)), mode="circular")
    assert conv.whole
    assert conv.above() == pytest.approx(dense_norm(conv), rel=1e-10)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", ["same", 1, 0])
@pytest.mark.parametrize("kernel", [2, 3])
def test_a_layer_is_read_as_it_computes(mode: str, padding: str | int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, kernel, padding=padding, padding_mode=mode, groups=2).double().requires_grad_(False)
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64)
    assert torch.allclose(Convolution.of(layer, (2, 6, 5))(x) + layer.bias.view(-1, 1, 1), layer(x))


def test_the_bounds_of_a_large_convolution_are_near_one_another() -> None:
    g = torch.Generator().manual_seed(0)
    kernel = torch.randn(16, 16, 3, 3, generator=g, dtype=torch.float64)
    found = convolved(Convolution(kernel, (16, 40, 40), around=((1, 1), (1, 1))))
    assert "Lanczos" in found.how
    assert 0.99 < found.low / found.high < 1


def test_the_singular_values_of_a_scan_are_those_of_the_matrix() -> None:
    g = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 2, 3, 3, generator=g, dtype=torch.float64)
    conv = Convolution(kernel, (2, 6, 8), (2, 2), ((2, 0), (2, 0)), mode="circular")
    found = conv.scan((6, 8), (2, 2)).all().sort().values
    dense = np.linalg.svd(conv.matrix().numpy(), compute_uv=False)
    assert found.numpy() == pytest.approx(np.sort(dense), abs=1e-9)


def test_lanczos_finds_the_norm_of_a_matrix_from_below() -> None:
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(30, 20, generator=g, dtype=torch.float64)
    top = float(torch.linalg.matrix_norm(matrix, 2))
    start = torch.randn(20, generator=g, dtype=torch.float64)
    found = lanczos(lambda x: x @ matrix.T, start, 20, 0.0)
    assert found == pytest.approx(top, rel=1e-8)
    assert found <= top
