"""A chair, a lamp and an alarm clock."""

from __future__ import annotations

import math
from random import Random

from eval.data.drawing.colours import BLACK, RGB, STEEL, WHITE, any_of, dark, hsv, light, mix, paint, pastel, wood
from eval.data.drawing.outline import arc, box, ellipse, polygon, smooth
from eval.data.drawing.pen import Pen


def chair(pen: Pen, rng: Random) -> None:
    """A wooden chair, obliquely from the front: back with slats or a panel, seat, four legs."""
    timber = rng.choice((wood(rng), wood(rng), any_of(rng)))
    seat = rng.choice((timber, light(timber, 0.25), any_of(rng)))
    deep, skew, wide = rng.uniform(0.2, 0.34), rng.uniform(0.06, 0.3), rng.uniform(0.46, 0.58)
    level, top, leg = rng.uniform(0.1, 0.22), rng.uniform(-0.98, -0.82), rng.uniform(0.1, 0.13)
    back = (skew - wide, skew + wide)  # ends of the seat's rear edge
    front = (-skew - wide, -skew + wide)
    for x in back:
        pen.fill(
            polygon((x - leg / 2, top), (x + leg / 2, top), (x + leg / 2, 0.82), (x - leg / 2, 0.82)),
            dark(timber, 0.25),
        )
    kind, gap = rng.choice(("slats", "bars", "panel")), level - deep - top
    if kind == "slats":
        for part in (0.02, 0.3, 0.58):
            pen.fill(box(back[0], top + part * gap, back[1], top + (part + 0.17) * gap, 0.03), timber)
    elif kind == "bars":
        for i in range(1, 5):
            x = back[0] + i * (back[1] - back[0]) / 5
            pen.stroke(polygon((x, top), (x, level - deep)), 0.055, timber)
        pen.fill(box(back[0] - 0.06, top - 0.05, back[1] + 0.06, top + 0.13, 0.05), timber)
    else:
        pen.fill(box(back[0] - 0.05, top - 0.03, back[1] + 0.05, top + 0.66 * gap, 0.1), seat)
    rung = rng.uniform(0.55, 0.66)
    pen.stroke(polygon((front[0], rung), (front[1], rung)), 0.06, dark(timber, 0.15))
    pen.fill(polygon((front[0], level), (back[0], level - deep), (back[1], level - deep), (front[1], level)), seat)
    pen.fill(
        polygon((front[1], level), (back[1], level - deep), (back[1], level - deep + 0.11), (front[1], level + 0.11)),
        dark(seat, 0.35),
    )
    pen.fill(box(front[0], level, front[1], level + 0.11), dark(seat, 0.15))
    for x in (front[0] + leg / 2, front[1] - leg / 2):
        pen.fill(
            polygon((x - leg / 2, level + 0.11), (x + leg / 2, level + 0.11), (x + leg / 3, 0.98), (x - leg / 3, 0.98)),
            timber,
        )


def lamp(pen: Pen, rng: Random) -> None:
    """A table lamp, lit or not: a shade on a foot."""
    shade, foot = (
        rng.choice((pastel(rng), paint(rng), any_of(rng))),
        rng.choice((wood(rng), STEEL, paint(rng), (180, 150, 80))),
    )
    lit = rng.random() < 0.5
    upper, lower = rng.uniform(0.22, 0.42), rng.uniform(0.6, 0.82)
    top, edge = rng.uniform(-0.95, -0.85), rng.uniform(-0.12, 0.08)
    if lit:
        shade = mix(shade, (255, 226, 130), 0.6)
    pen.fill(ellipse(0, 0.88, rng.uniform(0.32, 0.48), 0.11), dark(foot, 0.15))
    if rng.random() < 0.5:
        waist = rng.uniform(0.2, 0.34)
        bowl = [(0.06, edge), (0.08, 0.2), (waist, 0.5), (0.8 * waist, 0.78), (0.1, 0.88)]
        pen.fill(smooth([*bowl, *[(-x, y) for x, y in reversed(bowl)]]), foot)
        pen.fill(ellipse(-0.4 * waist, 0.52, 0.05, 0.14), light(foot, 0.5), line=False)
    else:
        pen.fill(box(-0.055, edge, 0.055, 0.88), foot)
        for y in rng.sample((0.25, 0.4, 0.55, 0.7), 2):
            pen.fill(ellipse(0, y, 0.13, 0.065), light(foot, 0.15))
    if rng.random() < 0.4:
        pen.stroke(polygon((0.24, edge), (0.24, edge + 0.3)), 0.025, STEEL)
        pen.dot(0.24, edge + 0.32, 0.045, STEEL)
    _shade(pen, rng, shade, (upper, top), (lower, edge), lit)


