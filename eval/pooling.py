"""What fills the pools of `models.pools`: adversarial points, or noise of their size as a control."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import unlimited
from eval.errors import InputError
from models.pools import RENEWALS, Logits, PoolConfig, Pools

ADVERSARIAL, NOISE = "adversarial", "noise"


@dataclass(frozen=True)
class Filling:
    """A recipe of pools and what fills them.

    Attributes:
        config: the recipe; its field `search` is told by this class.
        attack: a search for small L2 perturbations.
        noise: replace what the attack finds by Gaussian noise of the same L2 norm, inside the range as well.
        renewals: after so many, a pool that is empty is an error.
    """

    config: PoolConfig
    attack: Attack
    noise: bool = False
    renewals: int = RENEWALS

    def __post_init__(self) -> None:
        if not (self.attack.minimal and "l2" in self.attack.norms):
            raise InputError("pools: the attack must search for the smallest L2 perturbation, as lbfgs does")

    @property
    def search(self) -> dict[str, Any]:
        """What perturbs, for the name of a checkpoint."""
        made = type(self.attack)
        kind = NOISE if self.noise else ADVERSARIAL
        return {"kind": kind, "class": f"{made.__module__}.{made.__qualname__}", **asdict(self.attack)}  # type: ignore[call-overload]

    def pools(self, seed: int) -> Pools:
        """The pools of a network's training."""
        content = {**asdict(self.config), "search": self.search}

        def perturb(
            logits: Logits, points: Tensor, labels: Tensor, reach: tuple[float, float], call: int
        ) -> tuple[Tensor, Tensor]:
            shape = points.shape
            x = points.flatten(1)[:, None, None]  # (B, 1, 1, D), as attacks expect images

            def answer(z: Tensor) -> Tensor:
                return logits(z.reshape(-1, *shape[1:]))

            rng = Rng.of(seed, ["pool", str(call)], map(str, range(len(x))), x.device)
            found = self.attack(answer, x, Goal(labels), unlimited("l2", reach), rng=rng)
            with torch.no_grad():
                keep = Goal(labels).reached(answer(found))
            if self.noise:
                found = _noise(x, found, reach, rng.fold(1))
            return found.view(shape), keep

        return Pools(PoolConfig(**content), perturb, self.renewals)


def _noise(x: Tensor, found: Tensor, reach: tuple[float, float], rng: Rng) -> Tensor:
    """Gaussian noise around x (B, ...) of the L2 norm of found - x, pushed out again where the range cuts it."""
    noise = rng.normal(*x.shape[1:]).flatten(1)
    flat, length = x.flatten(1), (found - x).flatten(1).norm(dim=1, keepdim=True)
    low, high = reach[0] - flat, reach[1] - flat
    cut = noise
    for _ in range(8):  # scaling and clipping in turn; what is cut in one place is made up for in others
        cut = cut * (length / cut.norm(dim=1, keepdim=True).clamp(min=1e-12))
        cut = cut.clamp(low, high)
    return (flat + cut).clamp(*reach).view_as(x)
