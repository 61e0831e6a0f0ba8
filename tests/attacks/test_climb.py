from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.climb import attempt, climb
from attacks.closest import Closest
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import unlimited
from tests.attacks.small_networks import SHAPE, images, smooth

EVERYONE = torch.arange(8)
ZERO = torch.zeros(8, dtype=torch.int64)


def greys(number: int = 8) -> Tensor:
    return torch.full((number, *SHAPE), 0.5)


def bright(scale: float, offset: float = 0.0):
    """Class 1 from a mean of .75 on; `scale` makes the gradient small."""

    def net(v: Tensor) -> Tensor:
        beyond = scale * (v.flatten(1).mean(1) - 0.75) + offset
        return torch.stack([torch.zeros_like(beyond), beyond], 1)

    return net


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_a_small_gradient_does_not_slow_the_climb(scale: float) -> None:
    closest = Closest(bright(scale), greys(), Goal(ZERO), unlimited("l2"))
    climb(closest, EVERYONE, 100, 0.01, 1000)
    # Steps of RMS .01, .0105, ...: the mean has to rise by .25, which the 17th does; the point is judged by the next.
    lengths = 0.01 * (1.05 ** torch.arange(17.0)).sum() * 6
    torch.testing.assert_close(closest.size, lengths.expand(8), rtol=1e-4, atol=0)
    assert closest.evaluations.tolist() == [18] * 8


def test_it_reaches_a_corner_of_the_box_and_stays_inside() -> None:
    w = torch.randn(36, generator=torch.Generator().manual_seed(0))

    def net(v: Tensor) -> Tensor:
        beyond = (v.flatten(1) - 0.5) @ w - 0.499 * w.abs().sum()  # only next to one corner
        return torch.stack([torch.zeros_like(beyond), beyond], 1)

    closest = Closest(net, greys(), Goal(ZERO), unlimited("l2"))
    climb(closest, EVERYONE, 100, 0.01, 1000)
    assert bool(closest.found.all())
    assert float((closest.r + 0.5).min()) >= 0
    assert float((closest.r + 0.5).max()) <= 1


def test_who_has_been_found_does_not_climb() -> None:
    net = smooth()
    x, labels, _ = images(net, 8)
    closest = Closest(net, x, Goal(labels), unlimited("l2"))
    climb(closest, EVERYONE[:4], 100, 0.05, 1000)
    assert bool(closest.found[:4].all())
    before = closest.evaluations.clone()
    assert before[4:].tolist() == [0] * 4
    climb(closest, EVERYONE, 100, 0.05, 1000)
    assert bool(closest.found.all())
    assert torch.equal(closest.evaluations[:4], before[:4])


def test_steps_and_evaluations_end_it() -> None:
    for steps, evaluations in ((5, 100), (100, 5)):
        closest = Closest(bright(1.0, offset=-10.0), greys(), Goal(ZERO), unlimited("l2"))
        climb(closest, EVERYONE, steps, 0.01, evaluations)
        assert closest.evaluations.tolist() == [5] * 8
        assert not bool(closest.found.any())


def test_a_random_start_finds_what_the_image_does_not_and_belongs_to_the_image() -> None:
    def net(v: Tensor) -> Tensor:
        """No gradient at the image itself."""
        beyond = (v.flatten(1) - 0.5).square().sum(1) - 2.0
        return torch.stack([torch.zeros_like(beyond), beyond], 1)

    def found(rng: Rng | None, index: Tensor) -> Closest:
        closest = Closest(net, greys(), Goal(ZERO), unlimited("l2"))
        climb(closest, index, 100, 0.05, 1000, rng=rng)
        return closest

    streams = Rng.of(0, [], map(str, range(8)))
    assert not bool(found(None, EVERYONE).found.any())
    together, some = found(streams, EVERYONE), found(streams, EVERYONE[2:5])
    assert bool(together.found.all())
    torch.testing.assert_close(some.r[2:5], together.r[2:5])
    assert len(together.r.unique(dim=0)) == 8


def test_an_attempt_is_clamped_to_the_box_and_taken_if_it_succeeds() -> None:
    closest = Closest(bright(1.0), greys(), Goal(ZERO), unlimited("l2"))
    attempt(closest, EVERYONE, torch.full((8, 36), 7.0) * (EVERYONE < 3)[:, None])
    assert closest.found.tolist() == [True] * 3 + [False] * 5
    torch.testing.assert_close(closest.r[:3], torch.full((3, 36), 0.5))
