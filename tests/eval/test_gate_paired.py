from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.errors import InputError
from eval.gate.paired import Rules, adjusted, chance, least, mcnemar, tails

cells = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8)


def columns(pairs, n=1000):
    lost, won = np.array(pairs).T
    return lost, won, np.full(len(pairs), n)


def holm(p):
    """Holm's adjusted p-values, as in his paper."""
    order = np.argsort(p, kind="stable")
    result, k = np.ones(len(p)), len(p)
    for place, i in enumerate(order):
        result[i] = min(1.0, max((k - j) * p[order[j]] for j in range(place + 1)))
    return result


def tail(m, b):
    return sum(math.comb(m, k) for k in range(b, m + 1)) / 2**m


@given(st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None)
def test_the_test_is_the_sum_of_its_definition(lost, won):
    assert mcnemar(lost, won) == pytest.approx(tail(lost + won, lost), rel=1e-12)


@given(st.integers(0, 20000), st.data())
@settings(deadline=None, max_examples=50)
def test_scipy_agrees(m, data):
    lost = data.draw(st.integers(0, m))
    p = stats.binomtest(lost, m, 0.5, alternative="greater").pvalue if m else 1.0
    assert mcnemar(lost, m - lost) == pytest.approx(p, rel=1e-9, abs=1e-300)


def test_tails_fall_from_one():
    assert tails(0).tolist() == [1.0]
    assert (np.diff(tails(50)) <= 0).all()
    assert (np.diff(tails(50)[10:]) < 0).all()
    assert tails(50)[0] == 1.0


def test_more_losses_are_less_likely():
    assert mcnemar(10, 2) < mcnemar(9, 2) < mcnemar(9, 3)


@given(st.integers(0, 200), st.integers(1, 2000), st.floats(0, 1))
@settings(deadline=None)
def test_the_least_loss_is_the_first_that_reaches_the_effect(m, n, effect):
    b = least(m, n, effect)
    assert 2 * b - m >= effect * n - 1e-6
    assert b == 0 or 2 * (b - 1) - m < effect * n + 1e-6


@given(st.integers(0, 40), st.floats(0, 0.05), st.floats(1e-6, 1))
@settings(deadline=None)
def test_the_chance_of_an_alarm_is_counted_out(m, effect, level):
    alarms = [b for b in range(m + 1) if 2 * b - m >= effect * 1000 - 1e-9 and tail(m, b) <= level * (1 + 1e-12)]
    exact = sum(math.comb(m, b) for b in alarms) / 2**m
    assert float(chance(m, 1000, effect, level)) == pytest.approx(exact, rel=1e-9)


@given(cells, st.floats(0, 0.02))
@settings(deadline=None)
def test_adjusted_p_values_lie_between_the_plain_and_holms(pairs, effect):
    lost, won, n = columns(pairs)
    plain = np.array([mcnemar(b, c) for b, c in pairs])
    large = np.array([b >= least(b + c, 1000, effect) and b > c for b, c in pairs])
    result = adjusted(lost, won, n, effect)
    assert (result[~large] == 1).all()
    assert (result >= np.where(large, plain, 1) * (1 - 1e-9)).all()
    assert (result <= np.where(large, holm(plain), 1) * (1 + 1e-9)).all()


@given(cells)
@settings(deadline=None)
def test_adjusted_p_values_keep_the_order_of_the_plain(pairs):
    lost, won, n = columns(pairs)
    result = adjusted(lost, won, n, 0.0)
    plain = np.where(lost > won, [mcnemar(b, c) for b, c in pairs], 1.0)
    order = np.argsort(plain, kind="stable")
    assert (np.diff(result[order]) >= 0).all()


@given(cells, st.tuples(st.integers(0, 40), st.integers(0, 40)))
@settings(deadline=None)
def test_one_more_cell_makes_no_other_more_certain(pairs, more):
    fewer = adjusted(*columns(pairs), 0.005)
    assert (adjusted(*columns([*pairs, more]), 0.005)[:-1] >= fewer * (1 - 1e-9)).all()


@given(cells, st.randoms())
@settings(deadline=None)
def test_the_order_of_the_cells_does_not_matter(pairs, random):
    order = list(range(len(pairs)))
    random.shuffle(order)
    shuffled = adjusted(*columns([pairs[i] for i in order]), 0.005)
    np.testing.assert_allclose(shuffled, adjusted(*columns(pairs), 0.005)[order])


def test_one_cell_is_not_adjusted():
    assert adjusted(*columns([(20, 5)]), 0.005)[0] == pytest.approx(mcnemar(20, 5))


def test_a_cell_that_can_raise_no_alarm_costs_nothing():
    alone = adjusted(*columns([(20, 5)]), 0.005)
    np.testing.assert_array_equal(adjusted(*columns([(20, 5), (2, 1)]), 0.005)[:1], alone)


@pytest.mark.parametrize("changes", [(9, 6, 12), (8, 8), (4, 14, 3, 10)])
@pytest.mark.parametrize("effect", [0.0, 0.005])
def test_false_alarms_are_at_most_alpha_counted_over_all_outcomes(changes, effect):
    total = 0.0
    for lost in itertools.product(*(range(m + 1) for m in changes)):
        b, m = np.array(lost), np.array(changes)
        if (adjusted(b, m - b, np.full(len(m), 1000), effect) <= 0.05).any():
            total += math.prod(math.comb(k, i) / 2**k for k, i in zip(changes, lost, strict=True))
    assert total <= 0.05


@pytest.mark.parametrize(
    ("rules", "named"),
    [({"alpha": 0}, "alpha"), ({"alpha": 0.6}, "alpha"), ({"min_effect": -1}, "min_effect"), ({"floor": 40}, "floor"),
     ({"alpha": "0.1"}, "alpha"), ({"floor": True}, "floor"), ({"alpha": math.nan}, "alpha")],
)  # fmt: skip
def test_rules_that_are_none_are_refused(rules, named):
    with pytest.raises(InputError, match=f"^{named}: must be"):
        Rules(**rules)
