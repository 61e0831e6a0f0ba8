from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.group_metrics import by_part, critical, disparities, disparity, per_sample, resampled, spread
from eval.metrics import Threat, outcomes
from eval.records import COLUMNS

THREAT = Threat("linf", (("0.1", 0.1),), "0.1")
COUNTS = np.array([[2, 30, 68], [5, 60, 35], [0, 3, 5], [40, 0, 0]])  # misclassified, lost, robust


def records(counts: np.ndarray, groups: list[str] | None = None, model: str = "m") -> pd.DataFrame:
    """Clean rows and rows of one attack on samples, of which `counts` (G, 3) say what becomes of them."""
    rows = []
    for label, outcome in product(range(len(counts)), range(3)):
        for i in range(counts[label, outcome]):
            row = dict.fromkeys(COLUMNS, 0.0) | {
                "sample": f"{label}/{outcome}/{i}", "label": label, "group": "" if groups is None else groups[label],
                "source": model, "target_model": model, "attack": "pgd", "role": "attack", "norm": "linf",
                "eps": 0.1, "eps_text": "0.1", "clean_pred": label + (outcome == 0), "stage": "", "error": "",
                "adv_pred": label, "success": outcome < 2, "success_8bit": outcome < 2, "in_box": True,
                "in_budget": True, "linf": 0.1 * (outcome == 1),
            }  # fmt: skip
            rows += [row, row | {"role": "clean", "attack": "none", "success": outcome == 0}]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def samples(counts: np.ndarray, groups: list[str] | None = None) -> pd.DataFrame:
    table = records(counts, groups)
    return per_sample(table, outcomes(table, THREAT), THREAT)


def names(counts: np.ndarray) -> list[str]:
    return [str(g) for g in range(len(counts))]


def test_what_becomes_of_the_samples_of_a_class_is_counted():
    table = by_part(samples(COUNTS), "label").set_index("label")
    assert table["clean_accuracy"].tolist() == [0.98, 0.95, 1.0, 0.0]
    assert table["robust_accuracy"].tolist() == [0.68, 0.35, 0.625, 0.0]
    np.testing.assert_allclose(table["boundary_error"], [0.30, 0.60, 0.375, 0.0], atol=1e-12)
    assert (table["low_boundary"] <= table["boundary_error"]).all()


def test_groups_are_counted_across_classes_and_samples_of_none_are_left_out():
    table = by_part(samples(COUNTS, ["a", "b", "a", ""]), "group").set_index("group")
    assert table["n"].to_dict() == {"a": 108, "b": 100}
    assert table.loc["a", ["correct", "robust", "lost"]].tolist() == [106, 73, 33]


def test_disparities_are_greatest_less_least():
    (one,) = disparities(samples(COUNTS), "label", 0)
    assert (one.model, one.n, one.parts) == ("m", 248, 4)
    assert one.clean.value == 1.0
    assert one.robust.value == pytest.approx(0.68)
    assert one.growth.value == pytest.approx(-0.32)
    assert one.mean == pytest.approx((0.68 + 0.35 + 0.625) / 4)
    assert (one.worst, one.named, one.halved) == (("3",), True, True)
    assert not one.grown


def test_one_part_alone_is_not_unequal():
    assert disparities(samples(COUNTS[:1]), "label", 0) == []


def test_an_attack_that_spares_one_group_makes_them_unequal():
    one = disparity("m", ["a", "b"], np.array([[20, 180, 800], [20, 580, 400]]), 0)
    assert one.grown
    assert one.worst == ("b",)
    assert not one.halved  # 40% of a mean of 60%
    assert one.growth.low == pytest.approx(one.robust.low - one.clean.high)


def test_a_group_of_few_is_not_named_however_low_it_is():
    one = disparity("m", ["many", "few"], np.array([[2, 48, 50], [0, 3, 0]]), 0)
    assert one.least == 0.0
    assert one.worst == ("few", "many")
    assert not one.halved


