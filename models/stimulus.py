"""The image that a direction of a layer responds to most, among those no further from a centre than real images are.

    max <phi(x), v>   subject to   ||x - c||_2 <= r,   x in the box

by projected ascent: normalised gradient steps whose length falls from r / 4 to nothing, each followed by the projection
to the ball and then to the box, which holds the centre, so that both hold; the best point on the way is returned.
Where the response has no gradient, as that of a silent unit, the ascent goes back to the best point so far. For a
linear response the optimum is x = clip(c + t v) with the t at which the bound is met, or all that can be is at its end
of the box.

Source: Q. V. Le et al., "Building high-level features using large scale unsupervised learning", ICML 2012
(arXiv 1112.6209), section 4, on visualization: the optimal stimulus under a bound on the norm.
Departures: the bound is on the distance from a mean image, in place of a norm of 1, so that the optimum may be
compared with real images; the box is kept. The same image may be found by other regularisers too: see
`models.visualise`.
Cost: `steps` forwards and backwards an image, and one forward more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Response = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) -> what is to be made large, (B,), each of its own image alone."""


def within(x: Tensor, centre: Tensor, radius: float, box: tuple[float, float]) -> Tensor:
    """Images (B, C, H, W) no further than `radius` from the centre (C, H, W), which lies in the box."""
    step = x - centre
    size = step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    inside: Tensor = (centre + step * (radius / size.clamp_min(1e-30)).clamp_max(1.0)).clamp(*box)
    return inside


def stimulus(
    response: Response,
    start: Tensor,
    centre: Tensor,
    radius: float,
    box: tuple[float, float] = (0.0, 1.0),
    steps: int = 100,
    instead: Tensor | None = None,
) -> Tensor:
    """Images (B, C, H, W) with the largest responses that were found.

    Args:
        response: see above; gradients flow through it.
        start: images (B, C, H, W), such as the centre with a little noise.
        centre: (C, H, W), in the box.
        radius: greatest L2 distance from the centre, in box units.
        box: least and greatest value of a pixel.
        steps: of the ascent.
        instead: images (B, C, H, W) to start from where the response has no gradient at `start`; None for none.
    """
    x = within(start, centre, radius, box)
    best, highest = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    for i in range(steps + 1):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            r = response(leaf)
        better = r.detach() > highest
        highest = torch.where(better, r.detach(), highest)
        best[better] = x[better]
        if i == steps:
            break
        (gradient,) = torch.autograd.grad(r.sum(), leaf)
        length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        stride = 0.25 * radius * (1 - i / steps)
        further = within(x + stride * gradient / length.clamp_min(1e-30), centre, radius, box)
        back = best if i or instead is None else within(instead, centre, radius, box)
        x = torch.where(length > 0, further, back)
    return best
