from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attacks.closest import Closest
from attacks.goal import Goal
from attacks.linearised import linearise
from attacks.threat import unlimited
from tests.attacks.small_networks import images, linear, smooth


def look(net, x: Tensor, goal: Goal, candidates: int = 9, classes: int = 9, box=(-100.0, 100.0)):
    return linearise(Closest(net, x, goal, unlimited("l2", box)), candidates, classes)


def test_a_linear_network_is_known_by_its_linearisation() -> None:
    net = linear()
    x, labels, _ = images(net)
    outlook = look(net, x, Goal(labels))
    w, z = net[1].weight, net(x)
    distance = (z.gather(1, labels[:, None]) - z) / (w[labels][:, None] - w).norm(dim=2)  # (B, K); NaN for the label
    distance = distance.nan_to_num(torch.inf)
    torch.testing.assert_close(outlook.lengths, distance.sort(1)[0][:, :9], rtol=1e-4, atol=0)
    assert torch.equal(outlook.towards, distance.argsort(1)[:, :9])
    torch.testing.assert_close(outlook.shift.norm(dim=1), outlook.lengths[:, 0])
    towards = w[outlook.towards[:, 0]] - w[labels]
    torch.testing.assert_close(outlook.shift, outlook.multipliers[:, :1] * towards, rtol=1e-4, atol=1e-6)
    beyond = (x.flatten(1) + 1.001 * outlook.shift).view_as(x)
    assert torch.equal(net(beyond).argmax(1), outlook.towards[:, 0])


@pytest.mark.parametrize("targeted", [False, True])
def test_the_nearest_classes_come_first_and_reach_no_further_than_the_box(targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    outlook = look(net, x, Goal(labels, targets if targeted else None), classes=3, box=(0.0, 1.0))
    assert outlook.towards.shape == (24, 1 if targeted else 3)
    assert bool((outlook.lengths.diff(dim=1) >= 0).all())
    moved = x.flatten(1) + outlook.shift
    assert float(moved.min()) >= -1e-6
    assert float(moved.max()) <= 1 + 1e-6
    if targeted:
        assert torch.equal(outlook.towards[:, 0], targets)


def test_images_that_reach_the_goal_or_say_nothing_are_left_out() -> None:
    net = smooth()
    x, labels, _ = images(net)
    there = labels.clone()
    there[2] = (labels[2] + 1) % 10

    def net_with_a_hole(v: Tensor) -> Tensor:
        return net(v) + torch.where((v == x[5]).flatten(1).all(1), torch.nan, 0.0)[:, None]

    outlook = look(net_with_a_hole, x, Goal(there))
    assert outlook.index.tolist() == [i for i in range(24) if i not in (2, 5)]
    assert bool((outlook.deficit > 0).all())


def test_a_class_without_a_gradient_is_the_last_one() -> None:
    def dead(v: Tensor) -> Tensor:
        flat = v.flatten(1)
        return torch.stack([flat[:, 0] * 0 + 1.0, flat[:, 0] * 0 + 0.9, flat[:, 0] - 5.0], 1)

    outlook = look(dead, torch.rand(3, 1, 2, 2), Goal(torch.zeros(3, dtype=torch.int64)))
    assert outlook.towards[:, 0].tolist() == [2, 2, 2]
    assert bool(outlook.lengths[:, 1].isinf().all())


def test_a_network_of_one_class_and_an_empty_batch_have_no_outlook() -> None:
    x = torch.rand(3, 1, 2, 2)
    zero = torch.zeros(3, dtype=torch.int64)
    alone = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    assert look(alone, x, Goal(zero)).towards.numel() == 0
    assert look(linear(), torch.zeros(0, 1, 6, 6), Goal(zero[:0])).index.shape == (0,)


def test_a_boundary_beyond_the_box_is_taken_to_lie_further_off() -> None:
    def net(v: Tensor) -> Tensor:
        flat = v.flatten(1)
        zero = flat[:, 0] * 0
        return torch.stack([zero, flat[:, 0] - 1.2, flat[:, 1] - 0.8], 1)  # the first is 1 at most

    outlook = look(net, torch.tensor([[[[0.95, 0.5]]]]), Goal(torch.zeros(1, dtype=torch.int64)), box=(0.0, 1.0))
    assert outlook.towards.tolist() == [[2, 1]]  # though the part of the way to class 1 that the box allows is shorter
    near, far = outlook.lengths[0].tolist()
    assert near == pytest.approx(0.3)
    assert far == pytest.approx(0.05 * (1 + 10 * 0.8))
