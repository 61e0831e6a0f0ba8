from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps, quantize, unlimited

EPS = {"l0": 3.0, "l1": 1.5, "l2": 0.7, "linf": 0.2}
Images = Callable[..., Tensor]


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("0.3", 0.3), ("1e-3", 1e-3), (" 0.5 ", 0.5), ("1/3", 1 / 3), (2, 2.0), (0.25, 0.25)],
)
def test_eps_is_read_from_fractions_and_numbers(text: str | float, value: float) -> None:
    assert parse_eps(text) == value


@given(p=st.integers(0, 10**6), q=st.integers(1, 10**6))
@settings(deadline=None, derandomize=True)
def test_eps_as_a_fraction_is_the_nearest_float(p: int, q: int) -> None:
    assert parse_eps(f"{p}/{q}") == p / q


@pytest.mark.parametrize("text", ["", "eight", "8/", "/255", "8/0", "1/2/3", "0,3", "8/255px", "nan", "inf", math.nan])
def test_eps_that_is_no_number_is_one_clear_line(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"threat\.eps: must be a number or a fraction such as 8/255, got") as e:
        parse_eps(text)
    assert repr(text) in str(e.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("l3", 1.0), r"threat\.norm: must be one of l0, l1, l2, linf, got 'l3'"),
        (("Linf", 0.1), r"threat\.norm: must be one of .* got 'Linf'"),
        (("linf", 0.0), r"threat\.eps: must be > 0 in box units, got 0"),
        (("l2", -1.0), r"threat\.eps: must be > 0 in box units, got -1"),
        (("l2", math.nan), r"threat\.eps: must be > 0 in box units, got nan"),
        (("linf", 8.0), r"at most 1, the width of the box, for linf, got 8; for 8-bit pixels write 8/255"),
        (("linf", 2.5, (-1.0, 1.0)), r"at most 2, the width of the box"),
        (("l0", 2.5), r"threat\.eps: must be a whole number of coordinates for l0, got 2\.5"),
        (("l2", 1.0, (1.0, 0.0)), r"box must be \(low, high\) with low < high, got \(1\.0, 0\.0\)"),
        (("l2", 1.0, (0.0, math.nan)), r"box must be \(low, high\) with low < high"),
    ],
)
def test_impossible_threat_is_one_clear_line(fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ThreatModel(*fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 3.0)])
def test_every_point_it_gives_keeps_ball_and_box(
    norm: str, box: tuple[float, float], images: Images, streams: Callable[[int], Rng]
) -> None:
    threat = ThreatModel(norm, EPS[norm], box)
    x = box[0] + (box[1] - box[0]) * images()
    away = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    for point in (threat.project(x + away, x), threat.random_start(x, streams(len(x))), threat.steepest(x, away)):
        assert point.shape == x.shape
        assert threat.inside_box(point).all()
        assert threat.within(point, x).all()
        assert (point != x).flatten(1).any(1).all()


@pytest.mark.parametrize("norm", EPS)
def test_images_at_the_bounds_of_the_box_stay_in_it(norm: str, streams: Callable[[int], Rng]) -> None:
    x = torch.cat([torch.zeros(4, 1, 4, 4), torch.ones(4, 1, 4, 4)])
    threat = ThreatModel(norm, EPS[norm])
    for point in (threat.random_start(x, streams(8)), threat.steepest(x, 2 * x - 1)):
        assert threat.inside_box(point).all()
        assert threat.within(point, x).all()


@pytest.mark.parametrize("norm", EPS)
def test_size_is_that_of_the_perturbation(norm: str) -> None:
    x = torch.zeros(1, 1, 2, 2)
    x_adv = torch.tensor([0.0, 0.3, -0.4, 0.0]).view_as(x)
    expected = {"l0": 2.0, "l1": 0.7, "l2": 0.5, "linf": 0.4}[norm]
    assert torch.allclose(ThreatModel(norm, EPS[norm]).size(x_adv, x), torch.tensor([expected]))


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_within_forgives_rounding_but_no_more(norm: str) -> None:
    x = torch.full((1, 1, 4, 4), 0.5)
    direction = torch.zeros_like(x)
    direction[0, 0, 0, 0] = 1.0
    threat = ThreatModel(norm, 8 / 255)
    assert threat.within(x + direction * threat.eps * (1 + 1e-6), x)
    assert not threat.within(x + direction * (threat.eps + 1e-4), x)


@pytest.mark.parametrize("eps", [8 / 255, 0.3, 0.1, 1 / 3, 0.031372])
def test_a_step_of_exactly_eps_is_within_in_float32(eps: float, images: Images) -> None:
    x = images(200)
    threat = ThreatModel("linf", eps)
    for sign in (1.0, -1.0):
        assert threat.within(threat.steepest(x, torch.full_like(x, sign)), x).all()


def test_l0_budget_is_counted_exactly() -> None:
    x = torch.zeros(1, 1, 2, 2)
    x_adv = torch.tensor([0.1, 0.2, 0.3, 0.0]).view_as(x)
    assert ThreatModel("l0", 3).within(x_adv, x)
    assert not ThreatModel("l0", 2).within(x_adv, x)


def test_nan_and_values_beyond_the_bounds_are_outside_the_box() -> None:
    x = torch.full((4, 1, 1, 2), 0.5)
    x[0, 0, 0, 0], x[1, 0, 0, 0], x[2, 0, 0, 0] = torch.nan, 1.0001, -1e-6
    assert ThreatModel("l2", 1.0).inside_box(x).tolist() == [False, False, False, True]


def test_nan_keeps_no_budget() -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    for norm, eps in EPS.items():
        if norm != "l0":
            assert not ThreatModel(norm, eps).within(x * torch.nan, x)


@pytest.mark.parametrize("norm", EPS)
def test_unlimited_allows_the_whole_box(norm: str, images: Images) -> None:
    x, other = images(5), images(5, seed=7)
    threat = unlimited(norm)
    assert threat.within(other, x).all()
    assert torch.allclose(threat.project(other + 2, x), torch.ones_like(x))


@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_quantize_gives_the_256_levels(box: tuple[float, float]) -> None:
    levels = box[0] + (box[1] - box[0]) * torch.arange(256) / 255
    x = box[0] + (box[1] - box[0]) * torch.rand(1000, generator=torch.Generator().manual_seed(0))
    rounded = quantize(x, box)
    width = (box[1] - box[0]) / 255
    assert (rounded[:, None] - levels).abs().amin(1).max() < 1e-3 * width
    assert (rounded - x).abs().max() <= width * 0.5001
    assert torch.allclose(quantize(levels, box), levels, atol=1e-6 * (box[1] - box[0]))
    assert torch.equal(quantize(rounded, box), rounded)


def test_without_bounds_a_point_may_lie_anywhere_but_must_be_finite_and_keep_the_budget() -> None:
    threat = ThreatModel("linf", 0.25, (-math.inf, math.inf))
    x = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).view_as(x)

    assert torch.equal(threat.steepest(x, gradient), x + 0.25 * gradient.sign())
    assert torch.equal(threat.project(x + 3, x), x + 0.25)
    assert threat.within(threat.steepest(x, gradient), x).all()
    assert not threat.within(x + 0.26, x).any()
    assert threat.inside_box(x - 7).all()
    assert not threat.inside_box(x + math.inf).any()
    assert torch.equal(quantize(x + 3, threat.box), x + 3)
