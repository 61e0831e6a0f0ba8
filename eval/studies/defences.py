"""What the two defences that everybody names are worth: adversarial training and defensive distillation.

Each model is trained three times: as it is, on adversarial images, and distilled. All are attacked by weak searches,
with which a defence was once said to work, and by strong ones; the report says which network only looked robust.

Source: Papernot et al., "Distillation as a defense", IEEE S&P 2016 (arXiv 1511.04508); Carlini and Wagner, "Towards
evaluating the robustness of neural networks", IEEE S&P 2017 (arXiv 1608.04644); Madry et al., ICLR 2018
(arXiv 1706.06083).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attacks.base import Attack
from attacks.pgd import PGD
from eval.data import Data, limited
from eval.errors import InputError
from eval.studies.linf import linf
from eval.trial import Cohort, Trial
from models.recipe import TrainConfig
from models.spec import Spec

TEACHER, DISTILLED, HARDENED = "_teacher", "_distilled", "_adversarial"
"""After the name of a model: the network that teaches, the one that learns from it, the one of adversarial training."""


@dataclass(frozen=True)
class Defences:
    """Adversarial training and defensive distillation beside no defence.

    Attributes:
        temperature: of the distillation.
        eps: Linf budget of adversarial training and of all attacks that have one, in box units.
        steps: of the PGD that adversarial training uses.
        epochs: passes over the training samples.
        batch_size: samples a step of the training.
        lr: greatest learning rate.
        images: test images that are attacked; None for all.
        weak: attacks among the chosen ones that a defence is commonly shown with.
    """

    temperature: float = 20.0
    eps: str = "0.1"
    steps: int = 7
    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-2
    images: int | None = None
    weak: list[str] = field(default_factory=lambda: ["fgsm", "pgd"])

    def __post_init__(self) -> None:
        if not self.temperature > 1:
            raise InputError(f"temperature: must be > 1, got {self.temperature:g}")
        linf(self.eps)
        for key in ("steps", "epochs", "batch_size", "images"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key}: must be at least 1, got {value}")

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """For each model: itself, its adversarially trained twin, a teacher, and the network that learns from it."""
        if data.train is None:
            raise InputError(f"data: must have training samples for this study, got none in {data.name}")
        config = TrainConfig(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        made = {"attack": "pgd", "norm": "linf", "eps": self.eps, "steps": self.steps}
        hard = replace(config, method="adversarial", adversary=made)
        adversary = (PGD(steps=self.steps, early_stop=False), linf(self.eps))
        found = []
        for name, spec in models.items():
            one = {name: spec}
            warm: dict[str, Any] = {"config": config, "temperature": self.temperature}
            found += [
                Cohort(one, data.train, config=config),
                Cohort(one, data.train, HARDENED, config=hard, adversary=adversary),
                Cohort(one, data.train, TEACHER, **warm),
                Cohort(one, data.train, DISTILLED, teacher=name + TEACHER, **warm),
            ]
        return found

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """All attacks on all networks but the teachers; perturbations are tried on the other networks too."""
        for name in self.weak:
            if name not in attacks:
                raise InputError(f"study.weak: must name chosen attacks ({', '.join(attacks)}), got {name}")
        n = len(data.test)
        if self.images is not None and self.images > n:
            raise InputError(f"study.images: must be at most {n}, all that {data.name} has to offer, got {self.images}")
        samples = limited(data.test, min(self.images or n, n), seed, "study.images")
        threats = [(self.eps, linf(self.eps))]
        return [Trial(samples, attacks, transfer=True, threats=threats)]
