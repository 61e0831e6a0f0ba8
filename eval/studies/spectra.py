"""How unstable the layers can be: Table 5 of Szegedy et al., with what it lacks.

The norm of every layer of every network, their product, the largest ratio of lengths that a search finds beside it, the
radius that it proves beside what an attack finds; networks that have learnt nothing as a null; if one likes, networks
trained with the norms as a penalty. And the two slips of the paper.

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3.
Departures: max-pools and the factor of a stride as they are (`eval.spectral_slips`); batch norms are folded into the
layers before them, unless the run says fold=false.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from attacks.base import Attack
from eval.data import Data, limited
from eval.errors import InputError
from eval.spectra import SPECTRA
from eval.spectra import Spectra as Probe
from eval.spectral_slips import SLIPS, Slips
from eval.studies.spectral_names import BOUNDED, UNTRAINED
from eval.trial import Cohort, Trial
from models.bounded import Bounded
from models.renamed import Renamed
from models.spec import Spec, comes_ready


@dataclass(frozen=True)
class Spectra:
    """Norms of layers, and what follows.

    Attributes:
        images: test images that are attacked and certified; None for all.
        pairs: of them, from which the search for the largest ratio starts; None for 32, or fewer of a large network.
        steps: of that search.
        untrained: whether networks with weights drawn anew stand beside.
        penalty: of the norms, for networks that are trained with it besides; None for none.
    """

    images: int | None = 100
    pairs: int | None = None
    steps: int = 60
    untrained: bool = True
    penalty: float | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 2:
            raise InputError(f"images: must be at least 2, got {self.images}")
        if self.penalty is not None and not 0 < self.penalty < math.inf:
            raise InputError(f"penalty: must be > 0, or null for none, got {self.penalty}")
        Probe(self.pairs, self.steps)  # refuses what it cannot measure with

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All models; those with the penalty, where they are trained at all; and all untrained."""
        # Renamed, not given a cohort's suffix: built under the model's name, they begin with its initial weights.
        found = [Cohort(models, data.train)]
        if self.penalty is not None:
            bounded = {name: Bounded(spec, self.penalty) for name, spec in models.items() if not comes_ready(spec)}
            fresh = {name: Renamed(spec, BOUNDED) for name, spec in bounded.items()}
            if not fresh:
                raise InputError(
                    f"study.penalty: must be null for networks that come with their weights ({', '.join(models)})"
                )
            found.append(Cohort(fresh, data.train))
        null = {name: Renamed(spec, UNTRAINED) for name, spec in models.items()}
        return [*found, Cohort(null, data.train, untrained=True)] if self.untrained else found

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """The attacks, which search for the smallest perturbation, and the probes, on the same images."""
        for name, attack in attacks.items():
            if not attack.minimal or "l2" not in attack.norms:
                raise InputError(
                    f"attack.{name}: must search for the smallest L2 perturbation in this study, as lbfgs and fab do"
                )
        n = len(data.test)
        samples = limited(data.test, min(self.images or n, n), seed, "study.images")
        return [Trial(samples, attacks, norm="l2", probes={SPECTRA: Probe(self.pairs, self.steps), SLIPS: Slips()})]
