"""What stands behind a thing, and what falls on it: backgrounds, shadows, light."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from eval.data.drawing.colours import RGB, hsv, mix

Array = npt.NDArray[np.floating[Any]]

KINDS = ("plain", "gradient", "stripes", "dots", "checks", "blobs", "noise", "room")
_DISTANCE = 90.0  # between the colours of a thing and of its background, of 255


def blurred(values: Array, radius: float) -> Array:
    """Values (H, W) of 0 to 1, blurred by `radius` pixels, to 8 bits."""
    image = Image.fromarray(np.round(values * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def cloud(draw: np.random.Generator, side: int, cells: int) -> Array:
    """Smooth noise (side, side) of 0 to 1, with about `cells` blobs a side."""
    coarse = Image.fromarray(draw.integers(256, size=(cells, cells), dtype=np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255


def moved(values: Array, down: int, right: int) -> Array:
    """Values (H, W), moved by whole pixels; what comes in is 0."""
    image = Image.fromarray(values).transform(values.shape[::-1], Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))
    return np.asarray(image)


def grid(side: int) -> tuple[Array, Array]:
    """The pixels' centres, 0 to 1: x (1, side) and y (side, 1)."""
    t = (np.arange(side, dtype=np.float32) + 0.5) / side
    return t[None, :], t[:, None]


def unlike(rng: Random, colour: RGB) -> RGB:
    """A background's colour that is told apart from the given one."""
    for _ in range(20):
        found = hsv(rng.random(), rng.uniform(0.03, 0.65), rng.uniform(0.25, 0.97))
        if sum((a - b) ** 2 for a, b in zip(found, colour, strict=True)) > _DISTANCE**2:
            break
    return found


def backdrop(rng: Random, draw: np.random.Generator, side: int, thing: RGB) -> Array:
    """A background (side, side, 3) of 0 to 1 for a thing of about the colour `thing`."""
    one = unlike(rng, thing)
    other = mix(one, unlike(rng, thing), rng.uniform(0.25, 0.7))
    share = _share(rng, draw, rng.choice(KINDS), side)[..., None]
    pair = np.array([one, other], dtype=np.float32) / 255
    image: Array = pair[0] + share * (pair[1] - pair[0])
    return image


def _share(rng: Random, draw: np.random.Generator, kind: str, side: int) -> Array:
    """How much (side, side) of the second colour there is at each pixel."""
    x, y = grid(side)
    turn = rng.uniform(0, 2 * np.pi)
    u = np.float32(np.cos(turn)) * (x - 0.5) + np.float32(np.sin(turn)) * (y - 0.5)  # (side, side), about -.7 to .7
    v = np.float32(np.cos(turn)) * (y - 0.5) - np.float32(np.sin(turn)) * (x - 0.5)
    count = rng.uniform(3, 9)
    if kind == "plain":
        share = np.zeros((side, side), np.float32)
    elif kind == "gradient":
        share = np.clip(u + 0.5, 0, 1)
    elif kind == "stripes":
        share = _edge(np.sin(2 * np.pi * count * u) + rng.uniform(-0.5, 0.5), side / count)
    elif kind == "dots":
        share = _edge(
            np.cos(2 * np.pi * count * u) + np.cos(2 * np.pi * count * v) - rng.uniform(0.5, 1.2), side / count
        )
    elif kind == "checks":
        share = _edge(np.sin(np.pi * count * u) * np.sin(np.pi * count * v) * 2, side / count)
    elif kind == "blobs":
        share = cloud(draw, side, rng.randint(3, 6))
    elif kind == "noise":
        share = 0.5 * cloud(draw, side, rng.randint(8, 20)) + 0.5 * draw.random((side, side), dtype=np.float32)
    else:
        floor = np.float32(rng.uniform(0.6, 0.85))
        share = np.clip((y - floor) * side + 0.5, 0, 1) * (0.75 + 0.25 * y) + 0 * x
    return share.astype(np.float32)


def _edge(wave: Array, period: float) -> Array:
    """1 where the wave is above 0, with an edge about a pixel wide."""
    return np.clip(wave * period / 6 + 0.5, 0, 1)
