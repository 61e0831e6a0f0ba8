"""A toaster, a cup and an umbrella."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np

from eval.data.drawing.colours import BLACK, RGB, STEEL, WHITE, any_of, dark, hsv, light, mix, near, paint, wood
from eval.data.drawing.outline import arc, box, ellipse, polygon, smooth
from eval.data.drawing.pen import Pen

_CRUST: RGB = (160, 96, 44)
_CRUMB: RGB = (228, 182, 112)


def toaster(pen: Pen, rng: Random) -> None:
    """Seen from the front and a little from above: two slots, a lever, a dial; often with toast."""
    body = rng.choice((STEEL, paint(rng), paint(rng), any_of(rng)))
    deep, half, top = rng.uniform(0.16, 0.26), rng.uniform(0.78, 0.9), rng.uniform(-0.3, -0.14)
    trim = rng.choice((BLACK, dark(body, 0.6), STEEL))
    for side in (-1, 1):
        pen.fill(box(side * 0.6 - 0.13, 0.62, side * 0.6 + 0.13, 0.8, 0.05), dark(trim, 0.3))
    lid = box(-half + 0.08, top - deep, half - 0.08, top + 0.25, 0.16)
    pen.fill(lid, light(body, 0.3))
    slots = [top - 0.68 * deep, top - 0.12 * deep]
    toast, rise = rng.random() < 0.7, rng.uniform(0.16, 0.55)
    for y in slots:
        pen.fill(box(-half + 0.24, y - 0.042, half - 0.24, y + 0.042, 0.04), (48, 40, 40), line=False)
        if toast:
            _slice(pen, rng, y, rise, half - 0.3)
    front = box(-half, top, half, 0.7, rng.uniform(0.1, 0.24))
    pen.fill(front, body)
    with pen.inside(front):
        pen.fill(box(-1, 0.5, 1, 1), trim if rng.random() < 0.6 else dark(body, 0.2), line=False)
        shine = rng.uniform(-0.6, 0.2)
        pen.fill(
            polygon((shine, -1), (shine + 0.22, -1), (shine - 0.1, 0.5), (shine - 0.32, 0.5)),
            light(body, 0.3),
            line=False,
        )
        if rng.random() < 0.35:
            for y in (0.05, 0.17, 0.29):
                pen.stroke(polygon((-0.5, y), (0.25, y)), 0.04, dark(body, 0.3))
    _controls(pen, rng, half, top, trim, down=not toast or rise < 0.25)


def _slice(pen: Pen, rng: Random, y: float, rise: float, half: float) -> None:
    """A slice of toast that looks out of the slot at height `y`."""
    crumb = mix(_CRUMB, _CRUST, rng.uniform(0, 0.4))
    up = y - rise
    knots = [(-0.92 * half, y), (-0.92 * half, up + 0.16), (-half, up + 0.05), (-0.8 * half, up - 0.07), (0, up - 0.03),
             (0.8 * half, up - 0.07), (half, up + 0.05), (0.92 * half, up + 0.16), (0.92 * half, y)]  # fmt: skip
    outline = np.concatenate([polygon(knots[0]), smooth(knots[1:-1], closed=False), polygon(knots[-1])])
    pen.fill(outline, _CRUST)
    with pen.inside(outline):
        pen.fill(smooth([(0.86 * x, up + 0.05 + 0.95 * (v - up)) for x, v in knots]), crumb, line=False)
        for _ in range(4):
            pen.dot(rng.uniform(-half, half), rng.uniform(up, y), 0.025, dark(crumb, 0.25))


def _controls(pen: Pen, rng: Random, half: float, top: float, trim: RGB, down: bool) -> None:
    x = half - 0.2
    pen.stroke(polygon((x, top + 0.16), (x, 0.4)), 0.06, (44, 40, 44))
    y = 0.34 if down else top + 0.2
    pen.fill(box(x - 0.14, y - 0.06, x + 0.14, y + 0.06, 0.05), rng.choice((trim, BLACK, (200, 50, 44))))
    pen.dot(-half + 0.24, 0.3, 0.13, dark(trim, 0.3))
    pen.dot(-half + 0.24, 0.3, 0.095, light(trim, 0.35))
    turn = rng.uniform(-140, 140)
    pen.at(-half + 0.24, 0.3, 1.0, turn).stroke(polygon((0, 0), (0, -0.08)), 0.035, BLACK)


def cup(pen: Pen, rng: Random) -> None:
    """A mug or a tea cup with its handle, often with a drink, a saucer, steam."""
    glaze, inside = any_of(rng), WHITE
    tall, narrow = rng.uniform(0.45, 0.75), rng.uniform(0.62, 1.0)
    top, rim = -tall + 0.05, rng.uniform(0.12, 0.2)
    bottom = tall + 0.05
    if rng.random() < 0.35:
        pen.fill(ellipse(0, bottom, 0.95, 0.17), light(glaze, 0.2))
        pen.fill(ellipse(0, bottom - 0.03, 0.66, 0.1), dark(glaze, 0.15), line=False)
    handle = smooth(
        [(0.52, top + 0.22), (0.9, top + 0.16), (0.98, 0.1), (0.76, 0.42 * tall + 0.1), (0.46, 0.5 * tall)],
        closed=False,
    )
    if pen.ink:
        pen.stroke(handle, 0.15 + 2 * pen.ink, dark(glaze, 0.6))
    pen.stroke(handle, 0.15, dark(glaze, 0.1))
    foot = 0.62 * narrow
    belly = 0.5 * (0.62 + foot) + rng.uniform(0.02, 0.1)
    base = arc(0, bottom - 0.08, foot, 0.1, 0, 180, 10)
    wall = np.concatenate([polygon((0.62, top), (belly, 0.1)), base, polygon((-belly, 0.1), (-0.62, top))])
    pen.fill(wall, glaze)
    with pen.inside(wall):
        _decoration(pen, rng, glaze, top, bottom)
        pen.fill(
            polygon((-0.5, -1), (-0.36, -1), (-0.36 * narrow, 1), (-0.5 * narrow, 1)), light(glaze, 0.4), line=False
        )
    pen.fill(ellipse(0, top, 0.62, rim), light(glaze, 0.25))
    pen.fill(ellipse(0, top + 0.01, 0.54, rim - 0.04), mix(inside, glaze, 0.25), line=False)
    if rng.random() < 0.75:
        drink = near(rng, rng.choice(((96, 58, 34), (170, 110, 60), (190, 90, 40))), 12)
        pen.fill(ellipse(0, top + 0.05, 0.46, rim - 0.075), drink, line=False)
        if rng.random() < 0.5:
            for x in (-0.2, 0.05, 0.3):
                rise = [(x, top - 0.1), (x + 0.08, top - 0.22), (x - 0.06, top - 0.34), (x + 0.04, top - 0.46)]
                pen.stroke(smooth(rise, closed=False), 0.045, (238, 240, 244))


def _decoration(pen: Pen, rng: Random, glaze: RGB, top: float, bottom: float) -> None:
    tone, kind, middle = (
        any_of(rng),
        rng.choice(("plain", "band", "dots", "heart", "stripes")),
        (top + bottom) / 2 + 0.05,
    )
    if kind == "band":
        pen.fill(box(-1, middle - 0.13, 1, middle + 0.13), tone, line=False)
    elif kind == "dots":
        for i in range(9):
            pen.dot(-0.5 + 0.25 * (i % 5) + 0.12 * (i // 5), middle - 0.1 + 0.26 * (i // 5), 0.07, tone)
    elif kind == "heart":
        heart = [
            (0, 0.24),
            (0.22, 0.02),
            (0.2, -0.15),
            (0.08, -0.18),
            (0, -0.06),
            (-0.08, -0.18),
            (-0.2, -0.15),
            (-0.22, 0.02),
        ]
        pen.at(0, middle).fill(smooth(heart), hsv(rng.uniform(0.93, 1.02), 0.8, 0.85), line=False)
    elif kind == "stripes":
        for x in (-0.45, -0.15, 0.15, 0.45):
            pen.fill(box(x - 0.06, -1, x + 0.06, 1), tone, line=False)


def umbrella(pen: Pen, rng: Random) -> None:
    """Open, with a scalloped edge and a crook."""
    one = paint(rng)
    two = rng.choice((one, light(one, 0.6), dark(one, 0.3), any_of(rng)))
    high, edge = rng.uniform(0.72, 0.95), -0.02
    grip = wood(rng)
    end, side = rng.uniform(0.68, 0.82), rng.uniform(0.2, 0.28)
    stick = np.concatenate([polygon((0, -0.6), (0, end)), arc(side / 2, end, side / 2, 0.14, 180, -10)])
    if pen.ink:
        pen.stroke(stick, 0.07 + 2 * pen.ink, dark(grip, 0.6))
    pen.stroke(stick, 0.07, grip)
    pen.stroke(polygon((0, edge - high - 0.1), (0, edge - high + 0.1)), 0.06, dark(grip, 0.3))
    ribs = np.linspace(-0.95, 0.95, rng.choice((5, 6, 7)))
    scallops = [arc((a + b) / 2, edge, (b - a) / 2, 0.12, 180, 360, 8) for a, b in pairwise(ribs)]
    canopy = np.concatenate([arc(0, edge, 0.95, high, 0, -180, 20)[::-1], *[s[::-1] for s in reversed(scallops)]])
    pen.fill(canopy, one)
    with pen.inside(canopy):
        for i, (a, b) in enumerate(pairwise(ribs)):
            bow = [(t * x, edge - high * np.sqrt(max(0.0, 1 - t * t))) for x, t in ((a, 0), (b, 0))]
            left, right = (
                smooth([bow[0], (0.72 * x, edge - 0.62 * high), (x, edge + 0.1)], closed=False) for x in (a, b)
            )
            pen.fill(np.concatenate([left, right[::-1]]), two if i % 2 else one, line=False)
            pen.stroke(left, 0.025, dark(one, 0.3), round_ends=False)
        if rng.random() < 0.35:
            for _ in range(12):
                pen.dot(rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0), 0.05, WHITE)
