"""Steps that stay in ball and box."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.region import Region
from attacks.threat import ThreatModel

EPS = {"linf": 0.1, "l2": 0.6, "l1": 2.0}


@pytest.mark.parametrize("norm", EPS)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), length=st.floats(0.001, 0.5))
def test_a_step_is_one_of_the_norm_projected_onto_ball_and_box(norm, seed, length):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(4, 2, 3, 3, generator=draw)
    threat = ThreatModel(norm, EPS[norm])
    x_adv = threat.project(x + 0.2 * torch.randn(x.shape, generator=draw), x)
    gradient = torch.randn(x.shape, generator=draw)
    low, high = threat.room(x)
    delta = (x_adv - x).flatten(1)
    move = threat.table.step(gradient.flatten(1), length, delta, low, high, 0.0)
    expected = threat.project(x + (delta + move).view_as(x), x)
    found = Region.around(x, threat).step(x_adv, gradient, length, 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert bool(threat.within(found, x).all())
    assert bool(threat.inside_box(found).all())


@pytest.mark.parametrize("norm", EPS)
def test_nothing_that_is_given_is_written_to_and_rows_can_be_dropped(norm):
    x, gradient = torch.rand(5, 1, 2, 2), torch.randn(5, 1, 2, 2)
    x_adv = x.clone()
    kept = [t.clone() for t in (x, x_adv, gradient)]
    region = Region.around(x, ThreatModel(norm, EPS[norm]))
    whole = region.step(x_adv, gradient, 0.05, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(kept, (x, x_adv, gradient), strict=True))
    rows = torch.tensor([True, False, True, False, True])
    region.keep(rows)
    assert torch.equal(region.step(x_adv[rows], gradient[rows], 0.05, 0.0), whole[rows])
    assert torch.equal(whole[rows], whole[rows].clone())


def test_a_gradient_that_is_one_value_seen_many_times_can_be_followed():
    x = torch.full((2, 1, 2, 2), 0.5)
    gradient = torch.ones(1).expand(2, 1, 2, 2)
    found = Region.around(x, ThreatModel("linf", 0.1)).step(x, gradient, 0.05, 0.0)
    assert torch.allclose(found, torch.full_like(x, 0.55))
