"""The smallest Linf budget at which a fixed-budget search succeeds, per image: bisection over eps.

With `eight_bit` an image counts when the goal is reached after rounding to 8 bits, and budgets are whole steps k/255 of
the box: below, a change is rounded away, and between two of them nothing is gained. Else budgets are halved until they
are known to `accuracy`.

Departures: success need not be monotone in eps for a search that can fail; the bisection then ends at one of the
budgets between failure and success.
Cost: that of one PGD a budget tried: log2(most * 255) of them with `eight_bit`, log2(most / accuracy) without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.base import Logits, rows
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel, quantize


@dataclass(frozen=True)
class SmallestEps:
    """Bisection over the eps of PGD in Linf.

    Attributes:
        steps: of PGD for each budget.
        most: largest budget tried, as a share of the box.
        eight_bit: whether the goal must be reached after rounding to 8 bits.
        accuracy: to which the budget is found without `eight_bit`, as a share of the box.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = True

    steps: int = 40
    most: float = 32 / 255
    eight_bit: bool = True
    accuracy: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")
        if not 1 / 255 <= self.most <= 1:
            raise ValueError(f"most: must be a share of the box in [1/255, 1], got {self.most:g}")
        if not 0 < self.accuracy < 1:
            raise ValueError(f"accuracy: must be a share of the box in (0, 1), got {self.accuracy:g}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """The candidates (B, C, H, W) of the smallest budgets that succeeded, 8-bit images with `eight_bit`.

        Where none did, that of the largest budget.
        """
        width = threat.box[1] - threat.box[0]
        unit = width / 255 if self.eight_bit else width * self.accuracy
        top = max(1, round(self.most * width / unit))
        x_adv = x.detach().clone()
        works = torch.full((len(x),), top + 1, device=x.device)  # in units; top + 1: none known
        fails = torch.zeros_like(works)
        tried = torch.full_like(works, top)  # the largest first: should it fail, nothing smaller is tried
        active = torch.arange(len(x), device=x.device)
        attack = PGD(steps=self.steps, early_stop=True)
        while len(active) > 0:
            for budget in sorted(set(tried[active].tolist())):
                who = active[tried[active] == budget]
                here = ThreatModel("linf", budget * unit, threat.box)
                found, won = self._search(attack, rows(logits, who), x[who], goal[who], here, rng[who].fold(budget))
                keep = won | (fails[who] == 0) & (works[who] > top)  # the first try is kept even if it failed
                x_adv[who[keep]] = found[keep]
                works[who[won]] = budget
                fails[who[~won]] = budget
            active = active[(works[active] <= top) & (works[active] - fails[active] > 1)]
            tried = (works + fails) // 2
        return x_adv

    def _search(
        self, attack: PGD, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, rng: Rng
    ) -> tuple[Tensor, Tensor]:
        """PGD's candidates, rounded with `eight_bit`, and whether they (B,) reach the goal."""
        found = attack(logits, x, goal, threat, rng=rng)
        if self.eight_bit:
            found = quantize(found, threat.box)
        with torch.no_grad():
            return found, goal.reached(logits(found))
