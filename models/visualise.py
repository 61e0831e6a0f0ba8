"""Images that excite a unit of a network most: ascent from grey noise, kept an image by regularisers.

    d = g / rms(g) - variation * grad TV(x),   g = gradient of the score by the image, shifted at random and back
    x <- regularised(clip(x + step * d, box))

The regularisers, each of them optional, work on the image minus grey, the middle of the box: it shrinks (`decay`), is
blurred (`blur`), and its pixels of the smallest norm or the smallest contribution |g * x| become grey (`clip`,
`contribution`), the last three every few steps.

Source: D. Erhan et al., "Visualizing higher-layer features of a deep network", 2009, for the ascent; J. Yosinski et
al., "Understanding neural networks through deep visualization", 2015 (arXiv 1506.06579), section 3, for decay, blur and
both clippings; A. Mahendran and A. Vedaldi, CVPR 2015 (arXiv 1412.0035), for total variation and A. Mordvintsev et al.,
"Inceptionism", 2015, for shifts; F. Chollet, "How convolutional neural networks see the world", 2016, for the start in
noise of 20/255 and for the normalised gradient of a map's mean.
Departures: images stay in their box, and within `radius` of grey where one is given. The gradient is divided by its
root mean square alone, so that a network scaled by any factor gets the same image. Where it is 0, as it is behind a
ReLU that is silent, noise of a greater width takes the image's place. Of all images on the way the one with the
greatest score, as it was seen shifted, is returned.
Cost: per image `steps` forwards and backwards, up to the layer; one forward more for the last image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.classifier import Classifier
from models.errors import ModelError
from models.features import activations
from models.spec import derive

Score = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) -> what each is to make great (B,), row by row."""
NOISE = 20 / 255
"""Width of the noise at the start, as a part of the box."""
_SMOOTH = 1e-3  # of total variation, as a part of the box: where it is rounded off
_REACH = 3.0  # standard deviations of a blur's kernel


