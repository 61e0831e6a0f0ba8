"""Colours as (red, green, blue) of 0 to 255."""

from __future__ import annotations

import colorsys
from random import Random

RGB = tuple[int, int, int]

WHITE: RGB = (250, 249, 245)
BLACK: RGB = (28, 26, 30)
PINK: RGB = (232, 150, 150)
STEEL: RGB = (196, 200, 206)

COATS: tuple[RGB, ...] = (
    (226, 148, 72), (205, 120, 52), (140, 134, 130), (98, 96, 102), (58, 54, 56), (240, 232, 220), (216, 186, 148),
    (150, 104, 70), (112, 78, 56), (186, 166, 146), (232, 200, 140),
)  # fmt: skip
WOODS: tuple[RGB, ...] = (
    (168, 112, 64), (120, 76, 46), (206, 160, 106), (92, 60, 44), (186, 134, 88), (222, 188, 142),
)  # fmt: skip


def hsv(hue: float, saturation: float, value: float) -> RGB:
    """A colour of the given hue, 0 to 1 around the circle."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value)))
    return round(255 * r), round(255 * g), round(255 * b)


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """`share` of the other colour, the rest of the one."""
    r, g, b = (round(a + share * (c - a)) for a, c in zip(one, other, strict=True))
    return r, g, b


def dark(colour: RGB, share: float = 0.3) -> RGB:
    """Towards black, and a little towards blue, as shadows are."""
    return mix(colour, (18, 14, 28), share)


def light(colour: RGB, share: float = 0.4) -> RGB:
    """Towards white."""
    return mix(colour, (255, 253, 246), share)


def near(rng: Random, colour: RGB, spread: int = 14) -> RGB:
    """A colour like the given one."""
    r, g, b = (min(255, max(0, c + rng.randint(-spread, spread))) for c in colour)
    return r, g, b


def coat(rng: Random) -> RGB:
    """The fur of a pet."""
    return near(rng, rng.choice(COATS), 9)


def wood(rng: Random) -> RGB:
    """Stained wood."""
    return near(rng, rng.choice(WOODS), 10)


def paint(rng: Random) -> RGB:
    """Lacquer: bright, of any hue."""
    return hsv(rng.random(), rng.uniform(0.45, 0.9), rng.uniform(0.6, 0.95))


def pastel(rng: Random) -> RGB:
    """Pale, of any hue."""
    return hsv(rng.random(), rng.uniform(0.05, 0.35), rng.uniform(0.85, 1.0))


def any_of(rng: Random) -> RGB:
    """Mostly bright, sometimes pale, white or dark."""
    return rng.choice((paint, paint, paint, pastel, _neutral))(rng)


def _neutral(rng: Random) -> RGB:
    return near(rng, rng.choice((WHITE, STEEL, (70, 72, 80), (150, 152, 158))), 8)
