"""Exponents, their intervals, and closed forms beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.exponents import exponent, farthest_error, half_space, medians, near_surface, slope, student

PIXELS = np.array([49.0, 196, 784, 3136])


def law(alpha: float, seeds: int = 5, images: int = 60, spread: float = 0.0, at: int = 0) -> np.ndarray:
    rng = np.random.default_rng(at)
    scale = np.exp(rng.normal(0, 0.3, images))
    values = PIXELS[None, :, None] ** alpha * scale
    return values * np.exp(rng.normal(0, spread, (seeds, len(PIXELS), 1)))


@settings(deadline=None, max_examples=30)
@given(st.floats(-2, 2), st.floats(0.1, 10))
def test_a_power_law_has_its_exponent(alpha, factor):
    found = exponent(PIXELS, factor * law(alpha))
    assert found.by_seed == pytest.approx(np.full(5, alpha), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((alpha, alpha), abs=1e-9)
    assert found.images == 60


def test_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(3, 4))
    assert math.isnan(slope([4], [1.0]))
    assert slope(PIXELS, logs) == pytest.approx([np.polyfit(np.log(PIXELS), one, 1)[0] for one in logs])


def test_students_interval_is_scipys_and_covers_in_95_of_100():
    values = np.random.default_rng(0).normal(3, 2, (4000, 5))
    wanted = stats.t.interval(0.95, 4, values[0].mean(), stats.sem(values[0]))
    assert student(values[0]) == pytest.approx(wanted)
    held = [low <= 3 <= high for low, high in map(student, values)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_the_interval_over_seeds_covers_and_that_over_images_is_about_images():
    covers = [e.low <= 0.4 <= e.high for e in (exponent(PIXELS, law(0.4, spread=0.1, at=i)) for i in range(60))]
    assert 0.85 <= np.mean(covers) <= 1
    rng = np.random.default_rng(0)
    noisy = law(0.4) * np.exp(rng.normal(0, 0.5, (1, len(PIXELS), 60)))
    found = exponent(PIXELS, noisy)
    assert found.high - found.low == pytest.approx(0, abs=1e-9)  # all seeds are alike
    assert 0.05 < found.far - found.near < 0.5
    assert found.near < found.mean < found.far


def test_one_seed_has_no_interval():
    found = exponent(PIXELS, law(0.5, seeds=1))
    assert math.isnan(found.low)
    assert found.near == pytest.approx(0.5)


def test_what_stands_beside_is_subtracted_on_the_same_images():
    own, beside = law(0.5), law(0.3, seeds=1)[0]
    assert exponent(PIXELS, own, beside).mean == pytest.approx(0.2)
    own[:, 1, :30] = math.nan  # wrong at one size: out at all
    beside[:, :30] *= PIXELS[:, None]  # of another exponent there
    found = exponent(PIXELS, own, beside)
    assert found.mean == pytest.approx(0.2)
    assert found.images == 30


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.floats(0.1, 5), st.just(math.nan), st.just(math.inf)), min_size=1, max_size=9))
def test_medians_pass_over_nan(values):
    known = [v for v in values if not math.isnan(v)]
    (found,) = medians(np.array([values]))
    assert found == np.median(known) if len(known) >= 3 else math.isnan(found)


def test_nearly_all_of_a_ball_lies_near_its_surface():
    radii = np.random.default_rng(0).random(20000) ** (1 / 49)  # of points of a ball
    assert near_surface(0.01, 49) == pytest.approx((radii > 0.99).mean(), abs=0.01)
    assert near_surface(0.01, 784) == pytest.approx(0.9996, abs=1e-4)


def test_a_cap_is_as_far_as_the_bound_says_and_two_caps_are_nearer():
    d, share = 500, 0.01
    points = np.random.default_rng(0).normal(size=(20000, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    bound = farthest_error(share, d)

    def distance(to: np.ndarray, part: float) -> float:
        """Mean over the sphere to caps around the axes `to`, each of a share `part`."""
        edge = math.pi / 2 - math.asin(farthest_error(part, d))
        angle = np.arccos(np.clip(points @ to.T, -1, 1)).min(1)
        return float(np.maximum(angle - edge, 0).mean())

    axes = np.eye(d)[:2]
    cap = distance(axes[:1], share)
    assert (np.arccos(points[:, 0]) < math.pi / 2 - math.asin(bound)).mean() == pytest.approx(share, rel=0.2)
    assert cap == pytest.approx(bound, rel=0.01)
    assert distance(np.stack([axes[0], -axes[0]]), share / 2) < cap
    assert distance(axes, share / 2) < cap
    assert farthest_error(1e-3, 500) == pytest.approx(0.138, abs=5e-4)  # the paper's


def test_half_spaces_are_where_noise_says():
    sigma = np.array([0.5, 1.0, 3.0])
    assert half_space(sigma, stats.norm.sf(0.7 / sigma)) == pytest.approx([0.7] * 3)


def test_an_exponent_of_what_was_not_found_is_not_known() -> None:
    values = np.full((2, 3, 5), np.inf)
    values[1] = np.array([1.0, 2.0, 4.0])[:, None]
    found = exponent([1, 4, 16], values)
    assert np.isnan(found.by_seed[0])
    assert found.by_seed[1] == pytest.approx(0.5)
    assert np.isnan(found.near)
