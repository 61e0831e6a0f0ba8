"""Ball and box around images, and steps in them.

In Linf both together are one box around each image, so that a step and its projection are a sum and one clamp. In other
norms a step is taken and projected as `attacks.norms` has it.

Cost: none of the network. In Linf three passes over the images, which on small networks is what a loop is made of.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.threat import ThreatModel


class Region:
    """Where R points may be.

    Args:
        threat: ball and box.
        x: images (R, C, H, W) in their middle.
    """

    def __init__(self, threat: ThreatModel, x: Tensor) -> None:
        self._threat, self._x = threat, x
        self._low, self._high = threat.room(x)

    @staticmethod
    def around(x: Tensor, threat: ThreatModel) -> Region:
        """That of images (R, C, H, W)."""
        return _Cube(threat, x) if threat.norm == "linf" else Region(threat, x)

    @property
    def cube(self) -> tuple[Tensor, Tensor] | None:
        """Least and greatest points (R, C, H, W), where all between them belong to the region; None elsewhere."""
        return None

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but `rows` (R,), bool or int64."""
        self._x, self._low, self._high = self._x[rows], self._low[rows], self._high[rows]

    def step(self, x_adv: Tensor, gradient: Tensor, length: float, spread: float) -> Tensor:
        """The nearest points to a step of that length uphill, (R, C, H, W), new ones.

        Args:
            x_adv: points (R, C, H, W) of the region.
            gradient: (R, C, H, W).
            length: of the step in the norm, in box units.
            spread: coordinates that share it, in L1.
        """
        delta, table = (x_adv - self._x).flatten(1), self._threat.table
        move = table.step(gradient.flatten(1), length, delta, self._low, self._high, spread)
        delta = table.project(move.add_(delta), self._threat.eps, self._low, self._high)
        return self._threat.place(self._x, delta)


class _Cube(Region):
    """For Linf: what is left of the box within eps of each image."""

    def __init__(self, threat: ThreatModel, x: Tensor) -> None:
        self._low = (x - threat.eps).clamp_(*threat.box)
        self._high = (x + threat.eps).clamp_(*threat.box)

    @property
    def cube(self) -> tuple[Tensor, Tensor]:
        """Least and greatest points (R, C, H, W)."""
        return self._low, self._high

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but `rows` (R,), bool or int64."""
        self._low, self._high = self._low[rows], self._high[rows]

    def step(self, x_adv: Tensor, gradient: Tensor, length: float, spread: float) -> Tensor:
        """The nearest points to a step of `length` along the signs."""
        moved = torch.sign(gradient)
        return torch.add(x_adv, moved, alpha=length, out=moved).clamp_(self._low, self._high)
