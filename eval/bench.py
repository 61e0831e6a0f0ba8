"""What units of work are made of, and what they work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from attacks.base import Attack, bears_rounding
from attacks.threat import ThreatModel
from eval.batches import Batch
from eval.blackbox import Access
from eval.clean import Clean
from eval.data import Samples
from eval.derived import Derived
from models.classifier import Classifier
from models.fused import Fused
from models.graphed import Graphed
from models.reduced import Reduced


@dataclass(frozen=True)
class Unit:
    """What makes one part: an attack with its budget, from one source, on the samples `index`."""

    source: str
    attack_name: str
    attack: Attack
    text: str
    threat: ThreatModel
    index: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bench:
    """What every unit works on.

    Attributes:
        samples: all samples of the run.
        classifiers: by name, on `device`.
        clean: what they say without perturbation, by name, of all samples.
        seed: of everything random.
        goal: rule of `eval.goals`.
        batch_size: images at once to begin with, of networks that `batches` does not name.
        transfer: judge on all classifiers, not on the source alone.
        derived: what is judged beside each perturbation, by role.
        examples: images to keep per unit.
        access: what the attacks see of the networks.
        reduced: of some classifiers, a form whose gradients are rounded, for attacks that bear it.
        quicker: of some classifiers, a form that answers the same sooner, for all attacks.
        victims: the network that perturbations made for a substitute are meant to fool, by the substitute's name.
        batches: images at once, by the network's name, shared by all that asks it; one each for those not named.
    """

    samples: Samples
    classifiers: Mapping[str, Classifier]
    clean: Mapping[str, Clean]
    device: torch.device
    seed: int
    goal: str
    batch_size: int
    transfer: bool
    derived: Mapping[str, Derived]
    examples: int
    access: Access = field(default_factory=Access)
    victims: Mapping[str, str] = field(default_factory=dict)
    reduced: Mapping[str, Reduced] = field(default_factory=dict)
    quicker: Mapping[str, Graphed | Fused] = field(default_factory=dict)
    batches: Mapping[str, Batch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {name: self.batches.get(name) or Batch(name, self.batch_size) for name in self.classifiers}
        object.__setattr__(self, "batches", own)

    @property
    def smallest(self) -> Batch:
        """The smallest batch of all the networks, for what asks several of them at once."""
        return min(self.batches.values(), key=lambda batch: batch.size)

    def rough(self, source: str, attack: Attack) -> Reduced | None:
        """The form of the network whose gradients are rounded, where the attack may and can ask it."""
        return self.reduced.get(source) if self.access.kind == "weights" and bears_rounding(attack) else None

    @property
    def sources(self) -> list[str]:
        """The networks that perturbations are made for: the substitutes, or all where there are none."""
        return list(self.victims or self.classifiers)

    def targets(self, source: str) -> list[str]:
        """The networks that judge what was made for `source`, itself first."""
        return [source, *(n for n in self.classifiers if n != source)] if self.transfer else [source]
