"""Gradients through a stand-in: for networks whose own say nothing.

    decision:  argmax f(x)              of the real network f, which decides what counts
    backward:  J_g(x)^T dL/dz           of a differentiable stand-in g, with g(x) ~ f(x)

by any attack that follows gradients. It is shown a network of its own: where both predict the same class, its logits
are those of the stand-in, else the real ones; its derivative is that of the stand-in. So the loss sees logits and no
probabilities, plateaus or decisions in their place, and yet nothing counts that the real network does not say.

A network offers its stand-in as `attacks.base.HasStandIn` says: one of the user's by a method `differentiable(x)`. If a
preprocessing h stands before a network f0, that is f0(x + (h(x) - x).detach()), for the identity backwards.

Source: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security: circumventing defenses to
adversarial examples", ICML 2018 (arXiv 1802.00420), section 4.1 (backward pass differentiable approximation).
Departures: theirs takes the loss at the real logits; with the preprocessings that they study the two are the same.
Cost: that of the attack, and one forward of the stand-in for each backward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.base import Attack, Logits, rows, stand_in
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel


class _Guided(torch.autograd.Function):
    """Values of the one, derivatives of the other."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        """`value` as it is."""
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """All to `other`."""
        return None, gradients[0]


def guided(value: Tensor, guide: Tensor) -> Tensor:
    """The logits `guide` (B, K) where they predict what `value` (B, K) does, else those; derivatives of `guide`."""
    same = (value.argmax(1) == guide.argmax(1)) & ~value.isnan().any(1)
    out: Tensor = _Guided.apply(torch.where(same[:, None], guide.detach(), value), guide)
    return out


class Guided:
    """A network with the derivative of another."""

    def __init__(self, network: Logits, guide: Logits) -> None:
        self._network = network
        self._guide = guide

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) for images (B, C, H, W), which predict what the network predicts."""
        with torch.no_grad():
            value = self._network(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        return guided(value, self._guide(x))

    def rows(self, index: Tensor) -> Logits:
        """The same for a batch whose row i is row `index[i]` of this one's."""
        return Guided(rows(self._network, index), rows(self._guide, index))


@dataclass(frozen=True)
class BPDA:
    """A gradient attack that follows the network's stand-in.

    Attributes:
        attack: what follows the gradient; a mapping has the fields of `attacks.pgd.PGD`.
    """

    minimal: ClassVar[bool] = False

    attack: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.attack, Mapping):
            object.__setattr__(self, "attack", PGD(**self.attack))
        if self.attack.minimal:
            raise ValueError("attack: must keep to a budget, got a search for the smallest perturbation")

    @property
    def norms(self) -> frozenset[str]:
        """Those of the attack."""
        inner: Attack = self.attack
        return inner.norms

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W).

        Raises:
            ValueError: the network offers no stand-in.
        """
        guide = stand_in(logits)
        if guide is None:
            raise ValueError(
                "BPDA: the network must offer a stand-in, a method differentiable(x) -> logits with useful gradients, "
                "got none; without one take attack=pgd, or attack=square, which needs no gradient"
            )
        found: Tensor = self.attack(Guided(logits, guide), x, goal, threat, rng=rng)
        return found
