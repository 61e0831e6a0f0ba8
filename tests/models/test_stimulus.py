"""The strongest image within a bound: the closed form of a linear response, and what holds of any."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.stimulus import stimulus, within

CENTRE = torch.full((1, 4, 4), 0.3)


def optimum(w: Tensor, centre: Tensor, radius: float) -> Tensor:
    """clip(c + t w) with the t, found by bisection, at which the bound is met or everything is at its end."""
    low, high = 0.0, 1e6
    for _ in range(200):
        t = (low + high) / 2
        if float(((centre + t * w).clamp(0, 1) - centre).norm()) < radius:
            low = t
        else:
            high = t
    return (centre + high * w).clamp(0, 1)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), radius=st.floats(0.05, 3.0))
def test_of_a_linear_response_the_closed_form_is_found(seed: int, radius: float) -> None:
    w = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(seed))
    found = stimulus(lambda x: (x * w).flatten(1).sum(1), CENTRE[None], CENTRE, radius, steps=200)[0]
    best, start = (float((w * x).sum()) for x in (optimum(w, CENTRE, radius), CENTRE))
    assert float((w * found).sum()) - start == pytest.approx(best - start, rel=0.01)


def test_the_result_lies_in_the_ball_and_in_the_box() -> None:
    w = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    x = stimulus(lambda x: (x.sin() * w).flatten(1).sum(1), torch.rand_like(w), CENTRE, 0.7)
    assert float((x - CENTRE).flatten(1).norm(dim=1).max()) <= 0.7 + 1e-5
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert torch.equal(within(x, CENTRE, 0.7, (0.0, 1.0)).mul(1e4).round(), x.mul(1e4).round())


def test_a_silent_response_is_begun_elsewhere() -> None:
    def response(x: Tensor) -> Tensor:
        return (x.flatten(1).sum(1) - 6).relu()  # the centre has 4.8

    real = torch.full((1, 1, 4, 4), 0.5)
    stuck, going = (stimulus(response, CENTRE[None], CENTRE, 2.0, instead=instead) for instead in (None, real))
    assert float(response(stuck)) == 0
    assert float(response(going)) == pytest.approx(16 * 0.8 - 6, rel=1e-3)  # 0.5 more at each of 16 places


def test_images_do_not_depend_on_each_other() -> None:
    w = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    whole = stimulus(lambda x: (x * w).flatten(1).sum(1).tanh(), CENTRE.expand(4, -1, -1, -1), CENTRE, 0.5)
    for i in range(4):
        one = w[i : i + 1]
        alone = stimulus(lambda x, one=one: (x * one).flatten(1).sum(1).tanh(), CENTRE[None], CENTRE, 0.5)
        assert torch.allclose(whole[i], alone[0], atol=1e-5)
