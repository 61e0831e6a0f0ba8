"""Searches that are given up: those whose progress would not bring them there, and no others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.apgd import APGD
from attacks.goal import Goal
from attacks.prospects import Prospects
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel
from eval.meter import Meter
from tests.attacks.small_networks import images, smooth

LIKE = torch.zeros(1)


def stops(values, factor: float | None, budget: int = 64, patience: float = 0.0, least: float = 1.0) -> int | None:
    """After how many units a single search with these values is given up."""
    prospects = Prospects(1, budget, factor, patience, least, LIKE)
    for done in range(1, budget + 1):
        going = prospects.going(done, torch.tensor([float(values(done))]))
        if going is not None:
            return done
    return None


def test_a_search_that_stands_still_ends_at_the_first_look_with_two_gains():
    assert stops(lambda t: -1.0, 3.0) == 8  # looks at 2, 4, 8, 16, 32
    assert stops(lambda t: -1.0, 3.0, patience=0.25) == 16
    assert stops(lambda t: -1.0, None) is None


def test_a_search_that_has_arrived_goes_on():
    assert stops(lambda t: 0.5, 3.0) is None


@given(st.floats(0.05, 3.0), st.floats(1.0, 4.0))
@settings(deadline=None)
def test_gains_that_are_the_same_from_doubling_to_doubling_are_foreseen(gain, factor):
    """v = -1 + gain log2(t / 2): at the look after 2^j units 6 - j doublings are to come."""
    expected = next((2**j for j in (3, 4, 5) if -1 + gain * (j - 1) + factor * (6 - j) * gain < -1e-6), None)
    near = any(abs(-1 + gain * (j - 1) + factor * (6 - j) * gain) < 1e-4 for j in (3, 4, 5))
    found = stops(lambda t: -1 + gain * torch.log2(torch.tensor(t / 2)), factor)
    assert near or found == expected


@given(st.floats(0.3, 0.9), st.floats(1.0, 4.0), st.floats(0.1, 3.0))
@settings(deadline=None)
def test_gains_that_shrink_by_a_ratio_are_foreseen(ratio, factor, start):
    """v = -1 + start (1 - ratio^j) at the look after 2^j units, where the gain is start ratio^(j - 1) (1 - ratio)."""

    def value(j: int) -> float:
        return -1 + start * (1 - ratio**j)

    def foreseen(j: int) -> float:
        return (value(j) - value(j - 1)) * sum(ratio**k for k in range(1, 7 - j))

    expected = next((2**j for j in (3, 4, 5) if value(j) + factor * foreseen(j) < 0), None)
    near = any(abs(value(j) + factor * foreseen(j)) < 1e-3 for j in (3, 4, 5))
    found = stops(lambda t: value(int(t).bit_length() - 1), factor, least=0.25)
    assert near or found == expected


def test_only_the_best_value_counts_and_nothing_is_lost_to_infinities():
    assert stops(lambda t: 0.5 if t == 1 else -9.0, 1.0) is None
    assert stops(lambda t: -torch.inf, 3.0) == 8  # nothing was found at any distance
    assert stops(lambda t: -torch.inf if t < 8 else -1.0, 3.0) == 32  # two gains known at last


def test_rows_that_leave_take_their_past_along():
    prospects = Prospects(3, 64, 3.0, 0.0, 1.0, LIKE)
    values = torch.tensor([-1.0, -1.0, 1.0])
    for done in range(1, 5):
        assert prospects.going(done, values) is None
    prospects.keep(torch.tensor([False, True, True]))
    for done in range(5, 8):
        assert prospects.going(done, values[1:]) is None
    assert prospects.going(8, values[1:]).tolist() == [False, True]


@pytest.mark.parametrize("attack", [Square(queries=640), APGD(steps=64), APGD(steps=64, loss="dlr", targets=4)])
def test_what_is_given_up_costs_less_and_what_falls_falls(attack):
    from dataclasses import replace

    net = smooth()
    x, labels, _ = images(net, 40)
    goal, threat, rng = Goal(labels), ThreatModel("linf", 0.03), Rng.of(0, [], map(str, range(40)))
    hopeful = replace(attack, give_up=3.0)
    meters = [Meter(net, 40, torch.device("cpu")) for _ in range(2)]
    full = goal.reached(net(attack(meters[0], x, goal, threat, rng=rng)))
    found = goal.reached(net(hopeful(meters[1], x, goal, threat, rng=rng)))
    assert 0 < int(full.sum()) < 40
    assert (found & ~full).sum() == 0
    assert int(found.sum()) >= int(full.sum()) - 1
    assert meters[1].forwards[~full].sum() < 0.7 * meters[0].forwards[~full].sum()
    part = torch.arange(11, 29)
    some = hopeful(net, x[part], goal[part], threat, rng=rng[part])
    assert torch.equal(goal[part].reached(net(some)), found[part])


@pytest.mark.parametrize("give_up", [0.0, -1.0])
def test_a_factor_must_be_above_0(give_up):
    with pytest.raises(ValueError, match="give_up: must be > 0"):
        Square(give_up=give_up)
