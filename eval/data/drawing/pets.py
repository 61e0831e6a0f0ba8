"""A cat and a dog: the head alone, or the whole animal sitting."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from eval.data.drawing.colours import BLACK, PINK, RGB, WHITE, coat, dark, hsv, light, mix, near, paint
from eval.data.drawing.outline import Points, arc, ellipse, polygon, smooth, symmetric, turned
from eval.data.drawing.pen import Pen

_EYES: tuple[RGB, ...] = ((150, 190, 70), (222, 178, 60), (96, 160, 200), (190, 120, 50))


@dataclass(frozen=True)
class Fur:
    """How an animal is coloured: `base` all over, `pale` on belly, muzzle and paws, `mark` in stripes and patches."""

    base: RGB
    pale: RGB
    mark: RGB
    marked: bool
    eye: RGB

    @classmethod
    def drawn(cls, rng: Random, marked: float) -> Fur:
        """Fur that has marks with the probability `marked`."""
        base = coat(rng)
        pale = rng.choice((light(base, 0.35), light(base, 0.75), WHITE, base))
        return cls(base, pale, dark(base, rng.uniform(0.35, 0.6)), rng.random() < marked, near(rng, rng.choice(_EYES)))


def _stripes(pen: Pen, fur: Fur, where: Points, across: list[tuple[float, float, float]]) -> None:
    """Tapering stripes (y, from, to) within an outline."""
    with pen.inside(where):
        for y, x0, x1 in across:
            pen.fill(polygon((x0, y - 0.055), (x1, y + 0.02), (x0, y + 0.055)), fur.mark, line=False)


def cat(pen: Pen, rng: Random) -> None:
    """Pricked ears, slit pupils, whiskers, often stripes; sitting with its tail beside it, or its head alone."""
    fur = Fur.drawn(rng, 0.6)
    if rng.random() < 0.4:
        _cat_head(pen.at(0, 0.12, 0.86, rng.uniform(-8, 8)), rng, fur)
        return
    lean = rng.uniform(-0.06, 0.06)
    _cat_tail(pen, rng, fur)
    body = symmetric((0, -0.25), (0.26, -0.15), (0.36, 0.25), (0.53, 0.62), (0.48, 0.92), (0.2, 0.97), (0, 0.97))
    pen.fill(body, fur.base)
    if fur.marked:
        sides = [(y, s * 0.6, s * 0.24) for y in (0.2, 0.4, 0.6) for s in (-1, 1)]
        _stripes(pen, fur, body, sides)
    pen.fill(symmetric((0, -0.15), (0.17, 0), (0.2, 0.3), (0, 0.55)), fur.pale, line=False)
    for side in (-1, 1):
        leg = smooth([(side * 0.04, 0.3), (side * 0.22, 0.3), (side * 0.24, 0.8), (side * 0.05, 0.8)])
        pen.fill(leg, light(fur.base, 0.08), line=False)
        pen.fill(ellipse(side * 0.15, 0.9, 0.14, 0.085), fur.pale)
        pen.fill(ellipse(side * 0.42, 0.92, 0.15, 0.07), fur.base)
        pen.stroke(polygon((side * 0.24, 0.45), (side * 0.27, 0.82)), 0.025, dark(fur.base, 0.35))
    pen.stroke(polygon((0, 0.4), (0, 0.86)), 0.025, dark(fur.base, 0.4))
    if rng.random() < 0.3:
        _collar(pen, rng, 0.27, -0.09)
    _cat_head(pen.at(lean, -0.4, 0.5, rng.uniform(-14, 14)), rng, fur)


def _cat_tail(pen: Pen, rng: Random, fur: Fur) -> None:
    side, lift = rng.choice((-1, 1)), rng.uniform(-0.25, 0.35)
    knots = [(0.3, 0.88), (0.66, 0.86), (0.8, 0.55 - lift / 2), (0.7, 0.25 - lift), (0.84, 0.02 - lift)]
    tail = smooth([(side * x, y) for x, y in knots], closed=False)
    if pen.ink:
        pen.stroke(tail, 0.15 + 2 * pen.ink, dark(fur.base, 0.6))
    pen.stroke(tail, 0.15, fur.base)
    pen.stroke(tail[-5:], 0.15, rng.choice((fur.pale, fur.mark)))
    if fur.marked:
        for i in (8, 12, 16):
            pen.stroke(tail[i : i + 2], 0.15, fur.mark, round_ends=False)


def _cat_head(pen: Pen, rng: Random, fur: Fur) -> None:
    """In coordinates where the head is about 1 wide to either side."""
    ear, spread = rng.uniform(0.95, 1.2), rng.uniform(0.88, 1.02)
    for side in (-1, 1):
        tip = (side * 0.78 * spread, -1.12 * ear)
        pen.fill(
            smooth([(side * 0.95, -0.1), (side * 0.92, -0.6), tip, tip, (side * 0.4, -0.86), (side * 0.2, -0.5)]),
            fur.base,
        )
        inner = [(side * 0.82, -0.45), (side * 0.75 * spread, -0.96 * ear), (side * 0.44, -0.72)]
        pen.fill(polygon(*inner), mix(PINK, fur.base, 0.25), line=False)
    head = symmetric((0, -0.8), (0.45, -0.75), (0.86, -0.4), (1.0, 0.1), (0.78, 0.52), (0.3, 0.76), (0, 0.78))
    pen.fill(head, fur.base)
    if fur.marked:
        with pen.inside(head):
            for x in (-0.3, 0, 0.3):
                pen.fill(
                    polygon((x * 1.2 - 0.09, -0.9), (x * 1.2 + 0.09, -0.9), (x * 0.7, -0.38)), fur.mark, line=False
                )
        _stripes(pen, fur, head, [(y, s * 1.05, s * 0.68) for y in (0.12, 0.36) for s in (-1, 1)])
    pen.fill(ellipse(-0.2, 0.4, 0.29, 0.24), fur.pale, line=False)
    pen.fill(ellipse(0.2, 0.4, 0.29, 0.24), fur.pale, line=False)
    _cat_face(pen, rng, fur)


def _cat_face(pen: Pen, rng: Random, fur: Fur) -> None:
    shut, look, slit = rng.random() < 0.15, rng.uniform(-0.05, 0.05), rng.uniform(0.06, 0.14)
    line = dark(fur.base, 0.75)
    for side in (-1, 1):
        x = side * 0.42
        if shut:
            pen.stroke(arc(x, -0.16, 0.2, 0.16, 20, 160), 0.07, line)
            continue
        pen.fill(ellipse(x, -0.1, 0.235, 0.22, side * -12), line, line=False)
        pen.fill(ellipse(x, -0.1, 0.19, 0.18, side * -12), fur.eye, line=False)
        pen.fill(ellipse(x + look, -0.1, slit, 0.17), BLACK, line=False)
        pen.dot(x + look + 0.06, -0.18, 0.05, WHITE)
    pen.fill(
        smooth([(-0.12, 0.19), (0, 0.16), (0.12, 0.19), (0, 0.34)]),
        mix(PINK, BLACK, rng.uniform(0.05, 0.5)),
        line=False,
    )
    for side in (-1, 1):
        pen.stroke(arc(side * 0.14, 0.38, 0.14, 0.14, 10, 170), 0.045, line)
        for y, rise in ((0.3, -0.14), (0.4, 0), (0.5, 0.14)):
            whisker = polygon((side * 0.4, y), (side * rng.uniform(1.12, 1.3), y + rise))
            pen.stroke(whisker, 0.028, rng.choice((WHITE, WHITE, light(line, 0.3))))


def dog(pen: Pen, rng: Random) -> None:
    """Hanging ears, a long muzzle with a big nose, often the tongue out; sitting, or its head alone."""
    fur = Fur.drawn(rng, 0.5)
    if rng.random() < 0.4:
        _dog_head(pen.at(0, 0.0, 0.9, rng.uniform(-12, 12)), rng, fur)
        return
    side, wag = rng.choice((-1, 1)), rng.uniform(-20, 20)
    tail = turned(smooth([(0, 0), (0.25, -0.12), (0.36, -0.42)], closed=False), wag) * (side, 1) + (side * 0.4, 0.8)
    if pen.ink:
        pen.stroke(tail, 0.12 + 2 * pen.ink, dark(fur.base, 0.6))
    pen.stroke(tail, 0.12, fur.base)
    body = symmetric((0, -0.2), (0.33, -0.1), (0.4, 0.3), (0.5, 0.62), (0.5, 0.93), (0.2, 0.97), (0, 0.97))
    pen.fill(body, fur.base)
    if fur.marked:
        with pen.inside(body):
            pen.fill(ellipse(side * -0.4, rng.uniform(0.2, 0.6), 0.25, 0.3, 30), fur.mark, line=False)
    pen.fill(symmetric((0, -0.1), (0.2, 0.05), (0.2, 0.35), (0, 0.6)), fur.pale, line=False)
    for s in (-1, 1):
        pen.fill(ellipse(s * 0.44, 0.92, 0.19, 0.08), fur.base)
        pen.fill(
            smooth([(s * 0.05, 0.3), (s * 0.28, 0.3), (s * 0.27, 0.85), (s * 0.06, 0.85)]),
            light(fur.base, 0.08),
            line=False,
        )
        pen.fill(ellipse(s * 0.17, 0.92, 0.16, 0.085), fur.pale)
        pen.stroke(polygon((s * 0.28, 0.45), (s * 0.29, 0.84)), 0.025, dark(fur.base, 0.35))
    pen.stroke(polygon((0, 0.45), (0, 0.88)), 0.025, dark(fur.base, 0.4))
    if rng.random() < 0.6:
        _collar(pen, rng, 0.3, -0.02)
    _dog_head(pen.at(rng.uniform(-0.05, 0.05), -0.42, 0.52, rng.uniform(-16, 16)), rng, fur)


def _dog_head(pen: Pen, rng: Random, fur: Fur) -> None:
    head = symmetric((0, -0.82), (0.42, -0.78), (0.66, -0.4), (0.66, 0.1), (0.5, 0.55), (0.36, 0.86), (0, 0.95))
    pen.fill(head, fur.base)
    if fur.marked:
        with pen.inside(head):
            pen.fill(ellipse(rng.choice((-0.36, 0.36)), -0.25, 0.34, 0.42), fur.mark, line=False)
    elif rng.random() < 0.5:
        pen.fill(smooth([(0, -0.8), (0.13, -0.3), (0.1, 0.2), (-0.1, 0.2), (-0.13, -0.3)]), fur.pale, line=False)
    if rng.random() < 0.6:
        _tongue(pen, rng)
    pen.fill(symmetric((0, 0.02), (0.3, 0.1), (0.47, 0.42), (0.34, 0.72), (0, 0.74)), fur.pale, line=False)
    _dog_ears(pen, rng, fur)
    _dog_face(pen, rng, fur)


def _dog_ears(pen: Pen, rng: Random, fur: Fur) -> None:
    """Hanging from high on the head, to the cheeks or lower."""
    colour = rng.choice((fur.mark, fur.mark, dark(fur.base, 0.2), fur.base))
    drop, flare = rng.uniform(0.3, 0.65), rng.uniform(0.9, 1.1)
    for side in (-1, 1):
        knots = [
            (0.34, -0.78),
            (0.66, -0.82),
            (flare, -0.3),
            (flare + 0.02, drop - 0.15),
            (0.84, drop),
            (0.64, 0.05),
            (0.58, -0.4),
        ]
        pen.fill(smooth([(side * x, y) for x, y in knots]), colour)
        pen.stroke(
            smooth([(side * 0.5, -0.62), (side * 0.6, -0.35), (side * 0.66, 0.02)], closed=False),
            0.04,
            dark(colour, 0.4),
        )


def _tongue(pen: Pen, rng: Random) -> None:
    long, x = rng.uniform(0.95, 1.15), rng.uniform(-0.08, 0.08)
    pen.fill(
        smooth([(x - 0.16, 0.6), (x + 0.16, 0.6), (x + 0.15, long - 0.1), (x, long), (x - 0.15, long - 0.1)]),
        (226, 110, 122),
    )
    pen.stroke(polygon((x, 0.7), (x, long - 0.16)), 0.03, (180, 70, 90))


def _dog_face(pen: Pen, rng: Random, fur: Fur) -> None:
    line, look = dark(fur.base, 0.8), rng.uniform(-0.04, 0.04)
    ring = light(fur.base, 0.3)
    for side in (-1, 1):
        x = side * 0.32
        pen.fill(ellipse(x, -0.17, 0.16, 0.17), ring, line=False)
        pen.fill(ellipse(x + look, -0.16, 0.115, 0.13), rng.choice((BLACK, (60, 36, 24))), line=False)
        pen.dot(x + look + 0.04, -0.22, 0.04, WHITE)
        pen.stroke(arc(x, -0.38, 0.13, 0.08, 200, 340), 0.05, line)
    pen.fill(smooth([(-0.2, 0.16), (0, 0.1), (0.2, 0.16), (0.14, 0.32), (0, 0.38), (-0.14, 0.32)]), BLACK, line=False)
    pen.fill(ellipse(-0.06, 0.17, 0.06, 0.025), (150, 150, 158), line=False)
    pen.stroke(polygon((0, 0.36), (0, 0.52)), 0.045, line)
    for side in (-1, 1):
        pen.stroke(arc(side * 0.17, 0.5, 0.17, 0.12, 5, 175), 0.05, line)


def _collar(pen: Pen, rng: Random, half: float, y: float) -> None:
    colour = rng.choice((paint(rng), (196, 44, 44)))
    pen.stroke(smooth([(-half, y), (0, y + 0.1), (half, y)], closed=False), 0.09, colour)
    pen.dot(0, y + 0.17, 0.065, hsv(0.13, 0.6, 0.95))
