"""FAB: the fast adaptive boundary attack, from projection to projection towards the nearest adversarial point.

Where the network is taken to be linear at the present point x_t, let p(z) be the point of the decision boundary in the
box that is nearest to z. The next point lies between what is nearest to x_t and what is nearest to the image x,

    x_{t+1} = clip((1 - a) (x_t + eta (p(x_t) - x_t)) + a (x + eta (p(x) - x))),
    a       = min(|p(x_t) - x_t| / (|p(x_t) - x_t| + |p(x) - x|), a_max).

From an adversarial point the search goes on at x + beta (x_t - x). For an untargeted goal there is a search for each of
the likeliest `targets` other classes: the boundary is that between the class and the label.

Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020
(arXiv 1907.02044), algorithm 1; its targeted form from the same, "Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks", ICML 2020 (arXiv 2003.01690), appendix.
Departures: the boundary is linearised at the adversarial point itself rather than at the point of the step back, which
saves a forward in every step. The smallest perturbation is in the end shortened along the line to the image, by halving
where AutoAttack's program takes secants, as long as the margin is clear of rounding. With a budget, what rounding to 8
bits undoes is tried once more at the edge of the ball. The untargeted form, with a backward for each class in every
step, is not here: where there are few classes, the targets are all of them. Searches share a batch as
`attacks.side_by_side` says.
Cost: at most restarts * targets * (steps + 1) + 1 forwards and restarts * targets * steps backwards per sample; without
a budget `halvings` + 1 forwards more; with one a forward for each point found in it, and less for a sample that leaves.
On the host one question a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.base import Logits, rows
from attacks.best import Best
from attacks.goal import Goal
from attacks.hyperplanes import WAYS
from attacks.losses import Loss, lead, logits_and_gradient, loss_named
from attacks.prospects import Hopeful, Prospects, check_factor
from attacks.rng import Rng
from attacks.side_by_side import Searches, searches
from attacks.threat import ThreatModel

_BESIDE_LABEL = Loss(
    lambda z, goal: lead(z, goal.classes, goal.labels)[0], lambda z, goal: lead(z, goal.classes, goal.labels)[1]
)
_SHRINKING = 0.25  # of the gains from one doubling of the steps to the next, at most
_PATIENCE = 1 / 4  # share of the steps before which no search is given up
_TINY = 1e-30
_EDGE = 0.99
_CLEARANCE = 1e-4  # of the image's margin: more than what a batch of another size may change
_LARGE = 1e30  # in place of an infinite slope
_FIRST_GUESS = 0.1  # of the way to the farthest corner: where restarts begin as long as nothing is known


@dataclass(frozen=True)
class FAB:
    """A search for the smallest adversarial perturbation, or for one within a budget.

    Attributes:
        minimal: whether the smallest perturbation is sought. Else there is a budget: what lies outside is dropped, and
            a sample leaves with its first point inside, if that is adversarial after rounding to 8 bits as well.
        steps: of each search.
        restarts: searches to each class; all but the first start at random, within half of what has been found.
        targets: likeliest other classes to go to one by one.
        overshoot: eta, beyond the boundary.
        back: beta, share of an adversarial perturbation with which the search goes on.
        bias: a_max, greatest weight of the point nearest to the image.
        give_up: with a budget, factor of `attacks.prospects` for searches that do not come near it; None takes all
            steps of each.
        halvings: of the line from the image to the smallest point found, in the end; with a budget there are none.
    """

    norms: ClassVar[frozenset[str]] = frozenset(WAYS)

    minimal: bool = True
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    overshoot: float = 1.05
    back: float = 0.9
    bias: float = 0.1
    give_up: float | None = None
    halvings: int = 10

    def __post_init__(self) -> None:
        for name, least in (("steps", self.steps), ("restarts", self.restarts), ("targets", self.targets)):
            if least < 1:
                raise ValueError(f"{name}: must be at least 1, got {least}")
        if not self.overshoot >= 1:
            raise ValueError(f"overshoot: must be >= 1, got {self.overshoot:g}")
        if not 0 < self.back < 1:
            raise ValueError(f"back: must be in (0, 1), got {self.back:g}")
        if not 0 <= self.bias <= 1:
            raise ValueError(f"bias: must be in [0, 1], got {self.bias:g}")
        if self.halvings < 0:
            raise ValueError(f"halvings: must be at least 0, got {self.halvings}")
        check_factor(self.give_up)

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Per sample the smallest candidate (B, C, H, W); with a budget one inside; else the image."""
        x = x.detach()
        if len(x) == 0:
            return x
        best = Best(x, threat, leave=not self.minimal)
        hopeful = Hopeful(len(x), None if self.minimal else self.give_up, x.device)
        for some in searches(
            logits, x, goal, rng, lambda: hopeful.among(best.unbroken()), restarts=self.restarts, targets=self.targets
        ):
            best.begin(some)
            self._search(logits, x, goal, some, threat, best)
            hopeful.note(best.owner)
        return self._shortened(logits, x, goal, best) if self.minimal and self.halvings else best.point

    @torch.no_grad()
    def _shortened(self, logits: Logits, x: Tensor, goal: Goal, best: Best) -> Tensor:
        """The nearest points (B, C, H, W) between the images and what was found that still reach the goal."""
        way = best.point - x
        clear = _CLEARANCE * goal.margin(logits(x)).abs()
        near, far = torch.zeros_like(clear), torch.ones_like(clear)
        for _ in range(self.halvings):
            middle = (near + far) / 2
            there = goal.margin(logits(x + middle[:, None, None, None] * way)) > clear
            near, far = torch.where(there, near, middle), torch.where(there, middle, far)
        return torch.where((far < 1)[:, None, None, None], x + far[:, None, None, None] * way, best.point)

    def _search(self, logits: Logits, x: Tensor, goal: Goal, some: Searches, threat: ThreatModel, best: Best) -> None:
        """The searches `some`, in one batch."""
        loss = _BESIDE_LABEL if goal.targets is None else loss_named("margin")
        table, way, aim = threat.table, WAYS[threat.norm], some.aim
        origin = x[best.owner]
        network = rows(logits, best.owner)
        low, high = threat.room(origin)
        delta = self._start(some, threat, low, high, best)
        factor = None if self.minimal else self.give_up
        prospects = Prospects(len(origin), self.steps, factor, _PATIENCE, _SHRINKING, origin)
        for step in range(self.steps + 1):
            x_adv = threat.place(origin, delta)
            if step < self.steps:
                z, gradient = logits_and_gradient(network, x_adv, loss, aim)
            else:  # the last point needs no gradient, but a judgement
                with torch.no_grad():
                    z, gradient = network(x_adv), x_adv
            here = goal[best.owner]
            reached = here.reached(z)
            size = table.size(delta)
            hit = reached & (size <= threat.eps)
            going = best.offer(torch.where(hit, -size, -torch.inf), hit, x_adv, here, network)
            if step == self.steps:
                return
            promising = None
            if prospects.asks:
                promising = prospects.going(step + 1, torch.where(reached, threat.eps - size, -torch.inf))
            if promising is not None:
                best.owner = best.owner[promising if going is None else promising[going]]
                going = promising if going is None else going & promising
            if going is not None:
                prospects.keep(going)
                origin, low, high, delta, z, gradient, reached, size, hit = (
                    t[going] for t in (origin, low, high, delta, z, gradient, reached, size, hit)
                )
                if len(origin) == 0:
                    return
                aim, network = aim[going], rows(logits, best.owner)
            w = gradient.flatten(1).nan_to_num(0.0, _LARGE, -_LARGE)
            begin = delta * torch.where(reached, self.back, 1.0)[:, None]
            level = (w * delta).sum(1) - loss.value(z, aim)  # <w, boundary>
            lacking = torch.stack([level - (w * begin).sum(1), level], 1)
            ways = way(w, lacking, torch.stack([low - begin, low], 1), torch.stack([high - begin, high], 1))
            near, far = ways.unbind(1)
            length = table.size(near)
            share = (length / (length + table.size(far)).clamp(min=_TINY)).clamp(max=self.bias)[:, None]
            moved = torch.lerp(begin + self.overshoot * near, self.overshoot * far, share)
            if going is not None:  # what rounding has undone is looked for further on, at the edge of the budget
                edge = delta * (threat.eps / size.clamp(min=_TINY))[:, None]
                moved = torch.where((hit & (size < _EDGE * threat.eps))[:, None], edge, moved)
            delta = torch.clamp(moved, low, high)

    def _start(self, some: Searches, threat: ThreatModel, low: Tensor, high: Tensor, best: Best) -> Tensor:
        """Where the searches begin (R, D): at the image, and again within half of the smallest size known."""
        if self.restarts == 1:
            return torch.zeros_like(low)
        known = (-best.score[some.owner]).clamp(max=threat.eps)
        corner = _FIRST_GUESS * threat.table.size(torch.maximum(high, -low)).nan_to_num(posinf=0.0)
        radius = torch.where(known.isfinite(), known / 2, corner) * some.again
        anywhere = torch.full_like(low, torch.inf)
        return torch.clamp(threat.table.sample(some.rng, 1.0, -anywhere, anywhere) * radius[:, None], low, high)
