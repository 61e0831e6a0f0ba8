"""A pen that fills and strokes outlines on a transparent canvas, in the coordinates of the thing that it draws.

Shapes are drawn `OVERSAMPLING` times as large as the picture and averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from eval.data.drawing.colours import RGB, dark
from eval.data.drawing.outline import Points, ellipse

OVERSAMPLING = 3


class Canvas:
    """A transparent square.

    Args:
        side: of the picture, in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side * OVERSAMPLING
        self.use(Image.new("RGBA", (self.side, self.side)))

    def use(self, image: Image.Image) -> None:
        """Draw on this image from now on."""
        self.image = image
        self.draw = ImageDraw.Draw(image)

    def pixels(self) -> npt.NDArray[np.float32]:
        """(H, W, 4) of 0 to 1, the colours multiplied by alpha."""
        reduced = np.asarray(self.image.convert("RGBa").reduce(OVERSAMPLING), dtype=np.float32)
        return reduced / np.float32(255)


@dataclass(frozen=True)
class Pen:
    """Draws in its own coordinates: p -> matrix @ p + offset, in pixels of the canvas.

    Attributes:
        canvas: to draw on.
        matrix: (2, 2).
        offset: (2,).
        ink: width of the line around each shape, in the units of the whole thing; 0 for none.
        unit: pixels of the canvas that one unit of the whole thing is long.
    """

    canvas: Canvas
    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    ink: float
    unit: float

    @classmethod
    def placed(
        cls, canvas: Canvas, x: float, y: float, size: float, degrees: float, shear: float, stretch: float, ink: float
    ) -> Pen:
        """A pen whose thing fills -1..1.

        Args:
            canvas: to draw on.
            x: of its middle, where the picture is 0..1.
            y: the same downwards.
            size: half of its side, where the picture is 0..1; negative mirrors it.
            degrees: by which it is turned clockwise.
            shear: by which its top leans to the left.
            stretch: its height for a width of 1.
            ink: see above.
        """
        t = math.radians(degrees)
        turn = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
        scale = np.array([[math.copysign(1.0, size), shear], [0.0, 1.0]]) @ np.diag([1.0, stretch])
        unit = abs(size) * canvas.side
        return cls(canvas, unit * turn @ scale, np.array([x, y]) * canvas.side, ink, unit)

    def at(self, x: float, y: float, scale: float = 1.0, degrees: float = 0.0, width: float = 1.0) -> Pen:
        """A pen for a part: its origin at (x, y), `scale` as large, turned clockwise, and `width` as wide as high."""
        t = math.radians(degrees)
        turn = scale * np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]) @ np.diag([width, 1.0])
        offset = self.matrix @ np.array([x, y]) + self.offset
        return Pen(self.canvas, self.matrix @ turn, offset, self.ink, self.unit)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        placed = points @ self.matrix.T + self.offset
        return [(x, y) for x, y in placed.tolist()]

    def fill(self, points: Points, colour: RGB, line: bool = True) -> None:
        """A shape of one colour, with a darker line around it where the pen has ink."""
        pixels = self._pixels(points)
        self.canvas.draw.polygon(pixels, fill=colour)
        width = round(self.ink * self.unit)
        if line and width >= 1:
            self.canvas.draw.line([*pixels, *pixels[:2]], fill=dark(colour, 0.6), width=width, joint="curve")

    def stroke(self, points: Points, width: float, colour: RGB, round_ends: bool = True) -> None:
        """An open line, `width` thick in the pen's coordinates."""
        pixels = self._pixels(points)
        thick = max(1.0, width * math.sqrt(abs(float(np.linalg.det(self.matrix)))))
        self.canvas.draw.line(pixels, fill=colour, width=round(thick), joint="curve")
        if round_ends and thick > 2:
            for x, y in (pixels[0], pixels[-1]):
                r = thick / 2 - 0.5
                self.canvas.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: RGB) -> None:
        """A small disc without a line."""
        self.fill(ellipse(x, y, radius), colour, line=False)

    @contextmanager
    def inside(self, points: Points) -> Iterator[None]:
        """What is drawn meanwhile shows only within the outline."""
        before = self.canvas.image
        self.canvas.use(before.copy())
        yield
        mask = Image.new("L", before.size)
        ImageDraw.Draw(mask).polygon(self._pixels(points), fill=255)
        self.canvas.use(Image.composite(self.canvas.image, before, mask))
