"""Box-constrained L-BFGS, the search of Szegedy et al. for the smallest adversarial perturbation, all images at once.

    minimise  c ||r||_2^2 + loss(x + r, l)   such that x + r stays in the box,

with the largest c > 0 for which the minimiser reaches the goal; per image its own c, curvature history and step
length (`attacks.quasinewton`), one forward and one backward a step for all images that still search. Around it:

1. A class to go to, l. Targeted: the target. Untargeted: of the likeliest other classes those whose boundaries are
   nearest when the network is linearised at x, box included, one after the other (`attacks.linearised`). The distance
   also gives the first c: at the minimiser 2 c r = p w, so c = p / (2 lambda) where r = lambda w and p = 1/2 on the
   boundary.
2. Something adversarial, however large: a little beyond the linearised boundary, or else by a climb from x in
   signed-gradient steps of the margin (`attacks.climb`). On adversarially trained networks the loss may be so flat
   around x that no small step leads anywhere. Where the climb does not get there, nor does the search, another one
   starts from a random point near x.
3. The search over c (`attacks.bisection`). Each c starts from the last solution and keeps its history. A class is given
   up when a minimiser is no smaller than what was found already, and still not adversarial, and not tried at all
   where its linearised distance exceeds what step 2 has found by half: there the linearised network says little, and
   steps 2 and 4 do the work.
4. A polish along the decision boundary (`attacks.boundary_polish`), from what was found for each class, best first.

Returned is the smallest adversarial perturbation met anywhere on the way.

Losses of step 3, for a class l: `ce`, cross-entropy, as in the paper. `pairwise`, for an untargeted goal the
cross-entropy of two classes, log(1 + exp(z_label - z_l)), which does not charge for classes that are not in the way;
for a targeted goal `ce`. `margin`, the hinge max(0, k + z_other - z_l) of Carlini and Wagner, with k a small part of
what the margin has to gain and z_other the logit of the label, or for a targeted goal the greatest other one.

Source: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow and Fergus, "Intriguing properties of neural networks",
ICLR 2014 (arXiv 1312.6199v4), section 4.1. The hinge: Carlini and Wagner, S&P 2017 (arXiv 1608.04644).
Departures: the paper asks for the smallest c, which is a slip, as r shrinks when c grows. |r| is read as ||r||_2^2,
which is smooth. An untargeted goal is taken as the nearest of a few targeted ones, tried one after the other: to
maximise the cross-entropy of the label has no bound and no minimiser. Steps 2, 4, the guess of c and the comparison of
classes are not in the paper; `conf/attack/lbfgs/paper.yaml` leaves them out, and goes to the likeliest other class. It
keeps of them that the network is linearised once, and that a solution that fails and is no smaller than one found ends
the search over c.
Not compiled: on a CPU `torch.compile` halves the time of `attacks.halfspaces` and of the products with the history, but
its first calls take 20 seconds to a minute each.
Cost: at most `evaluations` forwards and backwards an image, and for an untargeted goal up to `candidates` backwards
more; for B >= memory images at most (2 memory + 17 + n) D numbers an image, n the classes that the search goes to, and
at least 26 D; besides memory^2, and what the network takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks import asking
from attacks.base import Logits
from attacks.bisection import Bisection
from attacks.boundary_polish import Start, add, polish
from attacks.climb import attempt, climb
from attacks.closest import Closest, Objective
from attacks.goal import Goal
from attacks.inverse_hessian import refuse_halves
from attacks.linearised import linearise
from attacks.losses import lead, loss_named
from attacks.quasinewton import Rows, Settings
from attacks.rng import Rng
from attacks.threat import ThreatModel

_PROMISING = 1.3  # a class is tried if its linearised distance is below this many times that of the nearest one
_BELIEVED = 1.5  # and below this many times what has been met by then: so far a linear network is believed
_BEYOND = 1.5  # the first point tried lies at this many times the linearised distance
_RUGGED = 5  # there the polish has so many times the patience
_FASTEST = 1e6  # growth of c
_OBJECTIVES = ("pairwise", "ce", "margin")


@dataclass(frozen=True)
class LBFGS:
    """Smallest L2 perturbation by box-constrained L-BFGS.

    Attributes:
        evaluations: most forwards with a backward an image, after one forward; on a GPU, where it would cost time to
            ask after every step, up to 3 more. What the search leaves is for the polish.
        climb: most signed-gradient steps until the first adversarial point, from the image with half the evaluations
            at most, and again from a random point; 0 for neither, nor for the point beyond the linearised boundary.
        stride: length of the first of these, as RMS and a part of the width of the box.
        steps: most evaluations an image in the search over c, per class tried.
        loss: `pairwise`, `ce` or `margin`.
        weights: most values of c.
        growth: factor between values of c until one succeeds and one fails; with `guess` the greatest.
        guess: choose c by a linear estimate; if false grow and bisect blindly. Not for `loss=margin`.
        accuracy: a solution whose margin is within this part of the clean image's ends the search.
        memory: curvature pairs kept an image.
        decrease: a value of c is solved when a step lowers the objective by less than this part of it.
        candidates: untargeted: other classes compared by their linearised distance; 1 takes the likeliest.
        classes: untargeted: of these the search goes to so many, nearest first, unless they are much further off.
        patience: the polish ends after so many walks in a row that gained next to nothing, and five times as many
            where the linearised network promised little; 0 for no polish.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"l2"})
    minimal: ClassVar[bool] = True

    evaluations: int = 300
    climb: int = 100
    stride: float = 0.01
    steps: int = 12
    loss: str = "pairwise"
    weights: int = 14
    growth: float = 2.0
    guess: bool = True
    accuracy: float = 0.1
    memory: int = 8
    decrease: float = 1e-2
    candidates: int = 9
    classes: int = 2
    patience: int = 1

    def __post_init__(self) -> None:
        for name in ("evaluations", "steps", "weights", "memory", "candidates", "classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be >= 1, got {getattr(self, name)}")
        for name in ("accuracy", "decrease", "climb", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must be >= 0 and finite, got {getattr(self, name)}")
        if self.loss not in _OBJECTIVES:
            raise ValueError(f"loss: must be one of {', '.join(_OBJECTIVES)}, got {self.loss!r}")
        if self.guess and self.loss == "margin":
            raise ValueError("guess: must be false with loss=margin, whose gradient does not tell the next c; got true")
        if not 1 < self.growth <= _FASTEST:
            raise ValueError(f"growth: must be in (1, 1e6], a factor between weights, got {self.growth:g}")
        if not 0 < self.stride <= 1:
            raise ValueError(f"stride: must be in (0, 1], a part of the box's width, got {self.stride:g}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """The smallest adversarial points found (B, C, H, W); `x` itself where it already reaches the goal.

        Where nothing adversarial was met, the point that came closest to it. Images whose own logits are NaN, or whose
        margin is infinite, are returned as they are.

        Raises:
            ValueError: images of less than 32 bits, which have no curvature to speak of.
        """
        refuse_halves(x, "lbfgs: images")
        closest = Closest(logits, x, goal, threat)
        outlook = linearise(closest, self.candidates, self.classes)
        index, lengths = outlook.index, outlook.lengths
        if len(index) == 0:
            return threat.place(x, closest.r)
        if self.climb:
            if self.evaluations > 1:  # which the linearised network took
                attempt(closest, index, _BEYOND * outlook.shift)
            climb(closest, index, self.climb, self.stride, self.evaluations // 2)
        climbed = closest.size[index]  # (b,)
        longest = torch.minimum(_PROMISING * lengths[:, :1], _BELIEVED * climbed[:, None])  # (b, 1)
        worth = lengths <= longest  # (b, n)
        starts: list[Start] = []
        for k in range(lengths.shape[1]):
            some = worth[:, k].nonzero()[:, 0]
            if len(some) > 0:
                deficit = outlook.deficit[some]
                c = Bisection.first(deficit, outlook.multipliers[some, k], self.accuracy)
                c = c if self.guess else torch.ones_like(c)
                found = closest.branch()
                self._search(found, closest.size, index[some], outlook.towards[some, k], deficit, c)
                closest.take(found)
                gain = torch.ones_like(closest.size).index_copy(0, index, outlook.deficits[:, k])
                ends = found.size * gain / (gain + found.margin)  # where the margin has fallen to 0, were it linear
                close = found.size < _BELIEVED * closest.size
                add(starts, Start(found.r, torch.where(close, ends, torch.inf)))
        if self.climb:
            climb(closest, index, self.climb, self.stride, self.evaluations, rng=rng.fold(1))
        if self.patience:
            rugged = lengths[:, 0] > _BELIEVED * climbed
            patience = torch.where(rugged, _RUGGED * self.patience, self.patience)
            some = closest.found[index].nonzero()[:, 0]
            polish(closest, starts, index[some], self.evaluations, patience[some], rng.fold(2))
        return threat.place(x, closest.r)

    def _search(
        self, closest: Closest, size: Tensor, index: Tensor, towards: Tensor, deficit: Tensor, c: Tensor
    ) -> None:
        """Minimise c ||r||^2 + loss for one c after another, from r = 0; `size` (B,) has been found elsewhere."""
        settings = Settings(memory=self.memory, decrease=self.decrease, gradient=0.0)
        low, high = closest.room[0][index], closest.room[1][index]
        state = Rows.start(torch.zeros_like(low), low, high, c, settings)
        weights = Bisection.start(deficit, self.weights)
        margin = torch.full_like(c, -torch.inf)
        period = asking.period(c)
        where = torch.arange(len(c), device=c.device)
        for step in range(self.steps):
            if step % period == 0:
                where = (state.running & (closest.evaluations[index] < self.evaluations)).nonzero()[:, 0]
                if len(where) == 0:
                    break
                if 4 * len(where) <= 3 * len(index):
                    state.keep(where)
                    weights = weights.take(where)
                    index, towards, margin = index[where], towards[where], margin[where]
                    where = torch.arange(len(where), device=c.device)
            loss = self._objective(closest.goal[index[where]], towards[where], weights.deficit[where])
            value, grad, reached = closest.evaluate(state.trial[where], index[where], loss)
            before = state.running
            moved = state.hear(where, value, grad, settings)
            margin = torch.where(moved, margin.index_copy(0, where, reached), margin)
            again, c = weights.next(
                before & ~state.running, state.c, margin, -torch.expm1(-state.value),
                growth=self.growth, accuracy=self.accuracy, guess=self.guess,
            )  # fmt: skip
            least = torch.minimum(size[index], closest.size[index])
            hopeless = (margin <= 0) & (state.point.norm(dim=1) >= least)
            state.reweigh(again & ~hopeless, c, settings)

    def _objective(self, goal: Goal, towards: Tensor, deficit: Tensor) -> Objective:
        wanted = towards[:, None]

        def cross_entropy(z: Tensor) -> tuple[Tensor, Tensor]:
            if goal.targets is None and self.loss == "pairwise":
                own = goal.labels[:, None]
                kept = torch.full_like(z, -torch.inf).scatter(1, wanted, z.gather(1, wanted))
                z = kept.scatter(1, own, z.gather(1, own))
            loss, aim = loss_named("ce"), goal.towards(towards)
            return -loss.value(z, aim), -loss.cotangent(z, aim)

        def hinge(z: Tensor) -> tuple[Tensor, Tensor]:
            rival = goal.labels if goal.targets is None else z.scatter(1, wanted, -torch.inf).argmax(1)
            value, seed = lead(z, rival, towards)
            value = value + 0.5 * self.accuracy * deficit
            return value.clamp(min=0), torch.where((value > 0)[:, None], seed, 0.0)

        return hinge if self.loss == "margin" else cross_entropy
