"""What an attacker may do: a norm ball around the image, inside the box of valid pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from attacks.norms import NORMS, Norm
from attacks.rng import Rng


def parse_eps(text: str | float) -> float:
    """A size in box units from `8/255`, `0.3` or a number.

    >>> parse_eps("8/255")
    0.03137254901960784

    Raises:
        ValueError: the text is no finite number and no fraction.
    """
    try:
        value = (
            float(text) if isinstance(text, int | float) or "/" not in text else float(Fraction("".join(text.split())))
        )
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"threat.eps: must be a number or a fraction such as 8/255, got {text!r}")
    return value


@dataclass(frozen=True)
class ThreatModel:
    """A ball of radius `eps` in `norm`, cut with the box.

    Attributes:
        norm: `l0`, `l1`, `l2` or `linf`, over all C*H*W coordinates of an image.
        eps: radius in box units (for `l0` a number of coordinates); infinity for no budget.
        box: least and greatest value of a pixel; (-inf, inf) for points that need not be images.
    """

    norm: str
    eps: float
    box: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"threat.norm: must be one of {', '.join(NORMS)}, got {self.norm!r}")
        low, high = self.box
        if not low < high:
            raise ValueError(f"ThreatModel: box must be (low, high) with low < high, got {self.box}")
        if not self.eps > 0:
            raise ValueError(f"threat.eps: must be > 0 in box units, got {self.eps:g}")
        if self.norm == "linf" and high - low < self.eps < math.inf:
            raise ValueError(
                f"threat.eps: must be at most {high - low:g}, the width of the box, for linf, got {self.eps:g}; "
                f"for 8-bit pixels write {self.eps:g}/255"
            )
        if self.norm == "l0" and self.eps < math.inf and self.eps != int(self.eps):
            raise ValueError(f"threat.eps: must be a whole number of coordinates for l0, got {self.eps:g}")

    @property
    def table(self) -> Norm:
        """The functions of the norm."""
        return NORMS[self.norm]

    def room(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """How far each coordinate of the images `x` (B, C, H, W) may go down and up, each (B, D)."""
        flat = x.flatten(1)
        return self.box[0] - flat, self.box[1] - flat

    def place(self, x: Tensor, delta: Tensor) -> Tensor:
        """`x` moved by `delta` (B, D), clamped to the box against rounding; shaped like `x`, without a graph."""
        return (x.flatten(1) + delta).clamp_(*self.box).view_as(x).detach()

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point of ball and box."""
        return self.place(x, self.table.project((x_adv - x).flatten(1), self.eps, *self.room(x)))

    def random_start(self, x: Tensor, rng: Rng) -> Tensor:
        """A random point of the ball, clipped to the box."""
        return self.place(x, self.table.sample(rng, self.eps, *self.room(x)))

    def steepest(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The point of ball and box that maximises <gradient, point - x>."""
        return self.place(x, self.table.steepest(gradient.flatten(1), self.eps, *self.room(x)))

    def size(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The norm of the perturbations, (B,)."""
        return self.table.size((x_adv - x).flatten(1))

    def within(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Whether the points (B,) keep the budget, up to the rounding of float32 pixels."""
        width = self.box[1] - self.box[0]
        slack = 1e-6 * (width if math.isfinite(width) else 1.0) * (1.0 if self.norm == "linf" else 10.0)
        size = self.table.size((widest(x_adv) - widest(x)).flatten(1))
        return size <= self.eps * (1.0 + 1e-5) + (0.0 if self.norm == "l0" else slack)

    def inside_box(self, x_adv: Tensor) -> Tensor:
        """Whether every coordinate (B,) is finite and in the box."""
        flat = x_adv.flatten(1)
        inside = (flat >= self.box[0]) & (flat <= self.box[1]) & flat.isfinite()
        return inside.all(dim=1)


def unlimited(norm: str, box: tuple[float, float] = (0.0, 1.0)) -> ThreatModel:
    """The threat model of a search for minimal distortion: any size, measured in `norm`."""
    return ThreatModel(norm, math.inf, box)


def widest(x: Tensor) -> Tensor:
    """`x` in float64, or as it is on devices that have none."""
    return x if x.device.type == "mps" else x.double()


def quantize(x: Tensor, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """The image (any shape) as it comes back from an 8-bit file: rounded to 256 levels of the box.

    Where the box is unbounded there is no such file, and the image stays as it is.
    """
    low, width = box[0], box[1] - box[0]
    if not math.isfinite(width):
        return x
    return ((x - low) * (255.0 / width)).round_().mul_(width / 255.0).add_(low)
