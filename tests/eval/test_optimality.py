"""Optimality beside a naive integral, and the curve whose area it is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.optimality import greatest, optimality, optimality_interval, steps

DISTANCES = st.lists(st.tuples(st.floats(0.0, 9.0), st.one_of(st.floats(0.0, 9.0), st.just(np.inf))), min_size=1)


def naive(found: np.ndarray, best: np.ndarray) -> float:
    """xi by sums of rectangles: the areas below both curves between all distances that occur."""
    most = best[np.isfinite(best)].max()
    at = np.unique(np.r_[0.0, found, best].clip(max=most))

    def area(d: np.ndarray) -> float:
        return sum((right - left) * np.mean(d > left) for left, right in itertools.pairwise(at))

    return 1 - (area(found) - area(best)) / (np.mean(best > 0) * most - area(best))


def trapezoids(found: np.ndarray, best: np.ndarray) -> float:
    """xi as the program of AttackBench computes it."""
    most = best.max()

    def area(d: np.ndarray) -> float:
        at, n = np.unique(d.clip(max=most), return_counts=True)
        return float(np.trapezoid(1 - np.cumsum(n) / len(d), at))

    return 1 - (area(found) - area(best)) / (np.mean(best > 0) * most - area(best))


@settings(deadline=None)
@given(DISTANCES, st.integers(0, 9))
def test_the_exact_integral_is_the_naive_one(pairs, misclassified) -> None:
    best = np.array([0.0] * misclassified + [0.1 + a for a, _ in pairs] + [9.5, 0.05])
    found = np.array([0.0] * misclassified + [0.1 + a + b for a, b in pairs] + [9.5, 0.05])
    assert optimality(found, best) == pytest.approx(naive(found, best), abs=1e-9)
    assert 0.0 <= optimality(found, best) <= 1.0


def test_a_worse_search_is_never_above_one() -> None:
    found, best = np.array([1.9, 2.0]), np.array([1.0, 2.0])
    assert trapezoids(found, best) == pytest.approx(1.1286, abs=1e-4)  # the published program
    assert optimality(found, best) == pytest.approx(0.1)


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.5, 4.0])
def test_a_fixed_multiple_of_uniform_distances_has_a_closed_form(factor) -> None:
    n = 1000
    best = (np.arange(n) + 1) / n
    mean = 1 - 1 / (2 * factor)  # of min(factor u, 1), u uniform
    assert optimality(factor * best, best) == pytest.approx(1 - (mean - 0.5) / 0.5, abs=2e-3)


def test_a_thousand_images_at_one_and_a_half_times_the_optimum() -> None:
    best = np.random.default_rng(1).gamma(4, size=1000)
    found = 1.5 * best
    assert optimality(found, best) == pytest.approx(naive(found, best))
    assert trapezoids(found, best) > optimality(found, best)  # the published program flatters it


def test_one_for_the_best_and_zero_for_nothing_found() -> None:
    best = np.array([0.0, 1.0, 2.0, 3.0])
    assert optimality(best, best) == 1.0
    assert optimality(np.array([0.0, np.inf, np.inf, np.inf]), best) == pytest.approx(0.0)


def test_misclassified_images_are_at_distance_zero_and_lift_nobody() -> None:
    found, best = np.array([1.5, 2.5, 4.0]), np.array([1.0, 2.0, 4.0])
    more = np.r_[np.zeros(7), found], np.r_[np.zeros(7), best]
    assert optimality(*more) == pytest.approx(optimality(found, best))


def test_what_was_not_found_counts_as_the_greatest_distance() -> None:
    best = np.array([1.0, 2.0, 4.0])
    assert optimality(np.array([1.0, np.inf, 4.0]), best) == optimality(np.array([1.0, 4.0, 4.0]), best)
    nobody = np.array([1.0, 4.0, np.inf])
    assert greatest(nobody) == 4.0
    assert optimality(np.array([1.0, 4.0, np.inf]), nobody) == 1.0


def test_where_nothing_can_be_won_nothing_is_lost() -> None:
    same = np.array([2.0, 2.0])
    assert optimality(same, same) == 1.0
    assert optimality(np.full(2, np.inf), np.full(2, np.inf)) == 1.0
    assert np.isnan(optimality(np.zeros(0), np.zeros(0)))


def test_the_interval_holds_the_number_and_narrows_with_images() -> None:
    rng = np.random.default_rng(0)
    best = rng.gamma(4, size=400)
    found = best * rng.uniform(1, 2, 400)
    low, high = optimality_interval(found, best)
    few = optimality_interval(found[:40], best[:40])
    assert low < optimality(found, best) < high
    assert high - low < few[1] - few[0]
    assert optimality_interval(best, best) == (1.0, 1.0)


def test_the_curve_falls_at_each_distance_and_its_area_is_the_mean() -> None:
    line = steps(np.array([0.0, 1.0, 1.0, 3.0, np.inf]))
    np.testing.assert_allclose(line, [[0, 1], [0, 1], [0, 0.8], [1, 0.8], [1, 0.4], [3, 0.4], [3, 0.2]])
    found = np.random.default_rng(0).gamma(3, size=50)
    x, y = steps(found).T
    assert np.trapezoid(y, x) == pytest.approx(found.mean())
    assert steps(np.full(3, np.inf)).tolist() == [[0.0, 1.0]]


def test_a_search_that_found_nothing_is_not_called_optimal_where_nothing_is_to_be_won():
    assert np.isnan(optimality(np.array([np.inf, np.inf]), np.array([0.5, 0.5])))
    assert np.isnan(optimality(np.array([np.inf]), np.array([0.5])))
    assert np.isnan(optimality_interval(np.array([np.inf, np.inf]), np.array([0.5, 0.5]))).all()
    assert np.isnan(optimality_interval(np.array([0.0, np.inf]), np.array([0.0, 0.5]))).all()
    assert np.isnan(optimality_interval(np.zeros(0), np.zeros(0))).all()
    assert optimality(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 1
    assert optimality_interval(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == (1, 1)
    assert optimality(np.array([np.inf, np.inf]), np.array([np.inf, np.inf])) == 1
