"""How fast attacks are on a network: beside the floor of as many forwards and gradients, in one run.

PGD with ever more of what makes it faster, PGD of other libraries where they are installed, and the run's attacks are
timed in turns on one batch, and what each leaves standing is told beside. `eval.timing` has the procedure. Networks are
taken as they came: batch norms are not folded but where that is measured (`fold=false`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from attacks.base import Attack
from attacks.pgd import PGD
from attacks.threat import ThreatModel, parse_eps
from eval.data import Data, limited
from eval.errors import InputError
from eval.libraries import LIBRARIES
from eval.speed import PRECISIONS
from eval.timing import TIMING, Timing
from eval.trial import Cohort, Trial
from models.spec import Spec


@dataclass(frozen=True)
class Benchmark:
    """Times of attacks, as ratios to the floor.

    Attributes:
        norm: of the budget.
        eps: text of the budget.
        steps: of PGD, and of the floor.
        images: test images, which make one batch, balanced by class.
        rounds: how often each contender is timed.
        libraries: other libraries, by name; those that are not installed are left out, which is told.
        channels_last, fuse, precision: of the run; what they turn off is not measured.
        graphs: of the run.
    """

    follows: ClassVar[tuple[str, ...]] = ("norm", "eps")
    norm: str = "linf"
    eps: str = "8/255"
    steps: int = 40
    images: int = 128
    rounds: int = 5
    libraries: list[str] = field(default_factory=lambda: list(LIBRARIES))
    channels_last: bool = True
    fuse: bool = True
    precision: str = "auto"
    graphs: bool = False

    def __post_init__(self) -> None:
        ThreatModel(self.norm, parse_eps(self.eps))
        if self.norm not in PGD.norms:
            raise InputError(f"norm: must be one of {', '.join(sorted(PGD.norms))}, which PGD has, got {self.norm}")
        for name, least in (("steps", 1), ("images", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision: must be one of {', '.join(PRECISIONS)}, got {self.precision}")
        for name in self.libraries:
            if name not in LIBRARIES:
                raise InputError(f"libraries: must be of {', '.join(LIBRARIES)}, got {name}")

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All networks, trained on all training samples if they are to be trained."""
        return [Cohort(models, data.train)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """The clock, on one batch of test images."""
        samples = limited(data.test, min(self.images, len(data.test)), seed, "study.images")
        timing = Timing(
            self.norm, self.eps, self.steps, self.rounds, tuple(attacks.items()), tuple(self.libraries),
            self.channels_last, self.fuse, self.precision, self.graphs,
        )  # fmt: skip
        return [Trial(samples, probes={TIMING: timing})]
