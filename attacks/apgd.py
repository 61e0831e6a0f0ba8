"""APGD: gradient ascent in the ball whose every search finds the length of its steps for itself.

Nothing has to be tuned but the number of steps; `attacks.apgd_climb` has the climb. With `targets` T > 0 an untargeted
goal is sought by T searches, each towards one of the T likeliest other classes, as any of them reaches it; with the
difference of logits ratio (`dlr`) this is the targeted APGD-DLR of AutoAttack. Where there are fewer classes, there are
fewer targets. In L1 the first 30% of the steps are spent in a ball of 3 eps, the next 30% in one of 2 eps, and what is
found there is projected.

Sources: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020 (arXiv 2003.01690), sections 3 to 5; the same, "Mind the box: l1-APGD for sparse adversarial attacks
on image classifiers", ICML 2021 (arXiv 2103.01208), section 3.
Departures: those of `attacks.apgd_climb` and `attacks.losses`. Restarts and target classes share a batch, as
`attacks.side_by_side` says. With `early_stop` a sample leaves once a point reaches the goal, also after rounding to 8
bits, and all its searches with it; with `give_up` a search ends whose progress would not bring it there.
Cost: at most restarts * max(targets, 1) * (steps + 1) forwards and restarts * max(targets, 1) * steps backwards per
sample, one forward for each point found adversarial, one for the order of target classes, two in L1 for each search;
fewer for a sample that leaves. On the host one question a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from attacks.apgd_climb import Climb, Halving, Sparse
from attacks.base import Logits, rows
from attacks.best import Best
from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.prospects import Hopeful, Prospects, check_factor
from attacks.rng import Rng
from attacks.side_by_side import searches
from attacks.threat import ThreatModel

_PATIENCE = 1 / 4  # share of the steps before which no search is given up
_LARGE = 1e30  # in place of an infinite slope
_CLIMBS: dict[str, type[Climb]] = {"l1": Sparse, "l2": Halving, "linf": Halving}
_WIDER = {"l1": ((3.0, 0.3), (2.0, 0.3))}  # balls before the last one: radius in eps, share of the steps


@dataclass(frozen=True)
class APGD:
    """Projected gradient ascent with step sizes that adapt per sample.

    Attributes:
        steps: gradient steps of each search.
        restarts: starting points, all random.
        loss: name in `attacks.losses.LOSSES`.
        targets: other classes to go to one by one, the likeliest first; 0 to go away from the label. Without effect
            for a targeted goal, which has its class.
        early_stop: a sample leaves once it is fooled; None leaves the choice to the run, called directly it means True.
        give_up: factor of `attacks.prospects` for searches that do not get near; None takes all steps of each.
    """

    norms: ClassVar[frozenset[str]] = frozenset(_CLIMBS)
    minimal: ClassVar[bool] = False

    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    targets: int = 0
    early_stop: bool | None = None
    give_up: float | None = None

    def __post_init__(self) -> None:
        loss_named(self.loss)
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")
        if self.restarts < 1:
            raise ValueError(f"restarts: must be at least 1, got {self.restarts}")
        if self.targets < 0:
            raise ValueError(f"targets: must be a number of classes, or 0 for none, got {self.targets}")
        check_factor(self.give_up)

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Per sample the candidate (B, C, H, W) with the largest margin over all steps and searches."""
        x = x.detach()
        if len(x) == 0:
            return x
        best = Best(x, threat, leave=self.early_stop is not False)
        hopeful = Hopeful(len(x), self.give_up, x.device)
        kind = _CLIMBS[threat.norm]
        wider = [(factor, math.ceil(share * self.steps)) for factor, share in _WIDER.get(threat.norm, ())]
        balls = [*wider, (1.0, max(self.steps - sum(steps for _, steps in wider), 1))]
        for some in searches(
            logits, x, goal, rng, lambda: hopeful.among(best.unbroken()), restarts=self.restarts, targets=self.targets
        ):
            best.begin(some)
            room = threat.room(x[some.owner])
            delta: Tensor | None = None
            for factor, steps in balls:
                ball = replace(threat, eps=factor * threat.eps)
                start = kind.start(some.rng, ball, *room) if delta is None else delta
                climb = kind(ball, steps, *room, ball.table.project(start, ball.eps, *room))
                self._ascend(logits, x, goal, some.aim, climb, best, within=ball == threat)
                delta = climb.best
            hopeful.note(best.owner)
        return best.point

    def _ascend(
        self, logits: Logits, x: Tensor, goal: Goal, aim: Goal, climb: Climb, best: Best, *, within: bool
    ) -> None:
        """The searches `best.owner` (R,), each to its `aim` (R rows); judged where they stay `within` the budget."""
        loss, origin, network = loss_named(self.loss), x[best.owner], rows(logits, best.owner)
        here = goal[best.owner]
        prospects = Prospects(len(origin), climb.steps, self.give_up if within else None, _PATIENCE, 1.0, origin)
        for step in range(climb.steps + 1):
            x_adv = climb.threat.place(origin, climb.delta)
            if step < climb.steps:
                z, gradient = logits_and_gradient(network, x_adv, loss, aim)
            else:  # the last point needs no gradient, but a judgement
                with torch.no_grad():
                    z, gradient = network(x_adv), torch.zeros_like(x_adv)
            going = best.update(z, x_adv, here, network) if within else None
            promising = prospects.going(step + 1, aim.margin(z)) if prospects.asks else None
            if promising is not None:
                best.owner = best.owner[promising if going is None else promising[going]]
                going = promising if going is None else going & promising
            if going is not None:
                origin, z, gradient, aim = origin[going], z[going], gradient[going], aim[going]
                climb.keep(going)
                if len(origin) == 0:
                    return
                here, network = goal[best.owner], rows(logits, best.owner)
                prospects.keep(going)
            climb.tell(loss.value(z, aim), gradient.flatten(1).nan_to_num(0.0, _LARGE, -_LARGE))
            if step < climb.steps:
                climb.step()
