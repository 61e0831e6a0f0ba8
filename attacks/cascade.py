"""Several attacks in turn, each on the samples that the ones before it could not break.

A sample counts as broken by the first stage whose candidate reaches the goal inside box and budget; it leaves once that
holds after rounding to 8 bits as well. What a stage proposes is judged by one forward of its own, so that no attack's
word is taken for it. A search for the smallest perturbation takes part like any other: what is too large is dropped.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020 (arXiv 2003.01690), section 5, for the order from cheap to expensive and for the worst case per
sample.
Cost: that of each stage on the samples that reach it, and a forward a stage for the judgement, two where it is broken.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from attacks.base import Attack, Logits, rows
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel, quantize, unlimited

Stages = tuple[tuple[str, Attack], ...]
"""Attacks by name, in the order in which they run."""


@runtime_checkable
class Cascade(Protocol):
    """An attack that is made of others."""

    def stages(self, norm: str) -> Stages:
        """Its attacks for budgets in that norm."""


class Broken:
    """The best candidate of each of B samples so far, and whose it is.

    Attributes:
        x_adv: candidates (B, C, H, W); the images themselves before there is any.
        stage: number (B,) of the stage that first reached the goal, -1 for none.
        margin: of the candidates (B,), as `Goal.margin` has it; -infinity before there is any.
    """

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.detach().clone()
        self.stage = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
        self._rank = torch.zeros_like(self.stage)  # 1: reaches the goal; 2: after rounding to 8 bits too
        self.margin = torch.full((len(x),), -torch.inf, device=x.device)

    def left(self) -> Tensor:
        """The samples (b,) that a next stage has to try."""
        return torch.nonzero(self._rank < 2)[:, 0]

    @torch.no_grad()
    def take(
        self, stage: int, index: Tensor, candidates: Tensor, network: Logits, x: Tensor, goal: Goal, threat: ThreatModel
    ) -> None:
        """Judge what stage number `stage` proposes for the samples `index` (b,), and keep what is better.

        `candidates` and `x` are (b, C, H, W), `goal` of the same rows, and `network` charges them to `index`.
        """
        candidates = candidates.detach().to(x.dtype)
        z = network(candidates)
        legal = threat.inside_box(candidates) & threat.within(candidates, x)
        hit = legal & goal.reached(z)
        rank = hit.long()
        found = torch.nonzero(hit)[:, 0]
        if len(found) > 0:
            rounded = rows(network, found)(quantize(candidates[found], threat.box))
            rank[found] += goal[found].reached(rounded).long()
        margin = goal.margin(z).to(self.margin.dtype)
        margin = torch.where(legal & ~margin.isnan(), margin, -torch.inf)
        before, nearest = self._rank[index], self.margin[index]
        better = (rank > before) | ((rank == before) & (margin > nearest))
        self.x_adv[index] = torch.where(better[:, None, None, None], candidates, self.x_adv[index])
        self.stage[index] = torch.where((rank > 0) & (before == 0), stage, self.stage[index])
        self._rank[index] = torch.maximum(rank, before)
        self.margin[index] = torch.where(better, margin, nearest)


def budget(attack: Attack, threat: ThreatModel) -> ThreatModel:
    """What a stage is told of the budget: a search for the smallest perturbation has none."""
    return unlimited(threat.norm, threat.box) if attack.minimal else threat


def in_turn(stages: Stages, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, rng: Rng) -> Broken:
    """What comes of the stages, one after the other, on a batch `x` (B, C, H, W)."""
    broken = Broken(x)
    for number, (_, attack) in enumerate(stages):
        index = broken.left()
        if len(index) == 0:
            break
        network, images, aim = rows(logits, index), x.detach()[index], goal[index]
        found = attack(network, images, aim, budget(attack, threat), rng=rng[index].fold(number))
        broken.take(number, index, found, network, images, aim, threat)
    return broken
