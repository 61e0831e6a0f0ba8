"""Square: random search by square patches, from scores alone.

Linf: from vertical stripes of +eps and -eps, each query sets one square of side s to +eps or -eps, one sign a channel.
L2: from a grid of bumps, each query takes the mass of a second window and heaps it on a first one, together with what
the box has left unused of eps, and scales the whole to eps. What raises the loss is kept. s^2 is the share p of the
pixels, and p is halved nine times in the course of the budget.

Source: Andriushchenko, Croce, Flammarion and Hein, "Square Attack: a query-efficient black-box adversarial attack via
random search", ECCV 2020 (arXiv 1912.00049), algorithms 1 to 3. That p is halved after 5% of the budget as well is what
the authors' program does; the paper lists the other eight places.
Departures: squares may touch the last row and column, as the paper says and the program does not; every sample has its
own squares; the signs of a square that would change nothing are redrawn as in the authors' program, at once among the
other signs. A sample leaves with its first success; one that gets no answer any more (all scores NaN) leaves as well,
and with `give_up` one whose progress would not bring it there.
Cost: 1 forward for each query, at most restarts * queries per sample; no backward.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from attacks.base import Logits, rows
from attacks.goal import Goal
from attacks.losses import loss_named
from attacks.prospects import Prospects, check_factor
from attacks.rng import Rng
from attacks.threat import ThreatModel

_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries
_BLOCK = 64  # queries whose random numbers are drawn at once
_FIXED = 6  # random numbers of a query besides one a channel
_PATIENCE = 1 / 16  # share of the queries before which nobody is given up
_CHANNELS = 20  # of which other signs are drawn: float32 counts to 2^24


def share_at(step: int, steps: int, p_init: float) -> float:
    """The share p of the pixels that step number `step` of `steps` changes.

    >>> [share_at(step, 10_000, 0.8) for step in (0, 10, 11, 50, 51, 8001)]
    [0.8, 0.8, 0.4, 0.4, 0.2, 0.0015625]
    """
    return p_init / 2.0 ** bisect_left(_HALVED, int(step / steps * 10_000))


def _spread(u: Tensor, side: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows (b, H) and columns (b, W) as seen from windows placed by `u` (b, 2): 0 .. side - 1 inside."""
    top = (u[:, :1] * (height - side + 1)).long()
    left = (u[:, 1:] * (width - side + 1)).long()
    return torch.arange(height, device=u.device) - top, torch.arange(width, device=u.device) - left


def _inside(down: Tensor, across: Tensor, side: int) -> Tensor:
    """The windows as masks (b, 1, H, W)."""
    y, x = ((t >= 0) & (t < side) for t in (down, across))
    return (y[:, :, None] & x[:, None, :])[:, None]


def _signs(u: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0)


def _linf_start(x: Tensor, threat: ThreatModel, rng: Rng) -> Tensor:
    stripes = _signs(rng.uniform(x.shape[1], 1, x.shape[3])).to(x.dtype)
    return (x + threat.eps * stripes).clamp(*threat.box)


def _linf_side(share: float, height: int, width: int) -> int:
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def _linf_propose(x: Tensor, best: Tensor, threat: ThreatModel, side: int, u: Tensor) -> Tensor:
    window = _inside(*_spread(u[:, :2], side, *x.shape[2:]), side)
    signs = _signs(u[:, _FIXED:])  # (b, C)
    new = torch.where(window, _at_edge(x, signs, threat), best)
    idle = (new == best).flatten(1).all(1)
    channels = min(x.shape[1], _CHANNELS)
    other = 1 + (u[:, 5] * (2**channels - 1)).long()  # which signs to turn: bits of 1 .. 2^C - 1
    turned = (other[:, None] >> torch.arange(channels, device=x.device)) & 1  # (b, C)
    signs[:, :channels] *= torch.where(idle[:, None], 1.0 - 2.0 * turned, 1.0)
    return torch.where(window, _at_edge(x, signs, threat), best)


