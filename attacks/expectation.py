"""Expectation over transformations: perturbations that survive light, cameras and files.

    maximise  E_t [loss(f(t(x'))), goal]  over  |x' - x| <= eps,   t drawn anew for every look at the network

by any attack that follows gradients. It is shown a network of its own: one forward of that is a forward of `draws`
random transformations of each image, and its answer for class k is the mean of their log-probabilities,

    z_k = E_t [log p_t(k)],   and, for one class more,   z_{K+1} = log(1 - sum_k exp(z_k)),

the mass that they do not agree about (never negative, by Jensen). With it the cross-entropy of the answer is exactly
the mean of the cross-entropies, in value and in gradient, so that draws that still fail weigh most. The cross-entropy
of mean logits would give those that have long succeeded the same weight.

Source: Athalye, Engstrom, Ilyas and Kwok, "Synthesizing robust adversarial examples", ICML 2018 (arXiv 1707.07397),
equation 2.
Departures: the size of the perturbation is a budget, not a penalty in a perceptual colour space.
Cost: `draws` times the forwards and backwards of the attack, per sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.base import Attack, Logits, View, rows
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from attacks.transformations import Composed, Transformation, named


class Expected:
    """A network that looks at random transformations of its images, new ones at every call, per sample.

    Attributes:
        calls: (B,) how often each sample was looked at.
    """

    def __init__(
        self, network: Logits, transformation: Transformation, draws: int, rng: Rng, box: tuple[float, float]
    ) -> None:
        if not math.isfinite(box[1] - box[0]):
            raise ValueError(f"Expectation: the box must have bounds, which transformations of light need, got {box}")
        self.calls = torch.zeros_like(rng.keys)
        self._network = network
        self._transformation = transformation
        self._draws = draws
        self._rng = rng
        self._box = box

    def __call__(self, x: Tensor) -> Tensor:
        """Mean log-probabilities (B, K + 1) of images (B, C, H, W)."""
        return self.run(x, torch.arange(len(x), device=x.device))

    def rows(self, index: Tensor) -> Logits:
        """The same network for a batch whose row i is sample `index[i]`."""
        return View(self.run, index)

    def run(self, x: Tensor, index: Tensor) -> Tensor:
        """The answer for `x` (b, C, H, W), the images of the samples `index` (b,)."""
        streams = self._rng[index].drawn(self.calls[index])
        self.calls[index] += 1
        low, width = self._box[0], self._box[1] - self._box[0]
        copies = torch.cat([streams.fold(draw).keys for draw in range(self._draws)])
        seen = self._transformation(((x - low) / width).repeat(self._draws, 1, 1, 1), Rng(copies))
        logits = rows(self._network, index.repeat(self._draws))(seen * width + low)
        agreed = logits.log_softmax(1).view(self._draws, len(x), -1).mean(0)  # (b, K)
        rest = 1 - agreed.exp().sum(1, keepdim=True)
        return torch.cat([agreed, rest.clamp(min=1e-12).log()], dim=1)


@dataclass(frozen=True)
class Expectation:
    """A gradient attack on the expected loss over random transformations (EOT).

    Attributes:
        attack: what follows the gradient; a mapping has the fields of `attacks.pgd.PGD`, without early stop.
        transformations: their names in `attacks.transformations` and strengths, in the order in which they are applied.
        draws: transformations at each look at the network. Momentum averages those of several steps.
        at_once: most transformed images in one forward; what is more waits for its turn, sample by sample.
    """

    minimal: ClassVar[bool] = False

    attack: Any = field(default_factory=lambda: {"steps": 80, "momentum": 0.9, "random_start": False})
    transformations: Mapping[str, float] = field(default_factory=lambda: {"print_and_photograph": 1.0})
    draws: int = 1
    at_once: int = 64

    def __post_init__(self) -> None:
        if isinstance(self.attack, Mapping):
            object.__setattr__(self, "attack", PGD(**{"early_stop": False, **self.attack}))
        if self.attack.minimal or getattr(self.attack, "early_stop", False) is not False:
            raise ValueError(
                "attack: must spend its budget and must not stop at the first success, of which one draw says little"
            )
        for name, value in (("draws", self.draws), ("at_once", self.at_once)):
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value}")
        if not self.transformations:
            raise ValueError("transformations: must name at least one, got none")
        self.transformation()

    @property
    def norms(self) -> frozenset[str]:
        """Those of the attack."""
        inner: Attack = self.attack
        return inner.norms

    def transformation(self) -> Transformation:
        """What is drawn from."""
        return Composed(tuple(named(name, strength) for name, strength in self.transformations.items()))

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W)."""
        each = max(1, self.at_once // self.draws)
        index = torch.arange(len(x), device=x.device)
        starts = range(0, len(x), each)
        return torch.cat([self._some(logits, x, goal, threat, rng, index[i : i + each]) for i in starts])

    def _some(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, rng: Rng, index: Tensor) -> Tensor:
        streams = rng[index]
        network = Expected(rows(logits, index), self.transformation(), self.draws, streams.fold(0), threat.box)
        found: Tensor = self.attack(network, x[index], goal[index], threat, rng=streams.fold(1))
        return found
