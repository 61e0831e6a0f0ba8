from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from tests.attacks.small_networks import PAPER, QUICK, SHAPE, STRONG, images, length, linear, rugged, run, smooth
from tests.benchmarks.peers import methods


def exact(net: nn.Module, x: Tensor, label: int, target: int | None, box: tuple[float, float]) -> float:
    """The exact distance for a linear network, by quadratic programs over half-spaces and box."""
    w, b = net[1].weight.double().numpy(), net[1].bias.double().numpy()
    x0 = x.flatten().double().numpy()
    wanted = [k for k in range(len(w)) if k != label] if target is None else [target]
    best = np.inf
    for k in wanted:
        rivals = [label] if target is None else [j for j in range(len(w)) if j != k]
        normals, offsets = w[k] - w[rivals], b[k] - b[rivals]
        constraint = {"type": "ineq", "fun": lambda v, n=normals, o=offsets: n @ v + o, "jac": lambda v, n=normals: n}
        result = minimize(
            lambda v: ((v - x0) @ (v - x0), 2 * (v - x0)), x0, jac=True, method="SLSQP",
            constraints=[constraint], bounds=[box] * len(x0), options={"ftol": 1e-12, "maxiter": 300},
        )  # fmt: skip
        if result.success:
            best = min(best, float(np.sqrt(result.fun)))
    return best


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_linear_untargeted_without_box_is_the_distance_to_the_nearest_hyperplane(scale: float) -> None:
    net = linear(scale)
    x, labels, _ = images(net)
    z, w = net(x), net[1].weight
    gaps = z.gather(1, labels[:, None]) - z  # (B, K)
    widths = (w[labels][:, None] - w).norm(dim=2)
    distance = torch.where(gaps > 0, gaps / widths, torch.inf).amin(1).double()
    x_adv = run(LBFGS(), net, x, Goal(labels), (-100.0, 100.0))
    assert bool(Goal(labels).reached(net(x_adv)).all())
    torch.testing.assert_close(length(x_adv, x), distance, rtol=0.01, atol=0)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("box", [(-100.0, 100.0), (0.0, 1.0)])
def test_linear_agrees_with_a_quadratic_program(targeted: bool, box: tuple[float, float]) -> None:
    net = linear()
    x, labels, targets = images(net, 10 if targeted else 4)
    goal = Goal(labels, targets if targeted else None)
    distance = [exact(net, x[i], int(labels[i]), int(targets[i]) if targeted else None, box) for i in range(len(x))]
    reachable = torch.tensor(distance).isfinite()
    assert int(reachable.sum()) >= 4
    x_adv = run(LBFGS(), net, x, goal, box)
    assert bool(goal.reached(net(x_adv))[reachable].all())
    torch.testing.assert_close(
        length(x_adv, x)[reachable], torch.tensor(distance).double()[reachable], rtol=0.01, atol=0
    )


def test_the_papers_form_comes_within_a_few_percent_of_a_linear_network() -> None:
    net = linear()
    x, labels, targets = images(net)
    goal = Goal(labels, targets)
    paper, default = run(PAPER, net, x, goal), run(LBFGS(), net, x, goal)
    assert bool(goal.reached(net(paper)).all())
    assert float(length(paper, x).mean()) < 1.1 * float(length(default, x).mean())


@pytest.mark.parametrize("outward", [True, False])
def test_a_ball_is_left_or_entered_along_its_radius(outward: bool) -> None:
    """Curved boundaries: the adversarial region is the outside, or the inside, of a ball of radius 2."""
    g = torch.Generator().manual_seed(5)
    centre = torch.rand(36, generator=g)
    direction = nn.functional.normalize(torch.randn(20, 36, generator=g), dim=1)
    radius = torch.linspace(0.5, 1.9, 20) if outward else torch.linspace(2.2, 6.0, 20)

    def ball(v: Tensor) -> Tensor:
        beyond = (v.flatten(1) - centre).square().sum(1) - 4.0
        return torch.stack([torch.zeros_like(beyond), beyond if outward else -beyond], 1)

    x = (centre + radius[:, None] * direction).view(20, *SHAPE)
    goal = Goal(torch.zeros(20, dtype=torch.int64))
    x_adv = run(LBFGS(), ball, x, goal, (-100.0, 100.0))
    assert bool(goal.reached(ball(x_adv)).all())
    torch.testing.assert_close(length(x_adv, x), (radius - 2.0).abs().double(), rtol=0.01, atol=0)


@pytest.mark.parametrize("network", [smooth, rugged])
@pytest.mark.parametrize("targeted", [False, True])
def test_no_larger_than_what_ddn_finds_in_a_thousand_steps(network: Callable[[], nn.Module], targeted: bool) -> None:
    """Foolbox's DDN, Rony et al., CVPR 2019, is the independent library beside it."""
    net = network()
    x, labels, targets = images(net, 40)
    goal = Goal(labels, targets if targeted else None)
    (peer,) = methods(["ddn-1000"])
    ddn = peer.run(net, x, goal, 0)
    assert bool(goal.reached(net(ddn)).all())
    ours = run(LBFGS(), net, x, goal)
    assert float(length(ours, x).mean()) <= float(length(ddn, x).mean())


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_every_form_finds_the_nearest_of_many_classes(scale: float) -> None:
    """After a rough search for each of several classes the nearest need not lead, above all where logits are large."""
    net = linear(scale, classes=30)
    x = torch.rand(100, *SHAPE, generator=torch.Generator().manual_seed(8))
    labels = net(x).argmax(1)
    w, gaps = net[1].weight, net(x).gather(1, labels[:, None]) - net(x)
    distance = torch.where(gaps > 0, gaps / (w[labels][:, None] - w).norm(dim=2), torch.inf).amin(1).double()
    for form in (QUICK, LBFGS(), STRONG):
        x_adv = run(form, net, x, Goal(labels), (-100.0, 100.0))
        torch.testing.assert_close(length(x_adv, x), distance, rtol=0.01, atol=0)
