from __future__ import annotations

import torch
from torch import Tensor

from attacks.closest import Closest
from attacks.goal import Goal
from attacks.threat import unlimited
from tests.attacks.small_networks import images, smooth

ONE = torch.tensor([0])


def bright(v: Tensor) -> Tensor:
    """The margin of class 1 is the mean less .5."""
    mean = v.flatten(1).mean(1)
    return torch.stack([torch.full_like(mean, 0.5), mean], 1)


def start(value: float = 0.2) -> Closest:
    x = torch.full((1, 1, 2, 2), value)
    closest = Closest(bright, x, Goal(torch.tensor([0])), unlimited("l2"))
    z = bright(x)
    closest.calibrate(z, closest.goal.margin(z), ONE)
    return closest


def offer(closest: Closest, mean: float) -> Tensor:
    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        return z[:, 1], torch.tensor([[0.0, 1.0]])

    return closest.evaluate(torch.full((1, 4), mean - 0.2), ONE, loss)[2]


def test_the_smallest_adversarial_point_is_kept_whatever_comes_later() -> None:
    closest = start()
    for mean in (0.9, 0.7, 0.8, 0.3):
        offer(closest, mean)
    torch.testing.assert_close(closest.size, torch.tensor([1.0]))
    torch.testing.assert_close(closest.r, torch.full((1, 4), 0.5))
    assert closest.evaluations.tolist() == [4]


def test_until_there_is_one_the_nearest_try_is_kept() -> None:
    closest = start()
    for mean in (0.3, 0.45, 0.4):
        offer(closest, mean)
    assert not bool(closest.found.any())
    torch.testing.assert_close(closest.r, torch.full((1, 4), 0.25))
    offer(closest, 0.1)
    torch.testing.assert_close(closest.r, torch.full((1, 4), 0.25))


def test_a_margin_that_rounding_could_undo_does_not_count() -> None:
    closest = start()
    clear = float(closest.clear)
    assert 3e-5 < clear < 4e-5  # 1e-4 of the .3 to be overcome, and 4e-6 of .5
    assert float(offer(closest, 0.5 + 0.5 * clear)) < 0
    assert not bool(closest.found.any())
    assert float(offer(closest, 0.5 + 1.5 * clear)) > 0
    assert bool(closest.found.all())


def test_what_is_clear_does_not_depend_on_classes_that_are_out_of_the_question() -> None:
    net = smooth()
    x, labels, _ = images(net, 8)
    clears = []
    for mask in (0.0, -1e9):
        masked = torch.zeros(10).index_fill(0, (labels[:1] + 1) % 10, mask)
        z = net(x)[:1] + masked
        closest = Closest(net, x[:1], Goal(labels[:1]), unlimited("l2"))
        closest.calibrate(z, closest.goal.margin(z), ONE)
        clears.append(float(closest.clear))
    assert clears[1] < 2 * clears[0] + 1e-3


def test_a_branch_finds_for_itself_counts_here_and_is_taken_where_it_is_smaller() -> None:
    closest = start()
    offer(closest, 0.9)
    branch = closest.branch()
    assert not bool(branch.found.any())
    offer(branch, 0.7)
    torch.testing.assert_close(closest.size, torch.tensor([1.4]))
    assert closest.evaluations.tolist() == [2]
    closest.take(branch)
    torch.testing.assert_close(closest.size, torch.tensor([1.0]))
    worse = closest.branch()
    offer(worse, 0.8)
    closest.take(worse)
    torch.testing.assert_close(closest.size, torch.tensor([1.0]))
