"""Images of a run as PNG inside the page: the original, the perturbation magnified, the adversarial one."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]

_LARGEST = 224  # pixels of the longer side in the page
_NICE = (*(m * d for d in (1, 10, 100) for m in (1, 2, 3, 5, 7)), 1000)


def magnification(delta: Array) -> int:
    """The largest factor of 1, 2, 3, 5, 7, 10 .. 1000 at which a perturbation in box units stays within a half.

    >>> magnification(np.array([0.03, -0.01]))
    10
    >>> magnification(np.array([0.12]))
    3
    """
    peak = float(np.abs(delta).max(initial=0.0))
    return max((f for f in _NICE if f * peak <= 0.5), default=1)


def png(image: Array, largest: int = _LARGEST) -> str:
    """An image (C, H, W) with values in 0..1 as a data URI; other numbers of channels than 1 and 3 as their mean.

    Images with more pixels a side than `largest` are made smaller by a whole factor, by taking means.
    """
    pixels = image if image.shape[0] in (1, 3) else image.mean(axis=0, keepdims=True)
    levels = np.rint(np.clip(np.nan_to_num(pixels), 0.0, 1.0) * 255).astype(np.uint8)
    picture = Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    factor = -(-max(picture.size) // largest)
    if factor > 1:
        picture = picture.reduce(factor)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def triptych(x: Array, x_adv: Array, box: tuple[float, float]) -> tuple[str, str, str, int]:
    """Original, perturbation around mid-grey, adversarial image as data URIs, and the factor of the perturbation.

    Args:
        x: the original (C, H, W), in box units.
        x_adv: the adversarial image, likewise.
        box: least and greatest value of a pixel.
    """
    low, width = box[0], box[1] - box[0]
    before, after = (x - low) / width, (x_adv - low) / width
    delta = after - before
    factor = magnification(delta)
    return png(before), png(0.5 + factor * delta), png(after), factor
