"""Edge fingerprints: the nearest mean of what eight written-down filters see, attacked like any other network.

The lesson's two classes are told apart as there, and with its error mended. All classes are told apart, and what is
made for networks is shown to the templates, and the other way round. Filters that are written down stand beside random
ones, learnt ones and none.

Source: see `models.fingerprint`; Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv
1312.6199v4), section 4.2, for examples that one network hands to another.
Departures: the lesson's 1,000 images of each class are its last training images; here too, or where there are fewer
than three times as many, a third of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from attacks.base import Attack
from eval.data import Data, Samples, limited
from eval.data.subset import of_classes
from eval.derived import CONTROL
from eval.errors import InputError
from eval.studies.edges_names import EACH, PAIR, RANDOM, TEMPLATES, VARIANTS
from eval.trial import Arrays, Cohort, Trial
from models.classifier import Classifier
from models.fingerprint import Fingerprint, Fingerprints
from models.spec import Spec

_ALL = ["filters", "weights", "templates"]


@dataclass(frozen=True)
class Templates:
    """The filters and the templates of a network of fingerprints."""

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """`filters` (F, 3, 3), `weights` (F,) and `templates` (n, F, P, P); nothing of other networks."""
        module = classifier.network
        if not isinstance(module, Fingerprints):
            return {}
        found = {"filters": module.filters, "weights": module.logs.exp(), "templates": module.templates}
        return {name: value.detach().cpu().numpy() for name, value in found.items()}


@dataclass(frozen=True)
class Edges:
    """Edge fingerprints beside networks that learn.

    Attributes:
        network: name of the model of fingerprints.
        pair: two classes that it tells apart as the lesson does, by position or name.
        images: test images that are attacked; None for all.
        draws: sets of random filters, in whose mean the written-down ones are compared with random ones.
    """

    network: str = "fingerprint"
    pair: list[Any] = field(default_factory=lambda: [8, 1])
    images: int | None = 1000
    draws: int = 20

    def __post_init__(self) -> None:
        if len(self.pair) != 2:
            raise InputError(f"pair: must be two classes, got {list(self.pair)}")
        if self.draws < 1:
            raise InputError(f"draws: must be at least 1, got {self.draws}")
        if self.images is not None and self.images < 1:
            raise InputError(f"images: must be at least 1, got {self.images}")

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """The models, the fingerprints with other filters, and those of two classes."""
        spec = models.get(self.network)
        if not isinstance(spec, Fingerprint):
            raise InputError(
                f"study.network: must name a chosen model of fingerprints ({', '.join(models)}), got {self.network}; "
                "such as model=[fingerprint,cnn]"
            )
        if data.train is None:
            raise InputError(f"data: must have training samples for this study, got none in {data.name}")
        side = data.test.shape[1]
        if data.test.shape[2] != side:
            raise InputError(f"data: must have square images for this study, got {data.test.shape[1:]}")
        pixels = replace(spec, filters="pixel", places=side, standardise="none")
        straight = replace(spec, filters="straight")
        plain = replace(spec, standardise="none")
        forms = {
            "_plain": plain,
            "_straight": straight,
            "_diagonal": replace(spec, filters="diagonal"),
            "_pixels": pixels,
            "_weighted": replace(spec, learn=["weights"]),
            "_edges_learnt": replace(spec, learn=_ALL),
            "_random_learnt": replace(spec, filters="random", learn=_ALL),
        }
        assert list(forms) == list(VARIANTS)
        random = {f"{RANDOM}{i}": replace(spec, filters="random") for i in range(self.draws)}
        places = list(self._places(data))
        pair = {
            "_pair": replace(spec, standardise="templates"),
            "_pair_both": replace(spec, standardise="both"),
            "_pair_plain": plain,
            "_pair_straight": straight,
            "_pair_pixels": pixels,
        }
        assert list(pair) == list(PAIR)
        kept, _ = self._halves(data)
        return [
            Cohort(models, data.train),
            Cohort({self.network + ending: form for ending, form in (forms | random).items()}, data.train),
            Cohort({self.network + ending: replace(form, classes=places) for ending, form in pair.items()}, kept),
        ]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """Attacks across the models, and on each variant; the two classes without any."""
        if not attacks or any(attack.minimal for attack in attacks.values()):
            raise InputError(f"attack: must be one or more that spend a budget, got {', '.join(attacks) or 'none'}")
        n = len(data.test)
        some = limited(data.test, min(self.images or n, n), seed, "study.images")
        variants = tuple(self.network + ending for ending in VARIANTS)
        random = tuple(f"{self.network}{RANDOM}{i}" for i in range(self.draws))
        pair = tuple(self.network + ending for ending in PAIR)
        _, held = self._halves(data)
        others = (*VARIANTS, *PAIR, *(f"{RANDOM}{i}" for i in range(self.draws)))
        seen = {TEMPLATES: Templates()}
        return [
            Trial(some, attacks, without=others, transfer=True, derived=CONTROL, probes=seen),
            Trial(some, attacks, (*variants, *random), derived=CONTROL, probes=seen),
            Trial(held, models=pair),
        ]

    def _halves(self, data: Data) -> tuple[Samples, Samples]:
        """Training samples of both classes: those that templates are made of, and the last ones of each."""
        assert data.train is not None
        both = of_classes(data.train, self._places(data))
        last = []
        for place in self._places(data):
            own = np.flatnonzero(both.labels == place)
            if len(own) < 3:
                raise InputError(f"study.pair: must have 3 training samples of {data.test.classes[place]} or more")
            last.append(own[-min(EACH, len(own) // 3) :])
        held = np.sort(np.concatenate(last))
        return both.select(np.setdiff1d(np.arange(len(both)), held)), both.select(held)

    def _places(self, data: Data) -> tuple[int, int]:
        classes = data.test.classes
        found = [p if isinstance(p, int) else classes.index(p) if p in classes else -1 for p in self.pair]
        if len(set(found)) != 2 or not all(0 <= place < len(classes) for place in found):
            raise InputError(
                f"study.pair: must be two classes of {data.name} ({', '.join(classes)}), by position or name, "
                f"got {list(self.pair)}"
            )
        return found[0], found[1]
