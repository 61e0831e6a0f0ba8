from __future__ import annotations

import math

import pytest
import torch

from attacks.bisection import Bisection


@pytest.mark.parametrize("guess", [True, False])
@pytest.mark.parametrize("first", [1e-6, 1.0, 1e5])
def test_it_finds_the_largest_weight_that_succeeds(guess: bool, first: float) -> None:
    """With margin log(best / c), the minimiser is adversarial for c < best."""
    best = torch.tensor([0.01, 0.7, 30.0])
    search = Bisection.start(torch.full((3,), 5.0), 60)
    c = torch.full((3,), first)
    going = torch.ones(3, dtype=torch.bool)
    while bool(going.any()):
        margin = (best / c).log()
        going, following = search.next(going, c, margin, torch.sigmoid(-margin), growth=10.0, accuracy=0.0, guess=guess)
        c = torch.where(going, following, c)
    assert bool((search.works < best).all())
    assert bool((search.works > best / 1.06).all())
    assert bool((search.fails >= best).all())


def test_only_rows_that_ended_are_touched() -> None:
    search = Bisection.start(torch.ones(2), 5)
    ended = torch.tensor([True, False])
    again, _ = search.next(
        ended, torch.ones(2), torch.ones(2), torch.full((2,), 0.5), growth=2.0, accuracy=0.0, guess=True
    )
    assert again.tolist() == [True, False]
    assert search.works.tolist() == [1.0, 0.0]
    assert search.left.tolist() == [4.0, 5.0]
    assert search.fails.tolist() == [math.inf, math.inf]


def test_a_success_near_the_boundary_ends_the_search() -> None:
    search = Bisection.start(torch.full((2,), 10.0), 5)
    margin = torch.tensor([0.4, 0.6])
    again, _ = search.next(
        torch.ones(2, dtype=torch.bool), torch.ones(2), margin, margin, growth=2.0, accuracy=0.05, guess=True
    )
    assert again.tolist() == [False, True]
