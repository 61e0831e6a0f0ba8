"""Destruction rates: which perturbations survive light, a camera and a file, and an attack whose do.

Every perturbation is judged as it is, under each transformation alone at one strength, and under a composition of
random ones, several times. Fast and iterative perturbations run at all budgets of the run; the targeted ones, plain and
by expectation over transformations, at one. The unperturbed images are judged under the same transformations.

Source: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world", 2016 (arXiv 1607.02533); Athalye,
Engstrom, Ilyas and Kwok, "Synthesizing robust adversarial examples", ICML 2018 (arXiv 1707.07397).
Departures: the print and its photograph are simulated; see `attacks.transformations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from attacks.base import Attack
from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps
from attacks.transformations import Transformation, named
from eval.data import Data
from eval.derived import Derived
from eval.errors import InputError
from eval.studies.looks import AWAY, LEAST
from eval.trial import Cohort, Trial
from models.spec import Spec

CLEAN = "clean_"  # before the name of a transformation, in the role of an unperturbed image


@dataclass(frozen=True)
class Transformed:
    """What a transformation makes of perturbed images, or of the unperturbed ones."""

    transformation: Transformation
    clean: bool = False

    def __call__(self, x: Tensor, x_adv: Tensor, rng: Rng, box: tuple[float, float]) -> Tensor:
        """Transformed images."""
        low, width = box[0], box[1] - box[0]
        return self.transformation(((x if self.clean else x_adv) - low) / width, rng) * width + low


@dataclass(frozen=True)
class Physical:
    """Adversarial examples in the physical world.

    Attributes:
        eps: budget of the targeted attacks, in box units.
        norm: of the budget.
        untargeted: attacks away from the label, at all budgets of the run.
        least_likely: attacks towards the least likely class, at all budgets of the run.
        targeted: attacks by the goal of the run; the first one is what the others are compared with.
        composition: name of the transformation that stands for a photographed print.
        strength: of the composition.
        draws: looks at each image under the composition.
        transformations: names and strengths of those that are applied alone; a strength of 0 leaves one out.
    """

    eps: str = "8/255"
    norm: str = "linf"
    untargeted: list[str] = field(default_factory=lambda: ["fgsm", "bim"])
    least_likely: list[str] = field(default_factory=lambda: ["bim"])
    targeted: list[str] = field(default_factory=lambda: ["pgd", "expectation"])
    composition: str = "print_and_photograph"
    strength: float = 1.0
    draws: int = 10
    transformations: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ThreatModel(self.norm, parse_eps(self.eps))
        if self.draws < 1:
            raise InputError(f"draws: must be at least 1, got {self.draws}")
        for key in ("untargeted", "targeted"):
            if not getattr(self, key):
                raise InputError(f"{key}: must name at least one attack, got none")
        if not self.strength > 0:
            raise InputError(f"strength: must be > 0, got {self.strength:g}")
        self._derived(CLEAN)

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All networks, trained on all training samples if they are to be trained."""
        return [Cohort(models, data.train)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """Each method by its goal, and the unperturbed images."""
        for key in ("untargeted", "least_likely", "targeted"):
            for name in getattr(self, key):
                if name not in attacks:
                    raise InputError(f"study.{key}: must name chosen attacks ({', '.join(attacks)}), got {name}")
                if attacks[name].minimal:
                    raise InputError(f"study.{key}: must name attacks that spend a budget, got {name}, a minimal one")
        seen, budget = self._derived(), [(self.eps, ThreatModel(self.norm, parse_eps(self.eps)))]
        first, *others = self.targeted
        away = {name + AWAY: attacks[name] for name in self.untargeted}
        least = {name + LEAST: attacks[name] for name in self.least_likely}
        return [
            Trial(data.test, away, goal="untargeted", derived=seen),
            Trial(data.test, least, goal="least_likely", derived=seen),
            Trial(data.test, {first: attacks[first]}, derived={**seen, **self._derived(CLEAN)}, threats=budget),
            Trial(data.test, {name: attacks[name] for name in others}, derived=seen, threats=budget),
        ]

    def _derived(self, prefix: str = "") -> dict[str, Derived]:
        """What is judged beside each perturbation, by role: the transformations, and the looks of the composition."""
        clean = prefix == CLEAN
        found: dict[str, Derived] = {}
        for name, strength in self.transformations.items():
            if strength != 0:
                found[prefix + name] = Transformed(self._named(name, strength, "transformations"), clean)
        whole = self._named(self.composition, self.strength, "composition")
        return found | {f"{prefix}{self.composition}_{look}": Transformed(whole, clean) for look in range(self.draws)}

    def _named(self, name: str, strength: float, key: str) -> Transformation:
        try:
            return named(name, strength, fixed=True)
        except ValueError as error:
            raise InputError(f"{key}: {error}") from None
