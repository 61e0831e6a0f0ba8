"""Expectation over a network's own draws and over neighbours of the image, for what is random or rugged.

    z_k(x) = log E [p_k(x + sigma n)],   n ~ N(0, 1),

the expectation over `draws` forwards, each with new neighbours and whatever the network itself draws at random. Its
gradient is that of the expected probability, E [grad p_k] / E [p_k]: one that a random network has, though none of its
draws does, and one of the large where those of the points are shattered. It is followed by any attack that keeps going.
What counts is the image itself: with sigma > 0 it is asked as well, and where it gets another class than its neighbours
do in the mean, its logits take their place.

Sources: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018 (arXiv
1802.00420), section 4.2, for draws of the network; Tramer, Carlini, Brendel and Madry, "On adaptive attacks to
adversarial example defenses", NeurIPS 2020 (arXiv 2002.08347), section 5, for neighbours, against k-winners.
Departures: neighbours that leave the box are cut off, with the derivative of the identity.
Cost: `draws` times the forwards and backwards of the attack, and with sigma > 0 its forwards once more, per sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.base import Attack, Logits, View, rows
from attacks.bpda import guided
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel


class Averaged:
    """A network that is asked `draws` times at each look, one forward after the other.

    One after the other, since a network may draw once for its whole batch.
    """

    def __init__(self, network: Logits, draws: int, sigma: float, rng: Rng, box: tuple[float, float]) -> None:
        self._network = network
        self._draws = draws
        self._sigma = sigma
        self._rng = rng
        self._box = box
        self._looks = torch.zeros_like(rng.keys)  # (B,) how often each sample was looked at

    def __call__(self, x: Tensor) -> Tensor:
        """Logarithms (B, K) of the mean probabilities for images (B, C, H, W)."""
        return self.run(x, torch.arange(len(x), device=x.device))

    def rows(self, index: Tensor) -> Logits:
        """The same network for a batch whose row i is sample `index[i]`."""
        return View(self.run, index)

    def run(self, x: Tensor, index: Tensor) -> Tensor:
        """The answer for `x` (b, C, H, W), the images of the samples `index` (b,)."""
        network, streams = rows(self._network, index), self._rng[index].drawn(self._looks[index])
        self._looks[index] += 1
        draws = [network(self._near(x, streams.fold(draw))).log_softmax(1) for draw in range(self._draws)]
        mean = torch.stack(draws).logsumexp(0) - math.log(self._draws)
        if self._sigma == 0:
            return mean
        with torch.no_grad():
            own = network(x).log_softmax(1)
        return guided(own, mean)

    def _near(self, x: Tensor, rng: Rng) -> Tensor:
        """A neighbour (b, C, H, W) of each image."""
        if self._sigma == 0:
            return x
        with torch.no_grad():
            noise = rng.normal(*x.shape[1:]).to(x.dtype) * self._sigma
            away = torch.clamp(x + noise, *self._box) - x
        return x + away


@dataclass(frozen=True)
class EOT:
    """A gradient attack on the expected answer of a network.

    Attributes:
        attack: what follows the gradient; a mapping has the fields of `attacks.pgd.PGD`, without early stop.
        draws: forwards at each look.
        sigma: standard deviation of the neighbours, in box units; 0 for the image alone.
    """

    minimal: ClassVar[bool] = False

    attack: Any = field(default_factory=dict)
    draws: int = 20
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.attack, Mapping):
            object.__setattr__(self, "attack", PGD(**{"early_stop": False, **self.attack}))
        if self.attack.minimal or getattr(self.attack, "early_stop", False) is not False:
            raise ValueError(
                "attack: must spend its budget and must not stop at the first success, of which one draw says little"
            )
        if self.draws < 1:
            raise ValueError(f"draws: must be at least 1, got {self.draws}")
        if not self.sigma >= 0:
            raise ValueError(f"sigma: must be >= 0 in box units, got {self.sigma:g}")

    @property
    def norms(self) -> frozenset[str]:
        """Those of the attack."""
        inner: Attack = self.attack
        return inner.norms

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W)."""
        network = Averaged(logits, self.draws, self.sigma, rng.fold(0), threat.box)
        found: Tensor = self.attack(network, x, goal, threat, rng=rng.fold(1))
        return found