def test_the_bootstrap_is_that_of_samples_drawn_with_replacement():
    _, robust = resampled(COUNTS[:2], 0, 20_000, added=0.0)
    for g in range(2):
        outcome = np.repeat([0.0, 0.0, 1.0], COUNTS[g])
        scipy = stats.bootstrap((outcome,), np.mean, n_resamples=5000, method="percentile", rng=0)
        assert robust[:, g].std() == pytest.approx(scipy.standard_error, rel=0.05)
        interval = np.quantile(robust[:, g], [0.025, 0.975]) + outcome.mean()
        np.testing.assert_allclose(interval, scipy.confidence_interval, atol=0.011)


def test_the_largest_difference_is_that_of_a_naive_loop():
    errors, scale = resampled(COUNTS, 3, 200), spread(COUNTS)
    largest = [
        max(
            abs(errors[a, b, g] - errors[a, b, h]) / scale[a, g, h] for a, g, h in product(range(2), range(4), range(4))
        )
        for b in range(200)
    ]
    assert critical(COUNTS, 3, 200, 0.9) == pytest.approx(np.quantile(largest, 0.9))


def test_the_standard_error_of_a_difference_in_closed_form():
    shares = np.array([69 / 103, 36 / 103])  # robust, one sample added to each of three outcomes
    expected = np.sqrt((shares * (1 - shares) / 100).sum())
    assert spread(COUNTS[:2])[1, 0, 1] == pytest.approx(expected)


def test_the_bound_for_very_many_parts_is_one_and_is_tight():
    counts = np.random.default_rng(0).multinomial(60, [0.1, 0.4, 0.5], size=50)
    exact = critical(counts, 0, 400, 0.95)
    bound = critical(np.concatenate([counts, counts[:1]]), 0, 400, 0.95)
    assert exact <= bound * 1.02  # of other draws
    assert bound < 1.3 * exact


def test_intervals_hold_together_and_nothing_is_named_where_all_parts_are_alike():
    rng, naive, held, named = np.random.default_rng(0), 0, 0, 0
    for i in range(200):
        counts = np.stack([rng.multinomial(n, [0.04, 0.4, 0.56]) for n in (10, 45, 45, 200)])
        one = disparity("m", names(counts), counts, i)
        held += one.clean.low == one.robust.low == 0 and one.growth.low <= 0 <= one.growth.high
        named += one.named
        errors = resampled(counts, i, 200, added=0.0)[1] + counts[:, 2] / counts.sum(1)
        naive += np.quantile(np.ptp(errors, axis=1), 0.025) > 0
    assert held >= 184  # 95% of 200, less two standard errors
    assert named <= 16
    assert naive > 190  # the usual interval of the disparity itself always finds one


def test_intervals_hold_where_parts_differ():
    rng, held = np.random.default_rng(1), 0
    shares = [[0.03, 0.97 - r, r] for r in (0.2, 0.3, 0.35, 0.6)]
    for i in range(200):
        counts = np.stack([rng.multinomial(60, p) for p in shares])
        one = disparity("m", names(counts), counts, i)
        held += one.robust.low <= 0.4 <= one.robust.high and one.growth.low <= 0.4 <= one.growth.high
        held -= "0" not in one.worst
    assert held >= 184


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.integers(0, 30)] * 3).filter(lambda c: sum(c) > 0), min_size=2, max_size=6), st.data())
def test_order_and_row_order_do_not_matter_and_bounds_enclose(rows, data):
    counts = np.array(rows)
    one = disparity("m", names(counts), counts, 0)
    for between in (one.clean, one.robust):
        assert 0 <= between.low <= between.value <= between.high <= 1
    assert one.growth.low <= one.growth.value <= one.growth.high
    assert one.worst
    assert one.least == pytest.approx((counts[:, 2] / counts.sum(1)).min())
    table = samples(counts)
    shuffled = table.iloc[data.draw(st.permutations(range(len(table))))] if len(table) < 60 else table[::-1]
    assert disparities(shuffled, "label", 0) == disparities(table, "label", 0)


def test_samples_on_which_every_attack_crashed_are_not_counted():
    table = records(COUNTS)
    crashed = (table["role"] == "attack") & (table["label"] == 0)
    table.loc[crashed, "error"] = "RuntimeError"
    found = by_part(per_sample(table, outcomes(table, THREAT), THREAT), "label").set_index("label")
    assert found.loc[0, ["n", "robust_n"]].tolist() == [100, 0]
    (one,) = disparities(per_sample(table, outcomes(table, THREAT), THREAT), "label", 0)
    assert one.parts == 3
