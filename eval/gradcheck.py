"""Backprop beside central differences: is the gradient that attacks follow the derivative of what is computed?

    D(h) = (f(x + h v) - f(x - h v)) / 2 h,    error = |D(h) - <grad f(x), v>| / scale

in float64, where D(h) is right to O(h^2) as long as f is smooth between x - h v and x + h v. A ReLU or a max-pool has
kinks, at which no number is right. They are found without a look at the gradient, from values of f alone, by the slopes

    D+(h) = (f(x + h v) - f(x)) / h,    D-(h) = (f(x) - f(x - h v)) / h

and two steps: of a smooth f, D(h) and D(h / 2) agree, and D+ - D- halves with h; across a kink one of them fails, at a
kink the second. Of several steps h the first at which f is smooth counts; where there is none, the point is a kink, and
is counted apart.

The scale is the larger of both derivatives, and no less than that of a typical direction, |grad f| / sqrt(D) |v|. Where
rounding alone may make of it an error of 1e-7 at every step, nothing can be told, as of the cross-entropy of a network
that is sure; such points are counted apart, too.

A gradient that is no number, NaN or infinite, is wrong wherever the differences are finite, at kinks and in flat places
too, where any slope would do, but no NaN: an attack that follows it is lost.

Source: J. Nocedal and S. Wright, "Numerical optimization", 2nd edition, 2006, section 8.1, for central differences; the
rule of thumb of an error below 1e-6 in float64 is that of the course notes of Stanford's CS231n.
Cost: a backward, and five forwards a direction and step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eval.studies.gradient_names import BOUND

Numbers = Callable[[Tensor], Tensor]
"""Points (B, ...) -> M numbers each (B, M), each of its own row alone."""

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)
"""Lengths that are tried, in the units of the direction."""

_SMOOTH = 2e-7  # of the slope: how far slopes at two steps may differ where f is smooth
_RESOLVED = 1e-7  # error that the rounding of f may come to
_ROUNDING = 32 * 2.0**-52


@dataclass(frozen=True)
class Checked:
    """Derivatives along directions.

    Attributes:
        backprop: (B, M), of the gradient.
        central: (B, M), of central differences; at a kink those of the shortest step.
        error: (B, M), see the module; infinite where backprop is no number beside finite differences.
        kink: (B, M) bool, where no step finds f smooth; its error means nothing.
        flat: (B, M) bool, where the derivative is lost in rounding; its error means nothing either.
    """

    backprop: Tensor
    central: Tensor
    error: Tensor
    kink: Tensor
    flat: Tensor

    @property
    def wrong(self) -> Tensor:
        """Where (B, M) backprop does not give the derivative."""
        return ~self.kink & ~self.flat & ~(self.error < BOUND)


def gradients_of(f: Numbers, x: Tensor) -> Tensor:
    """What backprop says of each number: (M, B, ...); 0 where it does not depend on x as far as autograd knows."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        out = f(leaf)
    if not out.requires_grad:
        return x.new_zeros(out.shape[1], *x.shape)
    sums = out.sum(0)
    parts = [torch.autograd.grad(s, leaf, retain_graph=True, materialize_grads=True)[0] for s in sums]
    return torch.stack(parts)


@torch.no_grad()
def check(
    f: Numbers,
    x: Tensor,
    v: Tensor,
    gradients: Tensor,
    *,
    terms: Tensor | None = None,
    steps: Sequence[float] = STEPS,
) -> Checked:
    """The derivatives of f at x along v, both ways.

    Args:
        f: computes in float64.
        x: points (B, ...), float64.
        v: directions (B, ...), float64.
        gradients: what backprop says of f at x, (M, B, ...).
        terms: size (B, 1) or (B, M) of the numbers that f is a difference of, whose rounding it has; None for f's own.
        steps: h, in descending order.
    """
    size = torch.linalg.vector_norm(v.flatten(1), dim=1)[:, None]  # (B, 1)
    backprop = (gradients * v).flatten(2).sum(2).T  # (B, M)
    typical = torch.linalg.vector_norm(gradients.flatten(2), dim=2).T * size / math.sqrt(x[0].numel())
    here = f(x)
    central, error = torch.zeros_like(here), torch.zeros_like(here)
    kink, flat = (torch.ones_like(here, dtype=torch.bool) for _ in range(2))
    known = here.abs() if terms is None else here.abs().maximum(terms)
    for h in steps:
        up, down, up_half, down_half = (f(x + part * h * v) for part in (1.0, -1.0, 0.5, -0.5))
        wide, near = (up - down) / (2 * h), (up_half - down_half) / h
        bend, bend_half = (up - 2 * here + down) / h, (up_half - 2 * here + down_half) / (0.5 * h)
        floor = _ROUNDING * torch.stack([known, up.abs(), down.abs()]).amax(0) / h / _RESOLVED
        slope = wide.abs().maximum(near.abs()).maximum(floor)
        smooth = ((wide - near).abs() <= _SMOOTH * slope) & ((bend - 2 * bend_half).abs() <= 2 * _SMOOTH * slope)
        scale = torch.stack([backprop.abs(), wide.abs(), near.abs(), typical]).amax(0)
        told = scale > floor
        scale = scale.maximum(floor).clamp(min=1e-300)
        central = torch.where(kink, near, central)
        error = torch.where(kink, (near - backprop).abs() / scale, error)
        flat = torch.where(kink, ~told, flat)
        kink = kink & ~smooth
        if not kink.any():
            break
    none = ~backprop.isfinite() & central.isfinite() & here.isfinite()
    return Checked(backprop, central, error.masked_fill(none, math.inf), kink & ~none, flat & ~kink & ~none)


def directions(shape: Sequence[int], generator: torch.Generator, random: int, coordinates: int) -> Tensor:
    """Unit directions (n, *shape): normal ones first, then single coordinates, drawn without repeats."""
    numbers = math.prod(shape)
    normal = torch.randn(random, numbers, generator=generator, dtype=torch.float64)
    normal = normal / torch.linalg.vector_norm(normal, dim=1, keepdim=True)
    single = torch.zeros(min(coordinates, numbers), numbers, dtype=torch.float64)
    single[torch.arange(len(single)), torch.randperm(numbers, generator=generator)[: len(single)]] = 1.0
    return torch.cat([normal, single]).view(-1, *shape)
