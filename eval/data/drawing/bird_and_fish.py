"""A bird on its perch and a fish in the water, from the side."""

from __future__ import annotations

from random import Random

from eval.data.drawing.colours import BLACK, RGB, WHITE, any_of, dark, hsv, light, mix, near, paint, wood
from eval.data.drawing.outline import arc, box, ellipse, polygon, smooth
from eval.data.drawing.pen import Pen


def bird(pen: Pen, rng: Random) -> None:
    """A songbird that looks to the right."""
    back = rng.choice((paint(rng), paint(rng), near(rng, (120, 96, 76))))
    belly = rng.choice((light(back, 0.55), near(rng, (230, 140, 70)), near(rng, (236, 226, 200)), paint(rng)))
    beak = hsv(rng.uniform(0.06, 0.14), rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.0))
    nod, cock = rng.uniform(-14, 14), rng.uniform(-20, 18)
    perch = rng.random() < 0.6
    for x in (-0.08, 0.14):
        pen.stroke(smooth([(x, 0.5), (x + 0.02, 0.66), (x + 0.08, 0.8)], closed=False), 0.05, dark(beak, 0.3))
        for toe in (-0.08, 0.06, 0.18):
            pen.stroke(polygon((x + 0.08, 0.8), (x + 0.08 + toe, 0.86)), 0.04, dark(beak, 0.3))
    if perch:
        pen.stroke(smooth([(-1.05, 0.92), (-0.3, 0.86), (0.4, 0.88), (1.05, 0.8)], closed=False), 0.11, wood(rng))
    tail = pen.at(-0.42, 0.26, 1.0, cock)
    tail.fill(smooth([(0.1, -0.12), (-0.5, 0.02), (-0.62, 0.12), (-0.52, 0.22), (0.1, 0.18)]), dark(back, 0.25))
    tail.stroke(polygon((-0.1, 0.06), (-0.5, 0.13)), 0.03, dark(back, 0.5))
    body = smooth(
        [
            (-0.56, 0.3),
            (-0.3, -0.12),
            (0.1, -0.42),
            (0.42, -0.36),
            (0.54, 0.05),
            (0.36, 0.42),
            (0.02, 0.58),
            (-0.3, 0.52),
        ]
    )
    pen.fill(body, back)
    with pen.inside(body):
        pen.fill(ellipse(0.3, 0.26, 0.44, 0.4, -30), belly, line=False)
    head = pen.at(0.3, -0.46, 0.36, nod)
    _bird_head(head, rng, back, belly, beak)
    _wing(pen.at(-0.06, 0.08, 1.0, rng.uniform(-12, 12)), dark(back, rng.uniform(0.15, 0.35)))


def _bird_head(pen: Pen, rng: Random, back: RGB, belly: RGB, beak: RGB) -> None:
    gape = rng.choice((0.0, 0.0, 0.16))
    if rng.random() < 0.3:
        pen.fill(smooth([(0.1, -0.8), (-0.5, -1.5), (-0.45, -1.0), (-0.9, -1.1), (-0.6, -0.5)]), back)
    pen.fill(polygon((0.75, 0.0), (1.6, 0.2 + gape), (0.7, 0.42)), dark(beak, 0.2))
    pen.fill(smooth([(0.72, -0.3), (1.2, -0.2), (1.7, 0.14 - gape), (1.1, 0.14), (0.7, 0.16)]), beak)
    skull = ellipse(0, 0, 1.0, 0.94)
    pen.fill(skull, back)
    with pen.inside(skull):
        pen.fill(ellipse(0.5, 0.75, 0.75, 0.6, -20), belly, line=False)
    pen.dot(0.34, -0.18, 0.26, rng.choice((WHITE, hsv(0.12, 0.7, 0.95), dark(back, 0.5))))
    pen.dot(0.38, -0.18, 0.19, BLACK)
    pen.dot(0.44, -0.26, 0.07, WHITE)


def _wing(pen: Pen, colour: RGB) -> None:
    pen.fill(
        smooth([(0.22, -0.22), (0.26, 0.04), (0.0, 0.26), (-0.34, 0.34), (-0.66, 0.36), (-0.4, 0.1), (-0.1, -0.18)]),
        colour,
    )
    for shift, tone in ((0.0, light(colour, 0.3)), (0.12, dark(colour, 0.35))):
        feather = smooth(
            [(0.12 - shift, 0.0 + shift), (-0.12, 0.14 + shift / 2), (-0.46, 0.25 + shift / 3)], closed=False
        )
        pen.stroke(feather, 0.04, tone)


