from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

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


def test_a_guess_needs_fewer_weights_than_growing_and_halving() -> None:
    """A linear margin with cross-entropy: M(r) = |w| |r| - deficit, whose minimisers are known."""
    deficit = torch.linspace(0.5, 8.0, 20)

    def solve(c: Tensor) -> Tensor:
        """|r| where 2 c |r| = sigmoid(-M), with |w| = 1, by bisection."""
        low, high = torch.zeros_like(c), torch.full_like(c, 40.0)
        for _ in range(60):
            middle = (low + high) / 2
            rising = 2 * c * middle > torch.sigmoid(deficit - middle)
            low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
        return low

    def weights_tried(guess: bool) -> float:
        state = Bisection.start(deficit, 50)
        c, going, tried = 1.8 * Bisection.first(deficit, deficit, 0.05), torch.ones(20, dtype=torch.bool), 0
        while bool(going.any()):
            margin = solve(c) - deficit
            tried += int(going.sum())
            again, ahead = state.next(going, c, margin, torch.sigmoid(-margin), growth=2.0, accuracy=0.05, guess=guess)
            c, going = torch.where(again, ahead, c), again
        return tried / len(deficit)

    assert weights_tried(guess=True) < 0.7 * weights_tried(guess=False)
