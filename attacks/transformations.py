"""Random transformations of images: what light, a printer, a camera and a file do to a picture.

Each draws its parameters from the stream of each sample, so that what happens to one image depends on no other of the
batch. A strength says how far a parameter may go; at 0 an image stays as it is. Gradients flow through: a warp is
bilinear sampling, a blur a convolution, and light and noise are products and sums. Backwards two things count as the
identity (BPDA, straight-through): what cuts values off at black and white, and JPEG, which is a real codec, whose
rounding has no derivative.

Sources: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world", 2016 (arXiv 1607.02533), which
print, photograph and crop, and brighten, blur and compress; Athalye, Engstrom, Ilyas and Kwok, "Synthesizing robust
adversarial examples", ICML 2018 (arXiv 1707.07397); BPDA: Athalye, Carlini and Wagner, ICML 2018 (arXiv 1802.00420).
Departures: lengths are shares of the larger side, so that a strength means the same for 8 pixels as for 299. What lies
beyond the edge of an image continues it, where Athalye et al. show a background.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from attacks.draws import check, part, signed
from attacks.rng import Rng
from attacks.warp import Warp

_GREY = (0.2989, 0.587, 0.114)  # luma of red, green and blue, as torchvision has it
_SHARPEST = 1e-3  # pixels: a blur below is none


class Transformation(Protocol):
    """What makes random images of images."""

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Images (B, C, H, W) in 0..1 from such images, one stream of `rng` each."""


def _each(values: Tensor) -> Tensor:
    """Values (B,) to be multiplied with images."""
    return values.view(-1, 1, 1, 1)


def _passed(value: Tensor, x: Tensor) -> Tensor:
    """`value`, with the derivative of `x`."""
    return value + (x - x.detach())


def _cut_off(x: Tensor) -> Tensor:
    """Values in 0..1, with the derivative of the identity.

    The true one is 0 at and beyond black, where the background of a digit lies: no attack would ever move it.
    """
    return _passed(x.detach().clamp(0, 1), x)


def grey(x: Tensor) -> Tensor:
    """Mean luma (B, 1, 1, 1) of images (B, C, H, W)."""
    weights = x.new_tensor(_GREY if x.shape[1] == 3 else [1 / x.shape[1]] * x.shape[1])
    return (x * weights.view(1, -1, 1, 1)).sum(1, keepdim=True).mean(dim=(2, 3), keepdim=True)


@dataclass(frozen=True)
class Brightness:
    """More or less light: pixels times 1 + u, |u| <= strength; `fixed`: |u| is the strength."""

    strength: float
    fixed: bool = False

    def __post_init__(self) -> None:
        check("brightness", self.strength, 1.0)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Brighter or darker images."""
        return _cut_off(x * _each(1 + self.strength * signed(rng, 1, self.fixed)).to(x.dtype))


@dataclass(frozen=True)
class Contrast:
    """More or less contrast: distances from the image's mean luma times 1 + u, |u| <= strength."""

    strength: float
    fixed: bool = False

    def __post_init__(self) -> None:
        check("contrast", self.strength, 1.0)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Images of more or less contrast."""
        factor = _each(1 + self.strength * signed(rng, 1, self.fixed)).to(x.dtype)
        return _cut_off(x * factor + grey(x) * (1 - factor))


@dataclass(frozen=True)
class Colour:
    """Inks and white balance: each channel times its own 1 + u, |u| <= strength."""

    strength: float
    fixed: bool = False

    def __post_init__(self) -> None:
        check("colour", self.strength, 1.0)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Images with another tint."""
        gain = 1 + self.strength * signed(rng, x.shape[1], self.fixed)  # (B, C)
        return _cut_off(x * gain[:, :, None, None].to(x.dtype))


def _normal(rng: Rng, shape: torch.Size) -> Tensor:
    """Standard normal values of a shape (B, ...), two of each pair of uniform ones: half the work of `Rng.normal`."""
    half = (shape[1:].numel() + 1) // 2
    radius, angle = rng.uniform(2, half).unbind(1)
    radius, angle = (-2 * torch.log1p(-radius)).sqrt(), 2 * math.pi * angle
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, : shape[1:].numel()].view(shape)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise whose standard deviation is uniform up to the strength, or the strength."""

    strength: float
    fixed: bool = False

    def __post_init__(self) -> None:
        check("noise", self.strength, 1.0)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Noisy images."""
        sigma = _each(self.strength * part(rng.fold(0), 1, self.fixed))
        return _cut_off(x + (sigma * _normal(rng.fold(1), x.shape)).to(x.dtype))


