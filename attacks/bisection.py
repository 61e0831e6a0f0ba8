"""The search for the weight c of Szegedy et al., per sample, in log scale.

The larger c is in c ||r||^2 + loss(x + r), the smaller r. So the weight sought is the *largest* c whose minimiser is
adversarial; the paper prints the smallest. A weight that succeeds is raised and one that fails is lowered, until both
kinds are known; then the interval between them shrinks.

With `guess` the next weight is not the middle but an estimate: at a minimiser 2 c r = p w, where p is the probability
that the wanted class lacks and w the gradient of the margin M. Were M linear in r, it would be M* at
r * (deficit + M*) / (deficit + M), where `deficit` is what M had to gain, and p would be 1 / (1 + exp(M*)) there; both
together give the c that ends at M*, a little inside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

_NARROW = 1.05  # weights this close to each other end the search
_AWAY = 1.2  # least factor between two weights while only one kind is known
_EDGE = 0.1  # part of the interval, in log scale, that a guess keeps from its ends


@dataclass
class Bisection:
    """What is known about the weights of b samples.

    Attributes:
        works: largest c (b,) that succeeded; 0 where none did.
        fails: smallest c (b,) that failed; infinity where none did.
        left: weights (b,) that may still be tried.
        deficit: what the margin has to gain (b,), > 0.
    """

    works: Tensor
    fails: Tensor
    left: Tensor
    deficit: Tensor

    @classmethod
    def start(cls, deficit: Tensor, weights: int) -> Bisection:
        """Nothing known yet, and `weights` to be tried per sample."""
        zero = torch.zeros_like(deficit)
        return cls(zero, torch.full_like(zero, torch.inf), torch.full_like(zero, weights), deficit)

    @staticmethod
    def first(deficit: Tensor, multiplier: Tensor, accuracy: float) -> Tensor:
        """The estimate (b,) before anything is tried, from r = multiplier * w with M = 0 in the linearised network."""
        aim = 0.5 * accuracy * deficit
        return 0.5 * torch.sigmoid(-aim) / (multiplier * (1 + aim / deficit)).clamp(min=1e-12)

    def take(self, index: Tensor) -> Bisection:
        """The samples `index`, int64 or bool."""
        return Bisection(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def next(
        self, ended: Tensor, c: Tensor, margin: Tensor, lack: Tensor, *, growth: float, accuracy: float, guess: bool
    ) -> tuple[Tensor, Tensor]:
        """Take note of how the weights `c` (b,) ended in the rows `ended` (b,) bool, and choose the next ones.

        Args:
            ended: rows whose minimiser for `c` has been found.
            c: their weights (b,).
            margin: of the minimisers (b,), positive when adversarial.
            lack: probability (b,) that the wanted class lacks at the minimisers.
            growth: factor between weights while only one kind is known; with `guess` the largest.
            accuracy: a success whose margin is below this part of the deficit ends the search.
            guess: estimate the next weight, instead of growing and bisecting blindly.

        Returns:
            Rows (b,) that go on, and their next weights (b,).
        """
        won = margin > 0
        self.works = torch.where(ended & won, torch.maximum(self.works, c), self.works)
        self.fails = torch.where(ended & ~won, torch.minimum(self.fails, c), self.fails)
        self.left = self.left - ended.to(self.left.dtype)

        known = (self.works > 0) & torch.isfinite(self.fails)
        ratio = torch.where(known, self.fails / self.works, 1.0)
        middle = self.works * ratio.sqrt()
        if guess:
            aim = 0.5 * accuracy * self.deficit
            shorter = (self.deficit + margin).clamp(min=0) / (self.deficit + aim)
            factor = torch.sigmoid(-aim) / lack.clamp(min=1e-6) * shorter
            estimate = c * torch.nan_to_num(factor, nan=1.0).clamp(1 / growth, growth)
            inside = (estimate > self.works * ratio**_EDGE) & (estimate < self.works * ratio ** (1 - _EDGE))
            between = torch.where(inside, estimate, middle)
            further = torch.where(won, torch.maximum(estimate, c * _AWAY), torch.minimum(estimate, c / _AWAY))
        else:
            between = middle
            further = torch.where(won, c * growth, c / growth)
        enough = (won & (margin < accuracy * self.deficit)) | (known & (ratio < _NARROW))
        return ended & ~enough & (self.left > 0), torch.where(known, between, further)
