"""Outlines as points (n, 2): x to the right, y downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Knots = Sequence[tuple[float, float]]

_STEPS = 6  # points from one knot of a smooth curve to the next
_T = (np.arange(_STEPS) / _STEPS)[:, None]
_SPLINE = 0.5 * np.concatenate(
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, -(_T**2) + _T**3], 1
)  # (steps, 4): of the knot before, this one, the next, the one after that


def polygon(*knots: tuple[float, float]) -> Points:
    """Straight lines between the knots."""
    return np.array(knots, dtype=np.float64)


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, count: int = 12) -> Points:
    """Part of an ellipse about (x, y), from `start` to `stop` degrees; 0 is to the right, 90 downwards."""
    return _unit_arc(start, stop, count) * (rx, ry) + (x, y)


@lru_cache(maxsize=256)
def _unit_arc(start: float, stop: float, count: int) -> Points:
    t = np.radians(np.linspace(start, stop, count))
    return np.stack([np.cos(t), np.sin(t)], 1)


def ellipse(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Points:
    """An ellipse about (x, y), turned by `turn` degrees clockwise; a circle where `ry` is None."""
    points = arc(0, 0, rx, rx if ry is None else ry, 0, 345, 24)
    return (turned(points, turn) if turn else points) + (x, y)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Points:
    """A rectangle, with round corners."""
    if radius <= 0:
        return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    centres = (
        (x1 - radius, y1 - radius),
        (x0 + radius, y1 - radius),
        (x0 + radius, y0 + radius),
        (x1 - radius, y0 + radius),
    )
    return np.concatenate([arc(x, y, radius, radius, 90 * i, 90 * i + 90, 6) for i, (x, y) in enumerate(centres)])


def smooth(knots: Knots, closed: bool = True) -> Points:
    """A curve through the knots: a uniform Catmull-Rom spline."""
    given = np.array(knots, dtype=np.float64)  # (n, 2)
    if closed:
        around = np.concatenate([given[-1:], given, given[:2]])
    else:
        around = np.concatenate([given[:1], given, given[-1:]])
    windows = np.stack([around[i : len(around) - 3 + i] for i in range(4)], 1)  # (segments, 4, 2)
    points: Points = (_SPLINE @ windows).reshape(-1, 2)
    return points if closed else np.concatenate([points, given[-1:]])


def symmetric(*right: tuple[float, float]) -> Points:
    """A smooth closed curve, of which the knots of the right half are given, from top to bottom."""
    left = [(-x, y) for x, y in reversed(right) if x]
    return smooth([*right, *left])


def turned(points: Points, degrees: float) -> Points:
    """The points, turned clockwise about the origin."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved: Points = points @ np.array([[c, s], [-s, c]])
    return moved
