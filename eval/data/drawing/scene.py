"""One picture: a thing in some pose before a background, lit, partly covered, photographed with some noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import numpy as np
import numpy.typing as npt

from eval.data.drawing.backdrop import Array, backdrop, blurred, cloud, grid, moved
from eval.data.drawing.bird_and_fish import bird, fish
from eval.data.drawing.colours import RGB, any_of
from eval.data.drawing.furniture import chair, clock, lamp
from eval.data.drawing.outline import ellipse, smooth
from eval.data.drawing.pen import Canvas, Pen
from eval.data.drawing.pets import cat, dog
from eval.data.drawing.utensils import cup, toaster, umbrella

THINGS: Mapping[str, Callable[[Pen, Random], None]] = {
    "bird": bird, "cat": cat, "chair": chair, "clock": clock, "cup": cup,
    "dog": dog, "fish": fish, "lamp": lamp, "toaster": toaster, "umbrella": umbrella,
}  # fmt: skip
"""Name -> what draws it, with a pen whose thing fills -1..1."""

_TILT: Mapping[str, float] = {"fish": 25.0, "umbrella": 28.0, "bird": 14.0}  # degrees to either side; others: 11
_COVERED = 0.2  # share of pictures in which something stands before the thing


def picture(name: str, key: str, side: int) -> npt.NDArray[np.uint8]:
    """A picture (3, side, side) of a thing.

    Args:
        name: one of `THINGS`.
        key: all that the picture depends on, beside the thing and the side; of its pose, colours and so on, nothing
            depends on the side but the grain.
        side: in pixels.
    """
    rng = Random(f"{name}/{key}")
    draw = np.random.default_rng(rng.getrandbits(64))
    canvas = Canvas(side)
    THINGS[name](_pen(canvas, name, rng), rng)
    thing = canvas.pixels()
    colour, alpha = thing[..., :3], thing[..., 3]
    r, g, b, whole = thing.reshape(-1, 4).sum(0).tolist()
    mean: RGB = (round(255 * r / whole), round(255 * g / whole), round(255 * b / whole))
    image = backdrop(rng, draw, side, mean)
    image = _shadowed(rng, image, alpha)
    image = image * (1 - alpha[..., None]) + _lit(rng, draw, colour, alpha)
    if rng.random() < _COVERED:
        image = _covered(rng, image, side)
    image = _exposed(rng, draw, image)
    return np.round(image * 255).clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def _pen(canvas: Canvas, name: str, rng: Random) -> Pen:
    """Somewhere in the picture, somewhat turned, sheared and stretched, perhaps mirrored."""
    size, tilt = rng.uniform(0.32, 0.46), _TILT.get(name, 11.0)
    room = max(0.0, 0.54 - size)
    ink = rng.choice((0.0, 0.0, 0.03, 0.045))
    return Pen.placed(
        canvas,
        x=0.5 + rng.uniform(-room, room),
        y=0.5 + rng.uniform(-room, room),
        size=size * rng.choice((-1, 1)),
        degrees=rng.uniform(-tilt, tilt),
        shear=rng.uniform(-0.12, 0.12),
        stretch=rng.uniform(0.87, 1.08),
        ink=ink,
    )


def _shadowed(rng: Random, image: Array, alpha: Array) -> Array:
    """A soft shadow to one side and below."""
    side = len(alpha)
    across, down = round(rng.uniform(-0.07, 0.07) * side), round(rng.uniform(0.0, 0.05) * side)
    shadow = moved(blurred(alpha, rng.uniform(0.02, 0.05) * side), down, across)
    return image * (1 - rng.uniform(0.0, 0.55) * shadow[..., None])


def _lit(rng: Random, draw: np.random.Generator, colour: Array, alpha: Array) -> Array:
    """Light from one side on a body that is thicker in its middle, and the grain of its surface."""
    side = len(alpha)
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.5)
    body = blurred(alpha, side / 14)
    down, across = np.gradient(body, 1 / side)
    slope = np.float32(np.cos(turn)) * across + np.float32(np.sin(turn)) * down
    x, y = grid(side)
    fall = rng.uniform(-0.35, 0.35) * (x - 0.5) + rng.uniform(-0.35, 0.35) * (y - 0.5)
    grain = rng.uniform(0.0, 0.16) * (cloud(draw, side, rng.randint(12, 28)) - 0.5)
    gain = 1 + strength * np.clip(slope / 7, -0.7, 0.7) + fall + grain
    return np.minimum(colour * gain[..., None].astype(np.float32), alpha[..., None])


def _covered(rng: Random, image: Array, side: int) -> Array:
    """Something of one colour that reaches in from the edge."""
    canvas = Canvas(side)
    x, y = rng.choice(((0.0, rng.random()), (1.0, rng.random()), (rng.random(), 1.0)))
    pen = Pen.placed(canvas, x, y, rng.uniform(0.1, 0.2), rng.uniform(0, 360), 0, rng.uniform(0.5, 1.5), 0)
    if rng.random() < 0.5:
        pen.fill(ellipse(0, 0, 1), any_of(rng))
    else:
        pen.fill(
            smooth(
                [
                    (rng.uniform(0.5, 1) * a, rng.uniform(0.5, 1) * b)
                    for a, b in ((1, 0), (0.3, 1), (-0.8, 0.6), (-0.8, -0.6), (0.3, -1))
                ]
            ),
            any_of(rng),
        )
    cover = canvas.pixels()
    return image * (1 - cover[..., 3:]) + cover[..., :3]


def _exposed(rng: Random, draw: np.random.Generator, image: Array) -> Array:
    """Contrast, brightness and the noise of a sensor."""
    image = 0.5 + rng.uniform(0.75, 1.1) * (image - 0.5) + rng.uniform(-0.1, 0.1)
    noise = draw.standard_normal(image.shape, dtype=np.float32)
    return (image + rng.uniform(0.0, 0.025) * noise).clip(0, 1).astype(np.float32)
