"""Iterative signed gradients for transfer: with momentum, diverse inputs, smoothed gradients, or none of these.

    g_t = W * grad_x loss(T_t(x_t))                           W: a Gaussian kernel;  T_t: resize and pad, at random
    v_t = mu v_{t-1} + g_t / |g_t|_1
    x_{t+1} = clip_{x, eps}(x_t + alpha sign(v_t)),           alpha = eps / steps

from the image itself, always to the end: what fools the source early fools others late. With all three off it is the
plain iteration, I-FGSM; each alone is MI-FGSM, DI-FGSM or TI-FGSM.

Sources: momentum: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018 (arXiv 1710.06081), algorithm 1;
diversity: Xie et al., "Improving transferability of adversarial examples with input diversity", CVPR 2019
(arXiv 1803.06978), equations 3 and 4; kernel: Dong et al., "Evading defenses to transferable adversarial examples by
translation-invariant attacks", CVPR 2019 (arXiv 1904.02884), equation 7; the loss towards a target: Zhao, Liu and
Larson, "On success and simplicity: a second look at transferable targeted attacks", NeurIPS 2021 (arXiv 2012.11207).
Departures: diverse inputs keep the size of the image, for networks that take no other: they are shrunk and padded,
where Xie et al. enlarge to up to 330 of 299 pixels first. Each image draws its own size and place, by bilinear sampling
(theirs: nearest pixel, one draw a batch). The padding is the middle of the box, as in their code (0 of -1..1).
Cost: `steps` forwards, `steps` backwards per sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Logits
from attacks.goal import Goal
from attacks.losses import Loss, logits_and_gradient, loss_named
from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps


def shrunk(x: Tensor, height: Tensor, width: Tensor, top: Tensor, left: Tensor, fill: float) -> Tensor:
    """Images (B, C, H, W) resized to `height` x `width` (B,) pixels, at `top`, `left` (B,) of a plane of `fill`."""
    rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[2:])
    v = (2 * (rows - top[:, None]) + 1) / height[:, None] - 1  # (B, H), -1..1 inside the resized image
    u = (2 * (columns - left[:, None]) + 1) / width[:, None] - 1  # (B, W)
    shape = (len(x), *x.shape[2:])
    grid = torch.stack([u[:, None, :].expand(shape), v[:, :, None].expand(shape)], dim=-1)  # (B, H, W, 2)
    return F.grid_sample(x - fill, grid, "bilinear", "zeros", align_corners=False) + fill


def diverse(x: Tensor, rng: Rng, probability: float, smallest: float, fill: float) -> Tensor:
    """Images of which each is, with that probability, shrunk to `smallest` or more of its sides, anywhere in its frame.

    Args:
        x: images (B, C, H, W).
        rng: streams of the images.
        probability: of a change, in [0, 1].
        smallest: share of the sides, in (0, 1).
        fill: value of the padding.
    """
    coin, size, down, right = rng.uniform(4).to(x.dtype).unbind(1)
    least = [int(smallest * n) for n in x.shape[2:]]  # below n, for the share is below 1
    height, width = (
        (m + (size * (n - m)).floor()).clamp(min=1) for m, n in zip(least, x.shape[2:], strict=True)
    )  # a whole number of [m, n), as theirs of [299, 330)
    top, left = ((u * (n - s + 1)).floor() for u, n, s in zip((down, right), x.shape[2:], (height, width), strict=True))
    changed = shrunk(x, height, width, top, left, fill)
    return torch.where((coin < probability)[:, None, None, None], changed, x)


def gaussian(side: int, sigma: float | None) -> Tensor:
    """A Gaussian's weights (side,), of sum 1; its standard deviation in pixels, None for a third of the radius."""
    radius = side // 2
    taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (taps / (radius / 3 if sigma is None else sigma)).square())
    return weights / weights.sum()


def smoothed(gradient: Tensor, weights: Tensor) -> Tensor:
    """The gradient (B, C, H, W) convolved with `weights` (side,) along both axes, 0 beyond the edges."""
    b, c, h, w = gradient.shape
    taps = weights.to(gradient)
    planes = gradient.reshape(b * c, 1, h, w)
    planes = F.conv2d(planes, taps.view(1, 1, -1, 1), padding=(len(taps) // 2, 0))
    return F.conv2d(planes, taps.view(1, 1, 1, -1), padding=(0, len(taps) // 2)).view(b, c, h, w)


@dataclass(frozen=True)
class Transferable:
    """I-FGSM with what makes perturbations transfer.

    Attributes:
        steps: gradient steps.
        step_size: length of each, in box units; None for eps / steps.
        momentum: mu, the part of the velocity that is kept; 0 for none, 1 in the paper.
        diversity: probability that an image is resized and padded before the network sees it; 0 for never.
        smallest: least size after resizing, as a share of the sides.
        kernel: side of the Gaussian that smooths the gradient, in pixels, odd; 1 for none.
        sigma: its standard deviation in pixels; None for a third of its radius, as in the authors' code.
        loss: `ce`, `margin` or `logit`; None for `ce` away from the label, as in the papers, and for `logit` towards a
            target, where the gradient of the cross-entropy dies out once the source is sure.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False

    steps: int = 10
    step_size: str | None = None
    momentum: float = 1.0
    diversity: float = 0.5
    smallest: float = 0.9
    kernel: int = 15
    sigma: float | None = None
    loss: str | None = None

    def __post_init__(self) -> None:
        if self.loss is not None:
            loss_named(self.loss)
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")
        if self.step_size is not None and not parse_eps(self.step_size) > 0:
            raise ValueError(f"step_size: must be > 0 in box units, got {self.step_size}")
        if not self.momentum >= 0.0:
            raise ValueError(f"momentum: must be >= 0, got {self.momentum:g}")
        if not 0.0 <= self.diversity <= 1.0:
            raise ValueError(f"diversity: must be a probability in [0, 1], got {self.diversity:g}; 0 for none")
        if not 0.0 < self.smallest < 1.0:
            raise ValueError(f"smallest: must be a share of the sides in (0, 1), got {self.smallest:g}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel: must be an odd number of pixels, got {self.kernel}; 1 for none")
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma: must be > 0 in pixels, got {self.sigma:g}; kernel=1 for none")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """The last points (B, C, H, W), whatever they reach."""
        x = x.detach()
        loss = loss_named(self.loss or ("ce" if goal.targets is None else "logit"))
        length = threat.eps / self.steps if self.step_size is None else parse_eps(self.step_size)
        low, high = threat.room(x)
        delta = torch.zeros_like(low)
        velocity = torch.zeros_like(x)
        for step in range(self.steps):
            gradient = self._gradient(logits, threat.place(x, delta), loss, goal, threat.box, rng.fold(step))
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30)
            velocity = self.momentum * velocity + gradient / size
            delta = delta + threat.table.step(velocity.flatten(1), length, delta, low, high, 0.0)
            delta = threat.table.project(delta, threat.eps, low, high)
        return threat.place(x, delta)

    def _gradient(
        self, logits: Logits, x: Tensor, loss: Loss, goal: Goal, box: tuple[float, float], rng: Rng
    ) -> Tensor:
        """That of the loss at a transformed `x` (B, C, H, W), smoothed."""
        middle = (box[0] + box[1]) / 2 if math.isfinite(box[1] - box[0]) else 0.0

        def seen(images: Tensor) -> Tensor:
            return logits(diverse(images, rng, self.diversity, self.smallest, middle) if self.diversity else images)

        _, gradient = logits_and_gradient(seen, x, loss, goal)
        return gradient if self.kernel == 1 else smoothed(gradient, gaussian(self.kernel, self.sigma))
