"""SciPy's L-BFGS-B as an attack, in the manner of the two libraries that shipped it: baselines, rewritten here.

Foolbox 2 (2.4.0, `LBFGSAttack` with its defaults), one image at a time:

    minimise  MSE(x', x) + c * cross-entropy(x', l)   such that x' stays in the box,

from x' = x each time, memory 15, 150 iterations, objective and gradient times 1e10 so that SciPy's absolute tolerance
never ends it. c doubles from 2e-5 until the minimiser is adversarial, at most 30 times; then it is bisected between 0
and that value until the interval is below 1e-5. The smallest adversarial point of all evaluations is kept.
Departures: the distance is computed in float64 throughout; untargeted, l is the likeliest other class, where Foolbox
took the class that a walk along the gradient meets first.

CleverHans 3 (`LBFGS` with its defaults, the whole batch at once), with sums over the images:

    minimise  sum_i const_i * cross-entropy(x'_i, l_i) + ||x' - x||^2   such that x' stays in the box,

as one problem for SciPy, memory 10, at most 1,000 iterations, from x' = x each time; const_i starts at 1e-2, grows
tenfold until image i succeeds and is then bisected, 5 rounds in all. Only the minimisers of the rounds count, and
success is to be classified as l. Untargeted, l is the likeliest other class, as there.
Departures: one forward and one backward an evaluation, where CleverHans ran the network twice.

Source: github.com/bethgelab/foolbox, foolbox/v1/attacks/lbfgs.py at v2.4.0; github.com/cleverhans-lab/cleverhans,
cleverhans/attacks/lbfgs.py of version 3: read for what they do, not copied.
Cost: hundreds to thousands of forwards and backwards an image, see the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.goal import Goal

Floats = npt.NDArray[np.float64]


def wanted_classes(net: nn.Module, x: Tensor, goal: Goal) -> Tensor:
    """The targets (B,); untargeted, the likeliest class other than the label."""
    if goal.targets is not None:
        return goal.targets
    with torch.no_grad():
        z: Tensor = net(x)
    return z.scatter(1, goal.labels[:, None], -torch.inf).argmax(1)


class Evaluation:
    """A network at points given as flat float64 vectors, as SciPy has them."""

    def __init__(self, net: nn.Module, x: Tensor, towards: Tensor) -> None:
        self.net, self.x, self.towards = net, x, towards
        self.origin: Floats = x.detach().double().cpu().numpy().ravel()

    def tensor(self, point: Floats) -> Tensor:
        """A copy of the point in the shape and type of the images."""
        return torch.tensor(point, dtype=self.x.dtype, device=self.x.device).view_as(self.x)

    def __call__(self, point: Floats) -> tuple[Tensor, Floats, Floats]:
        """Logits (B, K), cross-entropies (B,) and their gradients, flat."""
        leaf = self.tensor(point).requires_grad_()
        z: Tensor = self.net(leaf)
        loss = F.cross_entropy(z, self.towards, reduction="none")
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        return z.detach(), loss.detach().double().cpu().numpy(), grad.double().cpu().numpy().ravel()


def _minimise(f: Callable[[Floats], tuple[float, Floats]], start: Floats, **settings: Any) -> Floats:
    """SciPy's minimiser inside [0, 1]."""
    from scipy.optimize import fmin_l_bfgs_b

    point: Floats = fmin_l_bfgs_b(f, start, bounds=[(0.0, 1.0)] * len(start), **settings)[0]
    return point.clip(0.0, 1.0)


def foolbox2_image(
    net: nn.Module, x: Tensor, goal: Goal, towards: Tensor, *, epsilon: float, maxiter: int, doublings: int
) -> Tensor:
    """Foolbox 2's search for one image (1, C, H, W); `x` itself where nothing adversarial is met."""
    evaluate = Evaluation(net, x, towards)
    origin, scale = evaluate.origin, 1e10
    closest, smallest = x, np.inf

    def objective(point: Floats, c: float) -> tuple[float, Floats]:
        nonlocal closest, smallest
        z, loss, grad = evaluate(point)
        r = point - origin
        distance = float(r @ r) / len(r)
        if distance < smallest and bool(goal.reached(z)):
            closest, smallest = evaluate.tensor(point), distance
        return scale * (distance + c * float(loss[0])), scale * (2 * r / len(r) + c * grad)

    def succeeds(c: float) -> bool:
        point = _minimise(lambda p: objective(p, c), origin, m=15, maxiter=maxiter)
        with torch.no_grad():
            return bool(goal.reached(net(evaluate.tensor(point))))

    c = epsilon
    for _ in range(doublings):
        c *= 2
        if succeeds(c):
            break
    else:
        return closest
    fails, works = 0.0, c
    while works - fails >= epsilon:
        c = (fails + works) / 2
        fails, works = (fails, c) if succeeds(c) else (c, works)
    return closest


def foolbox2(
    net: nn.Module, x: Tensor, goal: Goal, *, epsilon: float = 1e-5, maxiter: int = 150, doublings: int = 30
) -> Tensor:
    """Foolbox 2's search, image by image (B, C, H, W)."""
    towards = wanted_classes(net, x, goal)
    found = []
    for i in range(len(x)):
        one = torch.tensor([i], device=x.device)
        found.append(
            foolbox2_image(net, x[one], goal[one], towards[one], epsilon=epsilon, maxiter=maxiter, doublings=doublings)
        )
    return torch.cat(found)


def cleverhans3(
    net: nn.Module, x: Tensor, goal: Goal, *, rounds: int = 5, maxiter: int = 1000, initial: float = 1e-2
) -> Tensor:
    """CleverHans 3's search for the whole batch (B, C, H, W); `x` itself where no round succeeds."""
    towards = wanted_classes(net, x, goal)
    evaluate = Evaluation(net, x, towards)
    number = len(x)
    const, fails, works = np.full(number, initial), np.zeros(number), np.full(number, np.inf)
    closest, smallest = x.clone(), torch.full((number,), torch.inf, dtype=torch.float64)

    def objective(point: Floats) -> tuple[float, Floats]:
        _, loss, grad = evaluate(point)
        r = point - evaluate.origin
        weighted = (const[:, None] * grad.reshape(number, -1)).ravel()
        return float(const @ loss + r @ r), weighted + 2 * r

    for _ in range(rounds):
        point = _minimise(objective, evaluate.origin, maxiter=maxiter)
        candidate = evaluate.tensor(point)
        with torch.no_grad():
            reached = net(candidate).argmax(1) == towards
        size = torch.from_numpy(np.square(point - evaluate.origin).reshape(number, -1).sum(1))
        better = reached.cpu() & (size < smallest)
        smallest = torch.where(better, size, smallest)
        closest[better.to(x.device)] = candidate[better.to(x.device)]
        won = reached.cpu().numpy()
        works = np.where(won, np.minimum(works, const), works)
        fails = np.where(won, fails, np.maximum(fails, const))
        const = np.where(np.isfinite(works), (fails + works) / 2, const * 10)
    return closest