def _shade(
    pen: Pen,
    rng: Random,
    colour: RGB,
    upper: tuple[float, float],
    lower: tuple[float, float],
    lit: bool,
) -> None:
    """A cone between two half-widths and heights, seen slightly from below where it is lit."""
    (u, top), (w, edge) = upper, lower
    rim = arc(0, edge, w, 0.1, 0, 180, 12)
    cone = [*polygon((-u, top), (u, top)).tolist(), *rim.tolist()]
    outline = polygon(*cone)
    pen.fill(outline, colour)
    with pen.inside(outline):
        kind, tone = rng.choice(("plain", "plain", "pleats", "bands")), dark(colour, 0.18)
        if kind == "pleats":
            for i in range(-3, 4):
                pen.stroke(polygon((u * i / 3.5, top), (w * i / 3.5, edge + 0.12)), 0.035, tone)
        elif kind == "bands":
            for y in (top + 0.04, edge):
                pen.stroke(
                    smooth([(-1, y - 0.02), (0, y + 0.07), (1, y - 0.02)], closed=False), 0.07, dark(colour, 0.4)
                )
        if lit:
            pen.fill(ellipse(0, edge + 0.1, 0.72 * w, 0.3), light(colour, 0.45), line=False)
            pen.fill(ellipse(0, edge + 0.1, 0.5 * w, 0.16), light(colour, 0.85), line=False)


def clock(pen: Pen, rng: Random) -> None:
    """An alarm clock: two bells, a hammer, feet, a dial that shows some time."""
    case = rng.choice((paint(rng), any_of(rng), STEEL, (190, 150, 70)))
    bell = rng.choice((case, STEEL, (206, 170, 90)))
    face, hand = rng.choice((WHITE, WHITE, pastel(rng), (46, 46, 54))), BLACK
    if face == (46, 46, 54):
        hand = WHITE
    for side in (-1, 1):
        pen.stroke(polygon((side * 0.4, 0.6), (side * 0.58, 0.94)), 0.12, dark(case, 0.4))
        part = pen.at(side * 0.44, -0.66, 1.0, side * 33)
        part.stroke(polygon((0, 0), (0, 0.2)), 0.06, dark(bell, 0.4))
        part.fill(arc(0, 0.06, 0.3, 0.27, 180, 360), bell)
        part.fill(ellipse(-0.1, -0.06, 0.05, 0.09, 30), light(bell, 0.6), line=False)
        part.dot(0, -0.22, 0.05, dark(bell, 0.4))
    pen.stroke(polygon((0, -0.62), (0, -0.86)), 0.06, dark(bell, 0.5))
    pen.fill(box(-0.1, -0.95, 0.1, -0.82, 0.04), dark(bell, 0.4))
    pen.fill(ellipse(0, 0.12, 0.76), case)
    pen.fill(ellipse(0, 0.12, 0.7), light(case, 0.25), line=False)
    pen.fill(ellipse(0, 0.12, 0.6), face, line=False)
    dial = pen.at(0, 0.12)
    for hour in range(12):
        x, y = math.sin(hour * math.pi / 6), -math.cos(hour * math.pi / 6)
        inner = 0.46 if hour % 3 else 0.42
        dial.stroke(polygon((inner * x, inner * y), (0.54 * x, 0.54 * y)), 0.035 if hour % 3 else 0.06, hand)
    minutes = rng.randrange(720)
    for turn, long, width in ((minutes / 2, 0.3, 0.085), (minutes * 6, 0.45, 0.055)):
        dial.at(0, 0, 1.0, turn).stroke(polygon((0, 0.06), (0, -long)), width, hand)
    if rng.random() < 0.6:
        dial.at(0, 0, 1.0, rng.uniform(0, 360)).stroke(polygon((0, 0.08), (0, -0.46)), 0.025, hsv(0.0, 0.8, 0.85))
    dial.dot(0, 0, 0.06, dark(case, 0.3))
