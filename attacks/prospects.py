"""When a search may be given up: what it gains from one doubling of its work to the next does not bring it there.

The best value v of a search with a budget of N units of work is looked at after N/32, N/16, ..., N/2. With g the gain
of the last doubling, h that of the one before, and k doublings still to come,

    given up where   v + factor * g' (q + q^2 + ... + q^k) < 0,   q = g / h within [least, 1],   g' = max(g, least * h),

the goal being reached at 0. Searches by gradients come to rest, so that their gains shrink by a ratio that is seen;
random search can stand still for a while, and with least = 1 is thought to gain as much from each doubling to come as
from the better one of the last two. A search that has no value yet (-infinity) by the time that something may be given
up is given up as well. Without a factor nothing is.

Cost: none of the network; at each of these points one question to the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GROUPS = 2  # of searches, of one and of four, before a sample may be let go
_LOOKS = 5  # halvings of the budget, the first of which is looked at first


class Prospects:
    """The prospects of R searches.

    Attributes:
        asks: whether there is a factor; without one `going` need not be asked.

    Args:
        searches: R.
        budget: units of work of each.
        factor: how many times what is foreseen a search is thought to gain; None gives nothing up.
        patience: share of the budget before which nothing is given up.
        least: smallest ratio of a gain to the one before it that is believed in.
        like: a tensor of the values' dtype, on their device.
    """

    def __init__(
        self, searches: int, budget: int, factor: float | None, patience: float, least: float, like: Tensor
    ) -> None:
        self.asks = factor is not None
        self._factor, self._first, self._least = factor, patience * budget, least
        self._looks = [budget >> k for k in range(_LOOKS, 0, -1) if budget >> k > 0]
        self._best = like.new_full((searches,), -torch.inf)
        self._past: list[Tensor] = []

    def going(self, done: int, value: Tensor) -> Tensor | None:
        """The searches (R,), bool, that are to go on after `done` units of work; None when all are.

        Args:
            done: to be asked of every number from 1 on, in order.
            value: of each search now (R,), below 0 while the goal is not reached, -infinity where it is not known.
        """
        if self._factor is None:
            return None
        self._best = torch.fmax(self._best, value.to(self._best.dtype))
        if done not in self._looks:
            return None
        self._past = [*self._past[-2:], self._best]
        if len(self._past) < 3 or done < self._first:
            return None
        first, second, now = self._past
        gain, before = now - second, second - first
        ratio = torch.where(before > 0, gain / before, 1.0).clamp(self._least, 1.0)
        gain = torch.maximum(gain, self._least * before)
        to_come = len(self._looks) - self._looks.index(done)
        foreseen = gain * sum(ratio**k for k in range(1, to_come + 1))
        hopeless = (now + self._factor * foreseen < 0) | now.isneginf()
        return ~hopeless if bool(hopeless.any()) else None

    def keep(self, rows: Tensor) -> None:
        """Drop all searches but `rows`, bool or int64."""
        self._best = self._best[rows]
        self._past = [value[rows] for value in self._past]


class Hopeful:
    """Which of B samples more searches are begun for, where each is sought by several.

    A sample is let go once five searches or more, to its likeliest classes, have all been given up.
    """

    def __init__(self, samples: int, factor: float | None, device: torch.device) -> None:
        self._finished = torch.zeros(samples, dtype=torch.bool, device=device)
        self._groups = 0
        self._ask = factor is not None

    def note(self, owner: Tensor) -> None:
        """A group of searches has ended; `owner` (R,) are the samples of those that were not given up."""
        self._groups += 1
        self._finished[owner] = True

    def among(self, samples: Tensor) -> Tensor:
        """Those of the samples (b,) that are worth another group."""
        return samples[self._finished[samples]] if self._ask and self._groups >= _GROUPS else samples


def check_factor(factor: float | None) -> None:
    """Refuse a factor that is no number above 0.

    Raises:
        ValueError: it is not.
    """
    if factor is not None and not factor > 0:
        raise ValueError(f"give_up: must be > 0, or null to give nothing up, got {factor:g}")
