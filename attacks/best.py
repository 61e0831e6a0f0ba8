"""The best point per sample, where several searches of one sample share a batch and samples leave it.

A sample leaves once a point of it reaches the goal, also after rounding to 8 bits; all its searches end with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.base import Logits, rows
from attacks.goal import Goal
from attacks.threat import ThreatModel, quantize


class Best:
    """The best point per sample, and which sample each row of the batch belongs to.

    Attributes:
        point: (B, C, H, W).
        margin: of `point`, (B,); infinity once the sample has left.
        owner: sample (R,) of each row.
    """

    def __init__(self, x: Tensor, threat: ThreatModel, *, leave: bool) -> None:
        self.point = x.clone()
        self.margin = torch.full((len(x),), -torch.inf, device=x.device)
        self.owner = torch.arange(len(x), device=x.device)
        self._box = threat.box
        self._leave = leave

    def unbroken(self) -> Tensor:
        """The samples that have not left, (b,)."""
        return torch.nonzero(self.margin < torch.inf)[:, 0]

    def update(self, z: Tensor, x_adv: Tensor, goal: Goal, network: Logits) -> Tensor | None:
        """Keep what is better. Returns the rows (R,), bool, that go on, or None when all do."""
        margin = goal.margin(z).nan_to_num(nan=-torch.inf).to(self.margin.dtype)
        hit = torch.nonzero(goal.reached(z))[:, 0] if self._leave else self.owner[:0]
        if len(hit) > 0:
            with torch.no_grad():
                rounded = rows(network, hit)(quantize(x_adv[hit], self._box))
            margin[hit[goal[hit].reached(rounded)]] = torch.inf
        top = self.margin.scatter_reduce(0, self.owner, margin, "amax")
        row = torch.arange(len(margin), device=margin.device)
        winner = (margin == top[self.owner]) & (margin > self.margin[self.owner])
        chosen = torch.full_like(self.margin, len(row), dtype=torch.int64)
        chosen.scatter_reduce_(0, self.owner, torch.where(winner, row, len(row)), "amin")  # the first of equals
        better = (chosen < len(row))[:, None, None, None]
        self.point = torch.where(better, x_adv[chosen.clamp(max=len(row) - 1)], self.point)
        self.margin = top
        if len(hit) == 0:
            return None
        going = self.margin[self.owner] < torch.inf
        self.owner = self.owner[going]
        return going
