"""One perturbation for all images: how many it fools, on which networks, into which classes, and made on how few.

For each network a perturbation is made in Linf and one in L2, by the algorithm of the paper and by an ascent inside the
box (`attacks.universal`), on training images; where the data have no training part, on one half of the test images.
Judged are other images, by all networks; random perturbations of the budget's size stand beside (`eval.universal`).

Source: Moosavi-Dezfooli, Fawzi, Fawzi and Frossard, "Universal adversarial perturbations", CVPR 2017 (arXiv
1610.08401).
Departures: the networks, and how many images there are; see `attacks.universal` and `eval.universal` for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from attacks.base import Attack
from attacks.threat import ThreatModel, parse_eps
from attacks.universal import UAP, Ascent, Shared
from eval.data import Data, Samples, balanced, limited
from eval.errors import InputError
from eval.studies.universal_names import ASCENT, DIRECTIONS, PAPERS, probe_of
from eval.trial import Beside, Cohort, Probe, Trial
from eval.universal import Directions, Making
from models.spec import Spec

_L2 = 2000 / (10 * (224 * 224 * 3) ** 0.5)  # the paper's L2 budget, as part of the longest vector of its Linf budget


@dataclass(frozen=True)
class Universal:
    """Universal adversarial perturbations.

    Attributes:
        norm: of the threat; `linf`.
        eps: budget in Linf, in box units.
        l2: budget in L2; None for the paper's part of the length that the Linf budget allows.
        images: that perturbations are made on, at most.
        curve: smaller numbers of images, in Linf.
        passes: of the paper's algorithm over the images, at most.
        steps: of each climb of the ascent.
        restarts: climbs of the ascent.
        draws: random perturbations of each norm.
        directions: random ones of the whole space and of each subspace.
        span: dimensions of the subspaces that some are drawn from, at most; never more than an eighth of all.
    """

    norm: str = "linf"
    eps: str = "0.2"
    l2: str | None = None
    images: int = 500
    curve: list[int] = field(default_factory=lambda: [1, 4, 16, 64, 256])
    passes: int = 5
    steps: int = 200
    restarts: int = 3
    draws: int = 5
    directions: int = 50
    span: int = 100

    def __post_init__(self) -> None:
        if self.norm != "linf":
            raise InputError(f"norm: must be linf, got {self.norm}; the L2 budget is study.l2")
        ThreatModel("linf", parse_eps(self.eps))
        if self.l2 is not None:
            ThreatModel("l2", parse_eps(self.l2))
        for key, least in (
            ("images", 2), ("passes", 1), ("steps", 1), ("restarts", 1), ("draws", 2), ("directions", 2), ("span", 1),
        ):  # fmt: skip
            if getattr(self, key) < least:
                raise InputError(f"{key}: must be at least {least}, got {getattr(self, key)}")
        if any(count < 1 for count in self.curve):
            raise InputError(f"curve: must be numbers of images, at least 1, got {list(self.curve)}")

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All models on all training samples."""
        return [Cohort(models, data.train)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """One: all that is measured, on the images that are judged."""
        if attacks:
            raise InputError(f"attack: must be none in this study, which has its own, got {', '.join(attacks)}")
        made, judged = self._parts(data, seed)
        l2 = self.l2 or f"{parse_eps(self.eps) * prod(data.test.shape) ** 0.5 * _L2:.4g}"
        makers: dict[str, Shared] = {
            PAPERS: UAP(passes=self.passes),
            ASCENT: Ascent(steps=self.steps, restarts=self.restarts),
        }
        fewer = tuple(sorted({count for count in self.curve if count < len(made)}, reverse=True))
        probes: dict[str, Probe | Beside] = {
            probe_of(name, norm): Making(maker, norm, eps, (len(made), *(fewer if norm == "linf" else ())), made)
            for norm, eps in (("linf", self.eps), ("l2", l2))
            for name, maker in makers.items()
        }
        probes[DIRECTIONS] = Directions(self.eps, l2, self.draws, self.directions, self.span, made)
        return [Trial(judged, probes=probes)]

    def _parts(self, data: Data, seed: int) -> tuple[Samples, Samples]:
        """What perturbations are made on, and what they are judged on."""
        if data.train is not None:
            return limited(data.train, min(self.images, len(data.train)), seed, "study.images"), data.test
        n = len(data.test)
        if n < 4:
            raise InputError(f"data: must have at least 4 images where none are to train on, got {n} in {data.name}")
        first = balanced(data.test.labels, n // 2, seed, "study.images")
        rest = np.setdiff1d(np.arange(n), first)
        half = data.test.select(first)
        return limited(half, min(self.images, len(half)), seed, "study.images"), data.test.select(rest)
