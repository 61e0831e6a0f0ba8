"""One table per norm: size, projection, steepest step and a random point of the ball, all inside the box.

Everything works on flat perturbations `delta` (B, D) whose coordinates are bounded by `low` <= 0 <= `high` (B, D):
the room that the box leaves around the image. The projections and steps are the exact ones for the intersection of
ball and box, not for the ball with a clip afterwards; Croce and Hein, "Mind the box: l1-APGD", ICML 2021
(arXiv 2103.01208), show what the difference costs in L1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from attacks import asking
from attacks.rng import Rng

_NEWTON_STEPS = 8
_BISECTION_STEPS = 24


@dataclass(frozen=True)
class Norm:
    """What an algorithm needs of a norm.

    Attributes:
        name: `l0`, `l1`, `l2` or `linf`.
        size: delta (B, D) -> (B,).
        project: (delta, eps, low, high) -> the nearest point (B, D) of ball and box.
        steepest: (gradient (B, D), eps, low, high) -> the point of ball and box that maximises <gradient, point>.
        step: (gradient (B, D), length, delta, low, high, spread) -> a step of that length uphill from `delta`, to be
            projected afterwards. Only the L1 step looks at the box (a full coordinate cannot take more) and at
            `spread`, the number of coordinates that share the step.
        sample: (rng, eps, low, high) -> a random point of the ball, clipped to the box.
    """

    name: str
    size: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, float, Tensor, Tensor], Tensor]
    steepest: Callable[[Tensor, float, Tensor, Tensor], Tensor]
    step: Callable[[Tensor, float, Tensor, Tensor, Tensor, float], Tensor]
    sample: Callable[[Rng, float, Tensor, Tensor], Tensor]


def _clip(delta: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.clamp(delta, low, high)


def _linf_project(delta: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    return _clip(delta.clamp(-eps, eps), low, high)


def _linf_steepest(gradient: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    return _clip(gradient.sign() * eps, low, high)


def _linf_step(gradient: Tensor, length: float, delta: Tensor, low: Tensor, high: Tensor, spread: float) -> Tensor:
    del delta, low, high, spread
    return gradient.sign().mul_(length)


def _linf_sample(rng: Rng, eps: float, low: Tensor, high: Tensor) -> Tensor:
    delta = rng.uniform(low.shape[1]).mul_(2).sub_(1).mul_(eps)  # in place: fresh memory takes as long as the draws
    return delta.clamp_(low, high) if delta.dtype == low.dtype else _clip(delta, low, high)


def _ray(v: Tensor, eps: float, low: Tensor, high: Tensor, limit: float) -> Tensor:
    """clip(s * v) with the largest s <= limit for which its L2 norm is at most eps.

    s rises from that of the ball alone: the coordinates clipped so far stay clipped, and the others would reach the
    ball at the next s, so that s never passes the root and every iterate is feasible.
    """
    norm = v.norm(dim=1, keepdim=True)
    s = torch.where(norm > 0, eps / norm, 1.0).clamp(max=limit)  # squares of tiny coordinates underflow
    squares = v.square()[:, None]  # (B, 1, D)
    u, free = torch.empty_like(v), torch.empty_like(v)
    for _ in range(_NEWTON_STEPS):
        scaled = v * s
        torch.clamp(scaled, low, high, out=u)
        torch.eq(u, scaled, out=free)  # 0 or 1; products with numbers are many times faster than a mask of bools
        rest = (squares @ free[:, :, None])[:, 0]  # (B, 1)
        clipped = (u.square_()[:, None] @ free.neg_().add_(1.0)[:, :, None])[:, 0]
        reach = ((eps**2 - clipped).clamp(min=0) / rest).sqrt()
        last, s = s, torch.where(rest > 0, torch.maximum(reach, s), s).clamp(max=limit)
        if not asking.waits(v) and torch.equal(s, last):
            break
    return _clip(v * s, low, high)


def _l2_project(delta: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    return _ray(delta, eps, low, high, 1.0)


def _l2_steepest(gradient: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    return _ray(gradient / gradient.abs().amax(1, keepdim=True).clamp(min=1e-30), eps, low, high, torch.inf)


def _l2_step(gradient: Tensor, length: float, delta: Tensor, low: Tensor, high: Tensor, spread: float) -> Tensor:
    del delta, low, high, spread
    scaled = gradient / gradient.abs().amax(1, keepdim=True).clamp(min=1e-30)  # else squares of 1e-20 underflow
    factor: Tensor = length / scaled.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return scaled * factor


def _l2_sample(rng: Rng, eps: float, low: Tensor, high: Tensor) -> Tensor:
    direction = rng.fold(0).normal(low.shape[1])
    radius = rng.fold(1).uniform(1) ** (1.0 / low.shape[1])
    return _clip(direction * (eps * radius / direction.norm(dim=1, keepdim=True)), low, high)


def _l1_project(delta: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    """sign(d) * min((|d| - mu)+, room), where mu >= 0 is the root of a decreasing piecewise linear function."""
    magnitude = delta.abs()
    room = torch.where(delta > 0, high, -low)
    least = torch.zeros_like(delta[:, :1])
    most = magnitude.amax(1, keepdim=True)
    outside = torch.minimum(magnitude, room).sum(1, keepdim=True) > eps
    for _ in range(_BISECTION_STEPS):
        middle = (least + most) / 2
        over = torch.minimum((magnitude - middle).clamp(min=0), room).sum(1, keepdim=True) > eps
        least = torch.where(over, middle, least)
        most = torch.where(over, most, middle)
    shrunk = (magnitude - most).clamp(min=0)
    free = (shrunk > 0) & (shrunk < room)
    held = torch.where(free, 0.0, torch.minimum(shrunk, room)).sum(1, keepdim=True)
    count = free.sum(1, keepdim=True)
    exact = (torch.where(free, magnitude, 0.0).sum(1, keepdim=True) + held - eps) / count.clamp(min=1)
    mu = torch.where((count > 0) & (exact >= least) & (exact <= most), exact, most)
    mu = torch.where(outside, mu, 0.0)
    return delta.sign() * torch.minimum((magnitude - mu).clamp(min=0), room)


def _l1_steepest(gradient: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    return _l1_fill(gradient, eps, low, high, 1.0)


def _l1_step(gradient: Tensor, length: float, delta: Tensor, low: Tensor, high: Tensor, spread: float) -> Tensor:
    return _l1_fill(gradient, length, low - delta, high - delta, spread)


def _l1_fill(gradient: Tensor, length: float, low: Tensor, high: Tensor, spread: float) -> Tensor:
    """Fill the coordinates with the largest |gradient| up to their room until the budget is spent."""
    room = torch.where(gradient > 0, high, -low) * (gradient != 0)
    if spread > 1:
        room = room.clamp(max=length / spread)
    order = gradient.abs().argsort(dim=1, descending=True, stable=True)
    ordered = room.gather(1, order)
    before = ordered.cumsum(1) - ordered
    amount = torch.minimum(ordered, (length - before).clamp(min=0))
    return torch.zeros_like(gradient).scatter(1, order, amount) * gradient.sign()


def _l1_sample(rng: Rng, eps: float, low: Tensor, high: Tensor) -> Tensor:
    dim = low.shape[1]
    weights = -torch.log1p(-rng.fold(0).uniform(dim))
    weights = weights / weights.sum(1, keepdim=True)
    signs = torch.where(rng.fold(1).uniform(dim) < 0.5, -1.0, 1.0)
    radius = rng.fold(2).uniform(1) ** (1.0 / dim)
    return _clip(weights * signs * (eps * radius), low, high)


def _keep_largest(score: Tensor, values: Tensor, count: float) -> Tensor:
    kept = score.topk(int(min(count, score.shape[1])), dim=1).indices
    return torch.zeros_like(values).scatter(1, kept, values.gather(1, kept))


def _l0_project(delta: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    inside = _clip(delta, low, high)
    gain = delta.square() - (delta - inside).square()  # what keeping a coordinate saves of the squared distance
    return _keep_largest(gain, inside, eps)


def _l0_steepest(gradient: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
    best = torch.where(gradient > 0, high, low)
    return _keep_largest(gradient * best, best, eps)


def _l0_step(gradient: Tensor, length: float, delta: Tensor, low: Tensor, high: Tensor, spread: float) -> Tensor:
    del spread
    return _l0_steepest(gradient, max(1.0, round(length)), low - delta, high - delta)


def _l0_sample(rng: Rng, eps: float, low: Tensor, high: Tensor) -> Tensor:
    dim = low.shape[1]
    return _keep_largest(rng.fold(0).uniform(dim), low + rng.fold(1).uniform(dim) * (high - low), eps)


NORMS: Mapping[str, Norm] = MappingProxyType(
    {
        "l0": Norm("l0", lambda d: (d != 0).sum(1).to(d.dtype), _l0_project, _l0_steepest, _l0_step, _l0_sample),
        "l1": Norm("l1", lambda d: d.abs().sum(1), _l1_project, _l1_steepest, _l1_step, _l1_sample),
        "l2": Norm("l2", lambda d: d.norm(dim=1), _l2_project, _l2_steepest, _l2_step, _l2_sample),
        "linf": Norm("linf", lambda d: d.abs().amax(1), _linf_project, _linf_steepest, _linf_step, _linf_sample),
    }
)
"""The norms by name."""


def rms(delta: Tensor) -> Tensor:
    """Root mean square (B,) of perturbations (B, D): the distortion of Szegedy et al., sqrt(sum(delta^2) / D)."""
    return delta.square().mean(1).sqrt()