@dataclass(frozen=True)
class Ascent:
    """How an image is made.

    Attributes:
        steps: of the ascent.
        step: root mean square of a step, as a part of the width of the box.
        decay: part of the image minus grey that a step takes away.
        blur: standard deviation in pixels; 0 for none.
        variation: weight of total variation, beside a gradient whose root mean square is 1.
        shift: greatest number of pixels by which the image is shifted in a step, around its borders.
        clip: share of the pixels that become grey for their small norm.
        contribution: the same for their small contribution.
        every: steps between blurs and clippings.
        radius: greatest root mean square of the image minus grey, as a part of the width of the box; None for any.
    """

    steps: int = 64
    step: float = 0.03
    decay: float = 0.01
    blur: float = 0.5
    variation: float = 0.0
    shift: int = 1
    clip: float = 0.0
    contribution: float = 0.0
    every: int = 4
    radius: float | None = None

    def __post_init__(self) -> None:
        for key, holds, must in (
            ("steps", self.steps >= 1, "at least 1"),
            ("step", self.step > 0, "> 0"),
            ("decay", 0 <= self.decay < 1, "in [0, 1)"),
            ("blur", 0 <= self.blur < math.inf, ">= 0 pixels"),
            ("variation", 0 <= self.variation < math.inf, ">= 0"),
            ("shift", self.shift >= 0, ">= 0 pixels"),
            ("clip", 0 <= self.clip < 1, "in [0, 1)"),
            ("contribution", 0 <= self.contribution < 1, "in [0, 1)"),
            ("every", self.every >= 1, "at least 1"),
            ("radius", self.radius is None or self.radius > 0, "> 0"),
        ):
            if not holds:
                raise ModelError(f"ascent.{key}: must be {must}, got {getattr(self, key)}")

    def __call__(self, score: Score, start: Tensor, bounds: tuple[float, float], seeds: Sequence[int]) -> Tensor:
        """Images (B, C, H, W) with a great score, row i of them depending on row i of what is given alone.

        Args:
            score: what to make great; gradients flow from it to the images.
            start: (B, C, H, W) in box units.
            bounds: least and greatest value of a pixel.
            seeds: (B,) of the shifts, and of the noise where there is no gradient.
        """
        low, high = bounds
        grey, width = (low + high) / 2, high - low
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        x, best = self._kept(start, grey, width), start.clone()
        record = torch.full((len(start),), -torch.inf, dtype=start.dtype, device=start.device)
        for step in range(self.steps):
            shifts = _shifts(draws, self.shift)
            with torch.enable_grad():
                leaf = _shifted(x, shifts).detach().requires_grad_()
                value = score(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            best, record = _better(x, value.detach(), best, record)
            gradient = _shifted(gradient, [(-down, -right) for down, right in shifts])
            size = gradient.flatten(1).square().mean(1).sqrt()  # (B,)
            silent = ~(size > 0)
            ahead = gradient / torch.where(silent, 1.0, size).view(-1, 1, 1, 1)
            if self.variation:
                ahead = ahead - self.variation * _variation_gradient(x, width)
            x = x + self.step * width * ahead
            x = self._regularised(x, gradient, grey, (step + 1) % self.every == 0)
            if bool(silent.any()):
                rows = silent.nonzero()[:, 0]  # the others' streams stay as they are
                own = [draws[row] for row in rows.tolist()]
                louder = noise(own, x.shape[1:], bounds, min(1.0, NOISE * 2 ** (step + 1)))
                x = x.index_copy(0, rows, louder.to(x))
            x = self._kept(x, grey, width)
        with torch.no_grad():
            best, _ = _better(x, score(x), best, record)
        return best

    def _regularised(self, x: Tensor, gradient: Tensor, grey: float, now: bool) -> Tensor:
        apart = (x - grey) * (1.0 - self.decay)
        if now and self.blur:
            apart = blurred(apart, self.blur)
        if now and self.clip:
            apart = _without_least(apart, apart.square().sum(1), self.clip)
        if now and self.contribution:
            apart = _without_least(apart, (apart * gradient).sum(1).abs(), self.contribution)
        return apart + grey

    def _kept(self, x: Tensor, grey: float, width: float) -> Tensor:
        """Inside the ball around grey, and then inside the box, which holds grey and so leaves nothing outside it."""
        if self.radius is not None:
            apart = x - grey
            size = apart.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
            x = grey + apart * (self.radius * width / size.clamp(min=1e-12)).clamp(max=1.0)
        return x.clamp(grey - width / 2, grey + width / 2)


def _better(x: Tensor, value: Tensor, best: Tensor, record: Tensor) -> tuple[Tensor, Tensor]:
    more = value > record
    return torch.where(more.view(-1, 1, 1, 1), x, best), torch.where(more, value, record)


def noise(
    draws: Sequence[torch.Generator], shape: Sequence[int], bounds: tuple[float, float], share: float = NOISE
) -> Tensor:
    """Grey with uniform noise, of which the width is a `share` of the box's: (B, *shape), one stream a row."""
    low, high = bounds
    drawn = torch.stack([torch.rand(tuple(shape), generator=draw) for draw in draws])
    return (low + high) / 2 + (drawn - 0.5) * share * (high - low)


def _shifts(draws: Sequence[torch.Generator], most: int) -> list[tuple[int, int]]:
    if not most:
        return [(0, 0)] * len(draws)
    pairs = (torch.randint(-most, most + 1, (2,), generator=draw).tolist() for draw in draws)
    return [(down, right) for down, right in pairs]


def _shifted(x: Tensor, shifts: Sequence[tuple[int, int]]) -> Tensor:
    if not any(down or right for down, right in shifts):
        return x
    return torch.stack([one.roll(shift, (-2, -1)) for one, shift in zip(x, shifts, strict=True)])


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Images (B, C, H, W) under a Gaussian of that standard deviation in pixels, mirrored at their borders."""
    for dim in (-2, -1):
        side = x.shape[dim]
        reach = min(side - 1, math.ceil(_REACH * sigma))
        if reach < 1:
            continue
        offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (offsets / sigma).square())
        kernel = (kernel / kernel.sum()).view(1, 1, -1)
        flat = x.transpose(dim, -1).reshape(-1, 1, side)
        flat = F.conv1d(F.pad(flat, (reach, reach), mode="reflect"), kernel)
        turned = list(x.transpose(dim, -1).shape)
        x = flat.view(turned).transpose(dim, -1)
    return x


def _variation_gradient(x: Tensor, width: float) -> Tensor:
    """Gradient (B, C, H, W) of sum sqrt(dx^2 + dy^2 + a small number): of each entry at most 2 sqrt(2) or so."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        across = F.pad(leaf.diff(dim=-1), (0, 1))
        down = F.pad(leaf.diff(dim=-2), (0, 0, 0, 1))
        total = (across.square() + down.square() + (_SMOOTH * width) ** 2).sqrt().sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


def _without_least(apart: Tensor, size: Tensor, share: float) -> Tensor:
    """`apart` (B, C, H, W) with 0 at those pixels, a `share` of all, whose `size` (B, H, W) is least."""
    flat = size.flatten(1)
    leave = int(share * flat.shape[1])
    if not leave:
        return apart
    least = flat.argsort(dim=1, stable=True)[:, :leave]
    keep = torch.ones_like(flat).scatter_(1, least, 0.0).view_as(size)
    return apart * keep[:, None]


def stimuli(
    classifier: Classifier,
    layer: str | None,
    units: Sequence[int],
    ascent: Ascent,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> Iterator[Tensor]:
    """The image for each unit, batch by batch: (b, C, H, W), whatever the batches are.

    Args:
        classifier: whose unit it is.
        layer: its name by `named_modules`; None for the logits.
        units: of the layer: a feature map, by its mean, or a value of a layer without places.
        ascent: how images are made.
        seed: of the noise at the start and the shifts.
        batch_size: images at once.
        device: where the network is.
    """
    for start in range(0, len(units), batch_size):
        some = torch.tensor(list(units[start : start + batch_size]), device=device)
        seeds = [derive(seed, "stimulus", layer or "", unit) for unit in some.tolist()]
        grey = noise([torch.Generator().manual_seed(s) for s in seeds], classifier.input_shape, classifier.bounds)

        def score(x: Tensor, some: Tensor = some) -> Tensor:
            return excitation(classifier, layer, x).gather(1, some[:, None])[:, 0]

        yield ascent(score, grey.to(device), classifier.bounds, [derive(s, "shift") for s in seeds])


def excitation(classifier: Classifier, layer: str | None, x: Tensor) -> Tensor:
    """(B, U): the mean of each feature map of a layer, or its values; logits for None. Gradients flow from it."""
    out = classifier.bare(x) if layer is None else activations(classifier, layer, x)
    return out.flatten(2).mean(2) if out.ndim > 2 else out
