from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
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


def test_perturbations_shrink_as_c_grows_so_that_the_largest_that_succeeds_is_meant() -> None:
    """Szegedy et al. ask for the minimum c > 0, whose minimiser is the largest perturbation; here with SciPy."""
    w, margin = np.array([1.0, -2.0, 0.5]), -1.0  # adversarial where margin + <w, r> > 0

    def minimiser(c: float) -> np.ndarray:
        def objective(r: np.ndarray) -> float:
            return float(c * (r @ r) + np.logaddexp(0.0, -(margin + w @ r)))

        return minimize(objective, np.zeros(3), method="L-BFGS-B", bounds=[(-1, 1)] * 3).x

    weights = [0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0]
    found = [minimiser(c) for c in weights]
    sizes = [float(np.linalg.norm(r)) for r in found]
    succeeds = [margin + w @ r > 0 for r in found]
    assert sizes == sorted(sizes, reverse=True)
    assert succeeds == sorted(succeeds, reverse=True)
    assert True in succeeds
    assert False in succeeds
    smallest = min(size for size, success in zip(sizes, succeeds, strict=True) if success)
    assert smallest == sizes[succeeds.index(False) - 1]
    assert sizes[0] > 1.5 * smallest


@pytest.mark.parametrize("power", [0.01, 0.3, 0.99])
def test_a_guess_close_to_an_end_of_the_interval_gives_way_to_its_middle(power: float) -> None:
    works, fails, deficit = 1.0, 16.0, 2.0
    search = Bisection(torch.tensor([works]), torch.tensor([fails]), torch.tensor([9.0]), torch.tensor([deficit]))
    estimate = works * (fails / works) ** power
    c = torch.tensor([2.0])  # whose minimiser has a margin of 0, so that the estimate is c times 1 / (2 lack)
    lack = 0.5 * c / estimate
    _, following = search.next(
        torch.ones(1, dtype=torch.bool), c, torch.zeros(1), lack, growth=100.0, accuracy=0.0, guess=True
    )
    low, high = math.log(works), math.log(2.0)  # c failed
    place = (math.log(estimate) - low) / (high - low)
    expected = estimate if 0.1 < place < 0.9 else math.sqrt(2.0)
    assert float(following) == pytest.approx(expected)