def blurred(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Images (B, C, H, W) after a Gaussian kernel of standard deviation `sigma` (B,) and that radius, in pixels."""
    b, c, h, w = x.shape
    taps = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma.to(x.dtype).clamp(min=_SHARPEST)[:, None]).square())  # (B, taps)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)[:, None]  # (B*C, 1, taps)
    out = F.pad(x.reshape(1, b * c, h, w), [radius] * 4, mode="replicate")
    out = F.conv2d(out, kernel[:, :, :, None], groups=b * c)
    return F.conv2d(out, kernel[:, :, None, :], groups=b * c).view(b, c, h, w)


@dataclass(frozen=True)
class Blur:
    """Out of focus: a Gaussian whose standard deviation is uniform up to the strength, a share of the larger side."""

    strength: float
    fixed: bool = False

    def __post_init__(self) -> None:
        check("blur", self.strength, 0.1)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Blurred images."""
        most = self.strength * max(x.shape[2:])
        if most < _SHARPEST:
            return x
        return _cut_off(blurred(x, most * part(rng, 1, self.fixed)[:, 0], max(1, math.ceil(3 * most))))


def _codec(image: Tensor, quality: int) -> Tensor:
    """One image (C, H, W) in 0..1 after JPEG; in grey channel by channel unless there are three."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
    pages = [pixels.transpose(1, 2, 0)] if len(pixels) == 3 else list(pixels)
    out = []
    for page in pages:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(page)).save(file, "JPEG", quality=quality)
        back = np.asarray(Image.open(file))
        out.append(back.transpose(2, 0, 1) if back.ndim == 3 else back[None])
    return torch.from_numpy(np.concatenate(out)).to(image.device, image.dtype) / 255


@dataclass(frozen=True)
class JPEG:
    """Saved as a JPEG of quality 100 (1 - u), u uniform up to the strength, or the strength; backwards the identity."""

    strength: float
    fixed: bool = False

    def __post_init__(self) -> None:
        check("jpeg", self.strength, 0.99)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Images as they come back from the file."""
        if self.strength == 0:
            return x
        quality = (100 * (1 - self.strength * part(rng, 1, self.fixed)[:, 0])).round().long().tolist()
        files = torch.stack([_codec(image, max(1, q)) for image, q in zip(x, quality, strict=True)])
        return _passed(files, x)


@dataclass(frozen=True)
class Composed:
    """One after the other, each with streams of its own."""

    steps: tuple[Transformation, ...]

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Images after all of them."""
        for i, step in enumerate(self.steps):
            x = step(x, rng.fold(i))
        return x


def print_and_photograph(strength: float = 1.0) -> Composed:
    """A picture printed, photographed by hand, cropped and saved; at a strength of 1 in the ranges of a careful user.

    Inks and white balance 10% a channel; the camera turned by 6 degrees, tilted so that opposite edges differ by 10%,
    5% nearer or farther, and cropped 2% beside the print; contrast and exposure 15%; out of focus by 0.3% of the side
    (a pixel of 299); sensor noise 2% (5 of 255); JPEG of quality 70 to 100.
    """
    check("print_and_photograph", strength, 3.0)
    s = strength
    return Composed(
        (
            Colour(0.10 * s),
            Warp(rotation=6.0 * s, perspective=0.05 * s, scale=0.05 * s, shift=0.02 * s),
            Blur(0.0033 * s),
            Contrast(0.15 * s),
            Brightness(0.15 * s),
            Noise(0.02 * s),
            JPEG(0.30 * s),
        )
    )


NAMED: Mapping[str, Callable[[float, bool], Transformation]] = MappingProxyType(
    {
        "brightness": Brightness,
        "contrast": Contrast,
        "colour": Colour,
        "blur": Blur,
        "noise": Noise,
        "jpeg": JPEG,
        "rotation": lambda strength, fixed: Warp(rotation=strength, fixed=fixed),
        "perspective": lambda strength, fixed: Warp(perspective=strength, fixed=fixed),
        "scale": lambda strength, fixed: Warp(scale=strength, fixed=fixed),
        "shift": lambda strength, fixed: Warp(shift=strength, fixed=fixed),
        "print_and_photograph": lambda strength, _: print_and_photograph(strength),
    }
)
"""By name: (strength, fixed) -> transformation."""


def named(name: str, strength: float, *, fixed: bool = False) -> Transformation:
    """The transformation of that name; `fixed` at full strength each time, except for a composition.

    Raises:
        ValueError: there is none, or not of that strength.
    """
    if name not in NAMED:
        raise ValueError(f"transformations: must be of {', '.join(NAMED)}, got {name!r}")
    return NAMED[name](float(strength), fixed)
