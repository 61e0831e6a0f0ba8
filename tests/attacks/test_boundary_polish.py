from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.base import Logits
from attacks.boundary_polish import Start, add, polish
from attacks.climb import attempt, climb
from attacks.closest import Closest
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import unlimited
from tests.attacks.small_networks import images, linear, rugged, smooth
from tests.attacks.test_lbfgs_exact import exact


def climbed(net: Logits, x: Tensor, goal: Goal, box: tuple[float, float] = (0.0, 1.0)) -> Closest:
    """What long steps of the climb meet: adversarial, and far too large."""
    closest = Closest(net, x, goal, unlimited("l2", box))
    with torch.no_grad():
        z = net(x)
    closest.calibrate(z, goal.margin(z), torch.arange(len(x)))
    climb(closest, torch.arange(len(x)), 100, 0.2 / (box[1] - box[0]), 1000)
    assert bool(closest.found.all())
    return closest


def polished(closest: Closest, evaluations: int = 300, patience: int = 2, seed: int = 0) -> Closest:
    everyone = torch.arange(len(closest.x))
    walks = torch.full_like(everyone, patience)
    polish(closest, [], everyone, evaluations, walks, Rng.of(seed, [], map(str, range(len(everyone)))))
    return closest


def test_a_linear_boundary_is_met_at_its_nearest_point() -> None:
    net = linear(classes=2)
    x, labels, _ = images(linear(classes=3))
    labels = net(x).argmax(1)
    goal = Goal(labels)
    closest = climbed(net, x, goal, (-100.0, 100.0))
    w = net[1].weight[1] - net[1].weight[0]
    distance = (net(x)[:, 1] - net(x)[:, 0]).abs() / w.norm()
    assert float((closest.size / distance).mean()) > 1.3
    polished(closest)
    torch.testing.assert_close(closest.size, distance, rtol=2e-3, atol=0)


def test_ties_of_several_competitors_inside_the_box_are_a_quadratic_program() -> None:
    net = linear()
    x, labels, targets = images(net, 12)
    distance = torch.tensor([exact(net, x[i], int(labels[i]), int(targets[i]), (0.0, 1.0)) for i in range(12)])
    reachable = distance.isfinite()
    x, goal = x[reachable], Goal(labels[reachable], targets[reachable])
    assert len(x) >= 6
    closest = polished(climbed(net, x, goal), patience=4)
    torch.testing.assert_close(closest.size, distance[reachable].float(), rtol=5e-3, atol=0)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("network", [smooth, rugged])
def test_it_shrinks_what_was_found_and_keeps_it_adversarial(network, targeted: bool) -> None:
    net = network()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    closest = climbed(net, x, goal)
    before = closest.size.clone()
    polished(closest)
    assert bool((closest.size <= before).all())
    assert float((closest.size / before).mean()) < 0.8
    x_adv = (x.flatten(1) + closest.r).view_as(x)
    assert bool(goal.reached(net(x_adv)).all())
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1
    torch.testing.assert_close(closest.r.norm(dim=1), closest.size)


def test_more_patience_finds_smaller_ones_on_a_rugged_boundary() -> None:
    net = rugged()
    x, labels, _ = images(net, 60)
    sizes = [
        float(polished(climbed(net, x, Goal(labels)), evaluations=1000, patience=p).size.mean()) for p in (1, 3, 20)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("network", [linear, rugged])
def test_leaps_are_short_after_a_walk_that_settled_and_long_where_the_boundary_let_none(network) -> None:
    net = network()
    x, labels, _ = images(net)
    leaps = []
    for i in range(len(x)):
        closest = climbed(net, x[i : i + 1], Goal(labels[i : i + 1]), (-100.0, 100.0))
        visited: list[Tensor] = []
        closest.logits = lambda v, visited=visited: visited.append(v.detach().flatten(1)) or net(v)
        polished(closest, patience=3)
        steps = torch.cat(visited).diff(dim=0).norm(dim=1) / closest.size
        leaps.append(float(steps[4:].max()))  # the first ones lead from the start to the boundary
    middle = float(torch.tensor(leaps).median())
    assert middle < 0.4 if network is linear else middle > 1


def test_evaluations_end_it() -> None:
    net = rugged()
    x, labels, targets = images(net)
    closest = climbed(net, x, Goal(labels, targets))
    polished(closest, evaluations=20, patience=100)
    assert closest.evaluations.tolist() == [20] * 24


def test_a_network_that_breaks_off_keeps_what_was_found() -> None:
    net = smooth()
    x, labels, _ = images(net)
    closest = climbed(net, x, Goal(labels))
    before = closest.size.clone()
    closest.logits = lambda v: net(v) * torch.nan
    polished(closest)
    assert torch.equal(closest.size, before)
    assert bool(torch.isfinite(closest.r).all())


def test_starts_are_kept_in_the_order_of_their_estimates_image_by_image() -> None:
    starts: list[Start] = []
    estimates = torch.tensor([[3.0, 1.0, 7.0], [2.0, 2.0, torch.inf], [1.0, 3.0, 5.0]])
    for k, estimate in enumerate(estimates):
        add(starts, Start(torch.full((3, 2), float(k)), estimate.clone()))
    assert torch.equal(torch.stack([s.estimate for s in starts]), estimates.sort(0)[0])
    assert [s.r[:, 0].tolist() for s in starts] == [[2.0, 0.0, 2.0], [1.0, 1.0, 0.0], [0.0, 2.0, 1.0]]


def test_a_second_start_is_tried_though_the_first_walk_was_in_vain() -> None:
    """Two faces, with nothing between: the first start ends on the further one."""

    def faces(v: Tensor) -> Tensor:
        left, right = v[:, 0, 0, 0], v[:, 0, 0, 1]
        return torch.stack([torch.zeros_like(left), left - 1.0, right - 0.97], 1)

    x = torch.zeros(4, 1, 1, 2)
    closest = Closest(faces, x, Goal(torch.zeros(4, dtype=torch.int64)), unlimited("l2", (-5.0, 5.0)))
    far, near = torch.tensor([[1.001, 0.0]]).repeat(4, 1), torch.tensor([[0.0, 1.02]]).repeat(4, 1)
    everyone = torch.arange(4)
    closest.calibrate(faces(x), closest.goal.margin(faces(x)), everyone)
    attempt(closest, everyone, far)
    starts = [Start(far, torch.full((4,), 1.0)), Start(near, torch.full((4,), 1.01))]
    polish(closest, starts, everyone, 100, torch.ones(4, dtype=torch.int64), Rng.of(0, [], map(str, range(4))))
    torch.testing.assert_close(closest.size, torch.full((4,), 0.97), rtol=1e-3, atol=0)
