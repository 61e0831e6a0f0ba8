"""Intervals of means of pairs, by what is planted: things that several pairs share."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t

from eval.intervals import paired_mean
from eval.studies.cells import Value
from eval.studies.estimates import beyond, of_pairs, verdict
from eval.studies.unit_family import Looked, number
from eval.studies.unit_twins import common, matched

UNITS, LEAST, MOST = 40, 0.7, 0.98


def test_disjoint_pairs_have_the_interval_of_student() -> None:
    values = np.random.default_rng(0).normal(size=9)
    mean, low, high = paired_mean(values, np.arange(18).reshape(9, 2))
    half = t.ppf(0.975, 8) * values.std(ddof=1) / 3
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))


def test_the_variance_is_the_sum_over_all_pairs_that_share_a_thing() -> None:
    rng = np.random.default_rng(1)
    ends = np.array([p for p in combinations(range(9), 2) if rng.random() < 0.6])
    values = rng.normal(size=len(ends)) + rng.normal(size=9)[ends].sum(1)
    error = values - values.mean()
    naive = sum(error[p] * error[q] for p in range(len(ends)) for q in range(len(ends)) if set(ends[p]) & set(ends[q]))
    assert naive > (error**2).sum()  # not held back by what independent ones would have
    mean, low, high = paired_mean(values, ends)
    half = t.ppf(0.975, 3.5) * np.sqrt(naive * 4.5 / 3.5) / len(ends)
    assert (low, high) == pytest.approx((mean - half, mean + half))


def test_a_pair_that_is_told_twice_counts_once() -> None:
    rng = np.random.default_rng(2)
    values, ends = rng.normal(size=6), np.arange(12).reshape(6, 2)
    twice = paired_mean(np.repeat(values, 2), np.concatenate([ends, ends[:, ::-1]], axis=1).reshape(12, 2))
    assert twice == pytest.approx(paired_mean(values, ends))


def test_too_few_have_no_interval() -> None:
    assert np.isnan(paired_mean(np.zeros(0), np.zeros((0, 2), int))).all()
    mean, low, high = paired_mean(np.ones(1), np.array([[0, 1]]))
    assert mean == 1
    assert np.isnan([low, high]).all()


def networks(rng: np.random.Generator, *, alike: bool, features: bool = True) -> list[Looked]:
    """Three networks of the same features, or of none, in another order, each with noise; `alike`: as much in all."""
    fitted = np.arange(240) % 2 == 0
    shared, same = rng.standard_normal((240, UNITS)), rng.uniform(LEAST, MOST, UNITS)
    found = []
    for name in "abc":
        part = same if alike else rng.uniform(LEAST, MOST, UNITS)
        responses = features * part * shared + np.sqrt(1 - part**2) * rng.standard_normal(shared.shape)
        eye = np.eye(UNITS)
        seen = {"responses": responses[:, rng.permutation(UNITS)], "fitted": fitted, "v_natural": eye, "v_random": eye}
        found.append(Looked(name, name, seen | {"live": np.arange(UNITS)}))
    return found


def alike(one: Looked, other: Looked) -> np.ndarray:
    found = matched(one, other, "natural")
    assert found is not None
    return found[1]


@pytest.mark.parametrize("same", [False, True])
def test_matched_units_of_three_networks_are_covered_where_independent_pairs_would_not_be(same: bool) -> None:
    squares = (MOST**3 - LEAST**3) / (3 * (MOST - LEAST))
    truth = squares if same else ((LEAST + MOST) / 2) ** 2  # of what two have of a feature
    rng, times = np.random.default_rng(3), 200
    covered, naive = 0, 0
    for _ in range(times):
        pairs = list(combinations(networks(rng, alike=same), 2))
        ours = common(pairs, "natural")
        alone = number(np.concatenate([alike(one, other) for one, other in pairs]))
        assert ours.ours == pytest.approx(alone.ours)
        assert ours.n == 3 * UNITS
        covered += ours.low <= truth <= ours.high
        naive += alone.low <= truth <= alone.high
    assert covered >= 0.91 * times
    assert naive <= 0.87 * times


def test_joint_matching_of_what_has_nothing_in_common_leaves_the_interval_as_it_should_be() -> None:
    rng, times, covered = np.random.default_rng(6), 200, 0
    for _ in range(times):
        pairs = list(combinations(networks(rng, alike=True, features=False), 2))
        value = common(pairs, "natural")
        covered += value.low <= 0 <= value.high
    assert covered >= 0.91 * times


def test_differences_of_matched_sets_without_any_are_told_as_often_as_intervals_say() -> None:
    rng, times = np.random.default_rng(4), 200
    told, naive = 0, 0
    for _ in range(times):
        sets = [list(combinations(networks(rng, alike=True), 2)) for _ in range(2)]
        gap = beyond(*(common(pairs, "natural") for pairs in sets))
        told += not gap.low <= 0 <= gap.high
        alone = [number(np.concatenate([alike(*pair) for pair in pairs])) for pairs in sets]
        gap = beyond(alone[0], alone[1])
        naive += not gap.low <= 0 <= gap.high
    assert told <= 0.09 * times
    assert naive >= 0.13 * times


def test_an_image_in_several_pairs_widens_the_interval_of_their_mean() -> None:
    """Each pair is of an image and its neighbour in a circle; what it has is the sum of what both have."""
    rng, times, covered, naive = np.random.default_rng(5), 400, 0, 0
    partner = (np.arange(30) - 1) % 30
    for _ in range(times):
        of = rng.normal(size=30)
        value = of_pairs(of + of[partner], partner)
        covered += value.low <= 0 <= value.high
        alone = number(of + of[partner])
        naive += alone.low <= 0 <= alone.high
    assert covered >= 0.91 * times
    assert naive <= 0.88 * times


def test_what_is_not_known_of_pairs_is_left_out() -> None:
    partner = np.array([1, 0, 1, 3])
    value = of_pairs(np.array([1.0, 1.0, 1.0, np.nan]), partner)
    assert (value.ours, value.n) == (1.0, 3)
    assert np.isnan([value.low, value.high]).all()  # three pairs have no interval


def test_a_difference_of_shares_is_newcombes() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table II, row (a): 56/70 less 48/80, by his method 10."""
    from eval.studies.cells import share

    gap = beyond(share(np.arange(70) < 56), share(np.arange(80) < 48))
    assert (round(gap.low, 4), round(gap.high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(("low", "high", "says"), [(0.1, 0.3, "more"), (-0.3, -0.1, "less"), (-0.1, 0.1, "neither")])
def test_a_difference_is_told_where_0_is_not_within(low: float, high: float, says: str) -> None:
    assert verdict(Value("number", (low + high) / 2, low, high, 9), "more", "less", "neither") == says
