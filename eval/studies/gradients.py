"""Is the gradient that attacks follow the derivative of what the network computes?

Central differences beside backprop in float64, on images that no network was trained on: for every attack loss along
random directions and single pixels, and for every layer by its input. Untrained networks stand beside; and of every
network a copy with a wrong backward, which must be found.

Source: see `eval.gradcheck`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attacks.base import Attack
from eval.data import Data, limited
from eval.errors import InputError
from eval.gradients import Gradients as Probe
from eval.studies.gradient_names import GRADIENTS, UNTRAINED
from eval.trial import Cohort, Trial
from models.renamed import Renamed
from models.spec import Spec


@dataclass(frozen=True)
class Gradients:
    """The gradient check.

    Attributes:
        images: test images; None for all.
        random: directions of each.
        coordinates: single pixels of each.
        layer_images: images on which the layers are checked; 0: no layers.
        noise: standard deviation of what is added to each image first, so that pixels of one value do not tie in
            max-pools; 0 for images as they are.
        untrained: whether networks with weights drawn anew stand beside.
    """

    images: int | None = 20
    random: int = 4
    coordinates: int = 4
    layer_images: int = 2
    noise: float = 1e-3
    untrained: bool = True

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise InputError(f"images: must be at least 1, got {self.images}")
        self._probe()  # refuses what it cannot check with

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All models, and the same untrained."""
        # Renamed, not given a cohort's suffix: built under the model's name, it has the model's initial weights.
        null = {name: Renamed(spec, UNTRAINED) for name, spec in models.items()}
        return [Cohort(models, data.train), *([Cohort(null, data.train, untrained=True)] if self.untrained else [])]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """The probe, and attacks, if any are chosen."""
        n = len(data.test)
        samples = limited(data.test, min(self.images or n, n), seed, "study.images")
        return [Trial(samples, attacks, probes={GRADIENTS: self._probe()})]

    def _probe(self) -> Probe:
        return Probe(self.random, self.coordinates, self.layer_images, self.noise)
