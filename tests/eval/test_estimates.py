"""Intervals of means, medians and shares: that they are those of the books, and cover what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t, wilcoxon

from eval.intervals import wilson
from eval.studies.cells import Value
from eval.studies.estimates import (
    FEWEST,
    beyond,
    beyond_draws,
    correlation_of,
    correlation_of_pairs,
    mean_of,
    median_of,
    of_draws,
    said,
    share_of_groups,
    verdict,
)


def test_the_mean_has_the_interval_of_student() -> None:
    values = np.random.default_rng(0).normal(size=9)
    half = t.ppf(0.975, 8) * values.std(ddof=1) / 3
    found = mean_of([*values, np.nan])
    assert (found.ours, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half)
    )
    assert found.n == 9


@pytest.mark.parametrize(("n", "depth"), [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8)])
def test_the_median_has_the_interval_of_the_sign_test(n: int, depth: int) -> None:
    """Depths of the 95% interval in tables of the sign test, from the lowest value on."""
    values = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    found = median_of(values)
    assert (found.low, found.high) == (depth, n + 1 - depth)
    assert found.ours == (n + 1) / 2
    assert binomtest(depth - 1, n).pvalue <= 0.05 < binomtest(depth, n).pvalue


@pytest.mark.parametrize("number", [mean_of, median_of, correlation_of])
@pytest.mark.parametrize("n", range(FEWEST))
def test_few_values_have_no_interval_and_nothing_is_said_of_them(number, n: int) -> None:
    found = number([0.5] * n)
    assert found.n == n
    assert np.isnan([found.low, found.high]).all()
    assert verdict(found, "more", "less") == "too few to tell"
    assert "nan" not in said(found)
    assert wilcoxon(np.arange(1.0, FEWEST)).pvalue > 0.05  # nor would a test of ranks say anything


@pytest.mark.parametrize("number", [mean_of, median_of])
@pytest.mark.parametrize("n", [1, 3, 6, 7, 12, 24])
def test_without_a_difference_one_is_told_at_most_as_often_as_intervals_say(number, n: int) -> None:
    rng, times = np.random.default_rng(n), 1000
    values = [number(rng.standard_normal(n)) for _ in range(times)]
    told = sum(verdict(value, "more", "less", "") in ("more", "less") for value in values)
    assert told <= 0.07 * times


def test_a_number_keeps_to_what_its_kind_can_be() -> None:
    shares = mean_of([1.0] * 9 + [0.0], kind="share")
    assert shares.high == 1.0
    assert shares.low == pytest.approx(0.9 - t.ppf(0.975, 9) * math.sqrt(0.1) / math.sqrt(10))
    assert correlation_of([0.99] * 9 + [0.9]).high == 1.0
    partner = np.roll(np.arange(10), 1)
    wide = correlation_of_pairs(np.where(np.arange(10) < 2, 1.0, -1.0), partner)
    assert (wide.low, wide.high > -1.0) == (-1.0, True)
    assert mean_of([1.0] * 9 + [0.0]).high > 1.0  # a number may be anything


def test_the_share_of_groups_is_as_sure_as_so_many_groups() -> None:
    hits = np.array([[True, True, False]] * 4 + [[False] * 3] * 6)
    found = share_of_groups(hits)
    low, high = wilson(8 / 3, 10)  # four groups with two thirds each
    assert (found.ours, found.low, found.high, found.n) == pytest.approx((8 / 30, float(low), float(high), 10))
    assert share_of_groups(np.ones((10, 3), bool)) == share_of_groups(np.ones((10, 1), bool))


def test_draws_and_images_are_both_in_the_interval_of_a_mean_of_draws() -> None:
    drawn = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])  # means 0.5 and 1 of draws; 1, 0.5, 1, 0.5 of images
    found = of_draws(drawn)
    parts = (0.125 / 2, (0.25 / 3) / 4)
    free = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 3)
    half = t.ppf(0.975, free) * math.sqrt(sum(parts))
    assert (found.ours, found.low, found.high, found.n) == pytest.approx((0.75, 0.75 - half, 0.75 + half, 4))
    gap = beyond_draws(np.array([1.0, 1.0, 1.0, 0.0]), drawn, "number")
    parts = (0.125 / 2, np.var([0, 0.5, 0, -0.5], ddof=1) / 4)
    free = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 3)
    assert gap.ours == 0
    assert gap.high == pytest.approx(t.ppf(0.975, free) * math.sqrt(sum(parts)))
    assert beyond_draws(np.array([1.0, 1.0, 1.0, 0.0]), drawn).high <= 1.0  # of shares


def test_one_draw_has_no_interval() -> None:
    assert math.isnan(of_draws(np.ones((1, 50))).low)
    assert verdict(beyond_draws(np.ones(50), np.zeros((1, 50))), "more", "less") == "too few to tell"


def test_draws_that_are_no_worse_in_the_mean_are_called_so_as_often_as_intervals_say() -> None:
    rng, times, told, naive = np.random.default_rng(0), 400, 0, 0
    for _ in range(times):
        ours = 0.3 * rng.standard_normal(300)
        drawn = 0.05 * rng.standard_normal((3, 1)) + 0.3 * rng.standard_normal((3, 300))
        told += verdict(beyond_draws(ours, drawn, "number"), "more", "less", "") != ""
        naive += verdict(mean_of(ours - drawn.mean(0)), "more", "less", "") != ""
    assert told <= 0.08 * times
    assert naive >= 0.15 * times  # an interval over images alone


def test_what_has_no_interval_has_none_beyond_anything() -> None:
    gap = beyond(mean_of([0.5]), mean_of(np.zeros(30)))
    assert gap.ours == 0.5
    assert verdict(gap, "more", "less") == "too few to tell"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Value("number", 0.5, 0.25, 0.75, 9), "0.50 (0.25 to 0.75)"),
        (Value("number", -0.001, -0.004, 0.004, 9), "0.00 (0.00 to 0.00)"),
        (Value("number", 0.5, math.nan, math.nan, 2), "0.50 (n=2, no interval)"),
        (Value("number", math.nan, math.nan, math.nan, 0), "unknown"),
    ],
)
def test_a_number_is_said_with_its_interval_or_with_how_few_there_are(value: Value, says: str) -> None:
    assert said(value) == says
