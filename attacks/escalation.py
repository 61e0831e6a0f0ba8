"""More budget for the samples that ask for it: each by what its own searches show.

    stand-in    the network offers one                                 its gradients are followed
    random      two answers to the image differ                        the expected answer is attacked
    unsettled   twice the steps bring the search nearer the goal, and  twice as many again, while that lasts
                thrice that from each doubling to come gets it there
    misled      a search by scores gets nearer than one by gradients,  smoothed gradients, and many more queries
                or there is no gradient

What is none of these costs little. The signs are those that the diagnosis of an evaluation looks for in a network;
here they decide where effort goes, sample by sample.

Source: the signs of Athalye, Carlini and Wagner, ICML 2018 (arXiv 1802.00420), section 3.1, and of Carlini et al., "On
evaluating adversarial robustness", 2019 (arXiv 1902.06705), section 4; that an evaluation has to answer them by a
change of its attack: Tramer, Carlini, Brendel and Madry, "On adaptive attacks", NeurIPS 2020 (arXiv 2002.08347).
Cost: 3 forwards and a backward, two searches of `steps` and 2 `steps`, and `queries`; beyond that only for samples that
ask: up to steps * 2^rounds forwards and backwards, 16 `queries`, and 2 * draws * steps forwards and backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.apgd import APGD
from attacks.base import Attack, Logits, rows, stand_in
from attacks.bpda import BPDA
from attacks.cascade import Broken
from attacks.eot import EOT
from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel

_DIFFERS = 1e-5  # of the range of the logits: more than rounding
_MORE = 16  # times the queries for who is misled
_FACTOR = 3.0  # times the gain of the last doubling that each one to come is thought to bring


@dataclass(frozen=True)
class Escalation:
    """Longer, averaged, guided and gradient-free searches, for the samples whose own searches ask for them.

    Attributes:
        steps: of the first gradient search; the second has twice as many.
        rounds: gradient searches at most, each of twice the steps of the one before.
        queries: of the search by scores.
        draws: forwards at each look where the answer is averaged.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"l1", "l2", "linf"})
    minimal: ClassVar[bool] = False

    steps: int = 100
    rounds: int = 5
    queries: int = 1000
    draws: int = 20

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rounds", 2), ("queries", 1), ("draws", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}, got {getattr(self, name)}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Per sample the first candidate (B, C, H, W) that reaches the goal, else the nearest to it."""
        x = x.detach()
        if len(x) == 0:
            return x
        turn = _Turn(logits, x, goal, threat, rng)
        if stand_in(logits) is not None:
            turn.spend(BPDA(PGD(steps=self.steps, loss="margin")), turn.broken.left())
        averaged = PGD(steps=self.steps, loss="margin", early_stop=False)
        turn.spend(EOT(averaged, self.draws), turn.among(_random(logits, x)))
        steep = self._climb(turn)
        if threat.norm in Square.norms:
            turn.spend(Square(queries=self.queries), turn.broken.left())
        misled = turn.among((turn.margin > steep) | _flat(logits, x, goal))
        turn.spend(EOT(averaged, self.draws, _neighbours(threat, x)), misled)
        if threat.norm in Square.norms:
            turn.spend(Square(queries=_MORE * self.queries), turn.among(turn.of(misled)))
        return turn.broken.x_adv

    def _climb(self, turn: _Turn) -> Tensor:
        """Gradient searches of ever more steps; how near each sample (B,) came by them."""
        going, before = turn.broken.left(), turn.margin
        for search in range(self.rounds):
            turn.spend(APGD(steps=self.steps * 2**search, loss="margin", early_stop=True), going)
            now = turn.margin
            gain = now - before
            if search > 0:
                foreseen = now + _FACTOR * gain * (self.rounds - 1 - search)
                going = turn.among(turn.of(going) & (gain > 0) & (foreseen >= 0))
            else:
                going = turn.among(turn.of(going))
            before = now
        return turn.margin


class _Turn:
    """A batch `x` (B, C, H, W) that several searches work on in turn."""

    def __init__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, rng: Rng) -> None:
        self.logits, self.x, self.goal, self.threat, self.rng = logits, x, goal, threat, rng
        self.broken = Broken(x)
        self._searches = 0

    @property
    def margin(self) -> Tensor:
        """How near each sample (B,) has come so far."""
        return self.broken.margin.clone()

    def spend(self, attack: Attack, index: Tensor) -> None:
        """Let an attack try the samples `index` (b,), and keep what is better."""
        number, self._searches = self._searches, self._searches + 1
        if len(index) == 0:
            return
        network, images, aim = rows(self.logits, index), self.x[index], self.goal[index]
        found = attack(network, images, aim, self.threat, rng=self.rng[index].fold(number))
        self.broken.take(number, index, found, network, images, aim, self.threat)

    def among(self, asking: Tensor) -> Tensor:
        """Those of the samples (b,) that are left for which `asking` (B,), bool, holds."""
        left = self.broken.left()
        return left[asking[left]]

    def of(self, index: Tensor) -> Tensor:
        """The samples `index` (b,) as truth values (B,)."""
        chosen = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)
        chosen[index] = True
        return chosen


@torch.no_grad()
def _random(logits: Logits, x: Tensor) -> Tensor:
    """Whether two answers to the same image differ, (B,)."""
    one, other = logits(x), logits(x)
    apart = (one - other).abs().amax(1)
    return apart > _DIFFERS * (one.amax(1) - one.amin(1)).clamp(min=1e-30)


def _flat(logits: Logits, x: Tensor, goal: Goal) -> Tensor:
    """Whether the margin has no gradient, (B,)."""
    _, gradient = logits_and_gradient(logits, x, loss_named("margin"), goal)
    return (gradient == 0).flatten(1).all(1)


def _neighbours(threat: ThreatModel, x: Tensor) -> float:
    """Deviation of neighbours about as far away as the budget reaches, as RMS."""
    return threat.eps / (2.0 if threat.norm == "linf" else math.sqrt(x[0].numel()))