def fish(pen: Pen, rng: Random) -> None:
    """Looks to the right; plump or slender, plain, striped, spotted or scaled."""
    body_colour, fin = paint(rng), rng.choice((paint(rng), None))
    fin = fin or dark(body_colour, 0.2)
    tall = rng.uniform(0.34, 0.58)
    _fins(pen, rng, fin, tall)
    body = smooth(
        [(0.86, 0.02), (0.7, -0.55 * tall), (0.3, -tall), (-0.15, -0.86 * tall), (-0.55, -0.25 * tall),
         (-0.55, 0.25 * tall), (-0.15, 0.86 * tall), (0.3, tall), (0.72, 0.55 * tall)]
    )  # fmt: skip
    pen.fill(body, body_colour)
    with pen.inside(body):
        pen.fill(ellipse(0.1, 1.15 * tall, 0.85, 0.62 * tall), light(body_colour, 0.45), line=False)
        _skin(pen, rng, body_colour, tall)
        pen.fill(arc(0.95, 0, 0.55, 1.4 * tall, 100, 260), mix(body_colour, fin, 0.35), line=False)
    pen.stroke(arc(0.62, 0, 0.25, 0.75 * tall, 120, 240), 0.045, dark(body_colour, 0.45))
    side_fin = pen.at(0.16, 0.12, 1.0, rng.uniform(-25, 25))
    side_fin.fill(smooth([(0.06, -0.05), (-0.16, -0.06), (-0.34, 0.1), (-0.2, 0.2), (0.02, 0.12)]), light(fin, 0.15))
    pen.dot(0.62, -0.2 * tall, 0.125, WHITE)
    pen.dot(0.65, -0.2 * tall, 0.075, BLACK)
    pen.dot(0.67, -0.2 * tall - 0.03, 0.025, WHITE)
    pen.stroke(arc(0.86, 0.16 * tall, 0.14, 0.1, 60, 170), 0.04, dark(body_colour, 0.6))
    for i in range(rng.choice((0, 0, 2, 3))):
        bubble = ellipse(0.9 + 0.06 * (i % 2), -0.3 - 0.22 * i, 0.05 + 0.015 * i)
        pen.stroke(bubble, 0.03, WHITE, round_ends=False)


def _fins(pen: Pen, rng: Random, fin: RGB, tall: float) -> None:
    flick = pen.at(-0.48, 0, 1.0, rng.uniform(-10, 10), rng.uniform(0.8, 1.15))
    notch = rng.uniform(-0.38, -0.2)
    flick.fill(
        smooth([(0.08, -0.08), (-0.3, -0.4), (-0.52, -0.42), (notch, 0), (-0.52, 0.42), (-0.3, 0.4), (0.08, 0.08)]), fin
    )
    for y in (-0.2, 0, 0.2):
        flick.stroke(polygon((0, y / 3), (-0.32 if y else notch + 0.05, y * 1.3)), 0.03, dark(fin, 0.3))
    high = rng.uniform(0.2, 0.4)
    pen.fill(smooth([(0.4, -0.85 * tall), (0.1, -tall - high), (-0.28, -tall - 0.7 * high), (-0.4, -0.4 * tall)]), fin)
    pen.fill(
        smooth([(0.2, 0.85 * tall), (-0.06, tall + 0.6 * high), (-0.26, tall + 0.4 * high), (-0.3, 0.5 * tall)]), fin
    )


def _skin(pen: Pen, rng: Random, colour: RGB, tall: float) -> None:
    tone = rng.choice((WHITE, dark(colour, 0.45), any_of(rng)))
    kind = rng.choice(("plain", "bands", "spots", "scales", "line"))
    if kind == "bands":
        for x in (-0.35, -0.02, 0.3):
            pen.fill(box(x - 0.07, -1, x + 0.07, 1), tone, line=False)
    elif kind == "spots":
        for _ in range(9):
            pen.dot(rng.uniform(-0.45, 0.4), rng.uniform(-tall, tall), rng.uniform(0.04, 0.08), tone)
    elif kind == "scales":
        for row in range(-2, 3):
            for column in range(5):
                x = -0.42 + 0.17 * column + 0.085 * (row % 2)
                pen.stroke(arc(x, row * tall / 2.6, 0.08, 0.1, -80, 80, 6), 0.025, dark(colour, 0.3), round_ends=False)
    elif kind == "line":
        pen.stroke(smooth([(-0.6, 0), (0, -0.1 * tall), (0.4, -0.2 * tall)], closed=False), 0.09, tone)
