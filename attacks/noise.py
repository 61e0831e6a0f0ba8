"""Noise of a given size: what a perturbation search has to beat.

`Noise` spends the whole budget at random; `GaussianNoise` has a size of its own. `gaussian_of_rms` is the control
beside a transfer: noise as large as a perturbation that was searched for.

Source: the last rows of tables 2 and 4 in Szegedy et al., "Intriguing properties of neural networks", ICLR 2014
(arXiv 1312.6199).
Cost: 0; `Noise` with several draws: 1 forward per draw and sample still unbroken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.base import Logits, rows
from attacks.goal import Goal
from attacks.norms import NORMS
from attacks.rng import Rng
from attacks.threat import ThreatModel

_CLIP_STEPS = 12
_KINDS = {"uniform": frozenset(NORMS), "gaussian": frozenset({"l2"}), "sign": frozenset({"linf"})}


@dataclass(frozen=True)
class Noise:
    """Random points of the ball; the first one that reaches the goal, else the last.

    Attributes:
        kind: `uniform` in the ball of any norm; `gaussian`, L2 alone: a random direction, `eps` long before the box
            cuts it off; `sign`, Linf alone: `eps` or -`eps` at each coordinate.
        draws: how many points to try per sample.
    """

    minimal: ClassVar[bool] = False
    needs: ClassVar[str] = "labels"

    kind: str = "uniform"
    draws: int = 1

    @property
    def norms(self) -> frozenset[str]:
        """Norms of the ball."""
        return _KINDS[self.kind]

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind: must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.draws < 1:
            raise ValueError(f"draws: must be at least 1, got {self.draws}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W)."""
        x_adv = self._draw(x, threat, rng.fold(0))
        if self.draws == 1:
            return x_adv
        active = torch.arange(len(x), device=x.device)
        for draw in range(1, self.draws):
            with torch.no_grad():
                missed = ~goal[active].reached(rows(logits, active)(x_adv[active]))
            active = active[missed]
            if len(active) == 0:
                break
            x_adv[active] = self._draw(x[active], threat, rng[active].fold(draw))
        return x_adv

    def _draw(self, x: Tensor, threat: ThreatModel, rng: Rng) -> Tensor:
        if self.kind == "uniform":
            return threat.random_start(x, rng)
        if self.kind == "sign":
            return threat.steepest(x, rng.uniform(*x.shape[1:]) - 0.5 + 2.0**-25)  # never 0
        z = rng.normal(*x.shape[1:])
        return threat.project(x + z * (threat.eps / threat.table.size(z.flatten(1)).view(-1, 1, 1, 1)), x)


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise of one size, whatever the budget.

    Attributes:
        rms: its root mean square in box units: after clipping to the box, or its standard deviation without clipping.
        clip: cut it off at the box. What is not may be no image any more, yet it is what Szegedy et al. show: networks
            err on it as often as on theirs, while clipped noise of that size misleads them much more often.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"l2"})
    minimal: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"

    rms: float = 0.1
    clip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rms < 1:
            raise ValueError(f"rms: must be in (0, 1), in box units, got {self.rms:g}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W)."""
        if not self.clip:
            return x + self.rms * rng.fold(0).normal(*x.shape[1:]).to(x.dtype)
        return gaussian_of_rms(x, x.new_full((len(x),), self.rms), rng.fold(0), threat.box)


def gaussian_of_rms(x: Tensor, rms: Tensor, rng: Rng, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Images (B, C, H, W) plus Gaussian noise whose root mean square, after clipping to the box, is `rms` (B,).

    Clipping takes some of the noise away, more so where pixels lie at the bounds, so that its scale is raised until
    the sizes agree (to 1% in a dozen steps, unless even the largest noise that fits the box is smaller).
    """
    z = rng.normal(*x.shape[1:])
    wanted = rms.view(-1, 1, 1, 1).to(x.dtype)
    scale = wanted
    noisy = (x + z * scale).clamp(*box)
    for _ in range(_CLIP_STEPS):
        got = (noisy - x).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        scale = torch.where(got > 0, scale * (wanted / got.clamp(min=1e-12)).clamp(max=4.0), scale)
        noisy = (x + z * scale).clamp(*box)
    return noisy
