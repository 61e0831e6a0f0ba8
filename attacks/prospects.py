"""When a search may be given up: what it gains from one doubling of its work to the next does not bring it there.

The best value v of a search with a budget of N units of work is looked at after N/32, N/16, ..., N/2. With g the larger
one of its gains over the last two doublings, and k doublings still to come,

    given up where   v + factor * k * g < 0,   the goal being reached at 0.

Searches by random or gradient steps gain ever less from each doubling, so that with factor 1 their future is drawn too
bright already. None gives nothing up.

Cost: none of the network; at each of these points one question to the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GROUPS = 2  # of searches, of one and of four, before a sample may be let go
_LOOKS = 5  # halvings of the budget, the first of which is looked at first


class Prospects:
    """The prospects of R searches.

    Args:
        searches: R.
        budget: units of work of each.
        factor: how many times faster than lately a search may be thought to go on; None gives nothing up.
        patience: share of the budget before which nothing is given up.
        like: a tensor of the values' dtype, on their device.
    """

    def __init__(self, searches: int, budget: int, factor: float | None, patience: float, like: Tensor) -> None:
        self._factor, self._least = factor, patience * budget
        self._looks = [budget >> k for k in range(_LOOKS, 0, -1) if budget >> k > 0]
        self._best = like.new_full((searches,), -torch.inf)
        self._past: list[Tensor] = []

    def going(self, done: int, value: Tensor) -> Tensor | None:
        """The searches (R,), bool, that are to go on after `done` units of work; None when all are.

        Args:
            done: to be asked of every number from 1 on, in order.
            value: of each search now (R,), below 0 while the goal is not reached.
        """
        if self._factor is None:
            return None
        self._best = torch.fmax(self._best, value.to(self._best.dtype))
        if done not in self._looks:
            return None
        self._past = [*self._past[-2:], self._best]
        if len(self._past) < 3 or done < self._least:
            return None
        first, second, now = self._past
        gain = torch.maximum(now - second, second - first)
        to_come = len(self._looks) - self._looks.index(done)
        hopeless = now + self._factor * to_come * gain < 0
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