def _at_edge(x: Tensor, signs: Tensor, threat: ThreatModel) -> Tensor:
    return (x + threat.eps * signs[:, :, None, None].to(x.dtype)).clamp(*threat.box)


@lru_cache
def _pyramid(height: int, width: int) -> Tensor:
    """Concentric rectangles around the middle (height, width): the k-th adds 1 / k^2. Of unit norm."""
    heap = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for k in range(max(top, left) + 1):
        heap[max(top - k, 0) : top + k + 1, max(left - k, 0) : left + k + 1] += 1.0 / (k + 1) ** 2
    norm = heap.norm()
    return heap / norm if norm > 0 else heap


@lru_cache
def bump(side: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """A heap and a hole, one above the other (side, side), of unit norm: what an L2 query adds."""
    above = side // 2
    eta = torch.cat([_pyramid(above, side), -_pyramid(side - above, side)])
    unit: Tensor = eta / eta.norm()
    return unit.to(device, dtype)


def _l2_start(x: Tensor, threat: ThreatModel, rng: Rng) -> Tensor:
    _, channels, height, width = x.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side

    def wide(tiles: Tensor) -> Tensor:
        return tiles.repeat_interleave(side, -2).repeat_interleave(side, -1)

    eta = bump(side, x.device, x.dtype)
    lying = wide(rng.fold(0).uniform(1, down, across) < 0.5)
    tiles = torch.where(lying, eta.T.repeat(down, across), eta.repeat(down, across))
    tiles = tiles * wide(_signs(rng.fold(1).uniform(channels, down, across))).to(x.dtype)
    top, left = (height - side * down) // 2, (width - side * across) // 2
    delta = torch.zeros_like(x)
    delta[:, :, top : top + side * down, left : left + side * across] = tiles
    return _of_length(x, delta, threat)


def _l2_side(share: float, height: int, width: int) -> int:
    side = max(round(math.sqrt(share * height * width)), 3)
    most = min(height, width)
    return min(side + 1 - side % 2, most - 1 + most % 2)  # odd


def _l2_propose(x: Tensor, best: Tensor, threat: ThreatModel, side: int, u: Tensor) -> Tensor:
    delta = best - x
    down, across = _spread(u[:, :2], side, *x.shape[2:])
    window = _inside(down, across, side)
    other = _inside(*_spread(u[:, 2:4], side, *x.shape[2:]), side)
    y, z = (t.clamp(0, side - 1) for t in (down, across))
    eta = bump(side, x.device, x.dtype)
    standing, lying = eta[y[:, :, None], z[:, None, :]], eta.T[y[:, :, None], z[:, None, :]]  # (b, H, W)
    heap = torch.where(u[:, 4, None, None] < 0.5, lying, standing)[:, None]
    heap = heap * _signs(u[:, _FIXED:])[:, :, None, None].to(x.dtype)  # (b, C, H, W)
    heap = torch.where(window, heap + delta / (_norm(delta * window) + 1e-10), 0.0)
    unused = (threat.eps**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp(min=0) / x.shape[1]
    available = (delta * (window | other)).square().sum((2, 3), keepdim=True)  # (b, C, 1, 1)
    heap = heap * ((unused + available).sqrt() / _norm(heap).clamp(min=1e-10))
    return _of_length(x, torch.where(window, heap, delta * ~other), threat)


def _norm(delta: Tensor) -> Tensor:
    """The norm of each channel (b, C, 1, 1)."""
    return delta.square().sum((2, 3), keepdim=True).sqrt()


def _of_length(x: Tensor, delta: Tensor, threat: ThreatModel) -> Tensor:
    """`x` moved by eps in the direction of `delta`, cut off at the box."""
    length = delta.square().sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-30)
    return (x + delta * (threat.eps / length)).clamp(*threat.box)


@dataclass(frozen=True)
class _Search:
    """What depends on the norm.

    Attributes:
        start: (x, threat, rng) -> first points (B, C, H, W).
        side: (share of the pixels, height, width) -> side of the squares.
        propose: (x, best, threat, side, u) -> next points; `u` (b, 6 + C) uniform on [0, 1).
    """

    start: Callable[[Tensor, ThreatModel, Rng], Tensor]
    side: Callable[[float, int, int], int]
    propose: Callable[[Tensor, Tensor, ThreatModel, int, Tensor], Tensor]


_SEARCHES: Mapping[str, _Search] = MappingProxyType(
    {
        "l2": _Search(_l2_start, _l2_side, _l2_propose),
        "linf": _Search(_linf_start, _linf_side, _linf_propose),
    }
)


@dataclass(frozen=True)
class Square:
    """Random search by squares, from scores alone.

    Attributes:
        queries: forwards per sample and search, at most.
        p_init: share of the pixels that the first squares change.
        loss: `margin` or `ce`; None as in the paper: the margin, and cross-entropy towards a target.
        restarts: searches of a sample, each with all queries; only those that were not given up are begun again.
        give_up: factor of `attacks.prospects` for samples that do not get near; None spends all queries on them.
    """

    norms: ClassVar[frozenset[str]] = frozenset(_SEARCHES)
    minimal: ClassVar[bool] = False
    needs: ClassVar[str] = "scores"

    queries: int = 5000
    p_init: float = 0.8
    loss: str | None = None
    restarts: int = 1
    give_up: float | None = None

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries: must be at least 1, got {self.queries}")
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init: must be in (0, 1], got {self.p_init:g}")
        if self.loss is not None:
            loss_named(self.loss)
        if self.restarts < 1:
            raise ValueError(f"restarts: must be at least 1, got {self.restarts}")
        check_factor(self.give_up)

    @torch.no_grad()
    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Per sample the first success (B, C, H, W), else the point with the largest loss."""
        x = x.detach()
        if len(x) == 0:
            return x
        result, value, near = self._search(logits, x, goal, threat, rng)
        for restart in range(1, self.restarts):
            if len(near) == 0:
                break
            found, loss, rest = self._search(rows(logits, near), x[near], goal[near], threat, rng[near].fold(-restart))
            better = loss > value[near]
            result[near] = torch.where(better[:, None, None, None], found, result[near])
            value[near] = torch.maximum(loss, value[near])
            near = near[rest]
        return result

    def _search(
        self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, rng: Rng
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One search of each sample.

        Returns:
            Points (B, C, H, W), their loss (B,), infinity for a success, and the samples (b,) that had all queries.
        """
        search = _SEARCHES[threat.norm]
        loss = loss_named(self.loss or ("margin" if goal.targets is None else "ce"))
        result = search.start(x, threat, rng.fold(0))
        index = torch.arange(len(x), device=x.device)
        new, best = result, result
        value = torch.full((len(x),), -torch.inf, device=x.device)
        final = value.clone()
        draws = value[:, None]
        prospects = Prospects(len(x), self.queries, self.give_up, _PATIENCE, 1.0, value)
        for step in range(self.queries):
            if step > 0:
                place = (step - 1) % _BLOCK
                if place == 0:
                    draws = rng[index].fold(step).uniform(_BLOCK, _FIXED + x.shape[1])
                side = search.side(share_at(step - 1, self.queries, self.p_init), *x.shape[2:])
                new = search.propose(x, best, threat, side, draws[:, place])
            z = rows(logits, index)(new)
            reached = goal.reached(z)
            got = loss.value(z, goal).to(value.dtype)
            better = (got > value) | reached
            best = torch.where(better[:, None, None, None], new, best)
            value = torch.where(reached, torch.inf, torch.where(better, got, value))
            gone = reached | z.isnan().all(1)
            promising = prospects.going(step + 1, goal.margin(z)) if prospects.asks else None
            gone = gone if promising is None else gone | ~promising
            if bool(gone.any()):  # asked at once, also where it waits for the device: a query more would be counted
                result[index], final[index] = best, value
                going = torch.nonzero(~gone)[:, 0]
                index, x, best, value, draws = (t[going] for t in (index, x, best, value, draws))
                if len(going) == 0:
                    break
                goal = goal[going]
                prospects.keep(going)
        result[index], final[index] = best, value
        return result, final, index
