"""An evaluation with its own diagnosis: all attacks on all networks, and signs that their numbers cannot be trusted.

The diagnosis looks at some images, balanced by class, that a network classifies correctly; `eval.diagnosis` has what it
measures and what is read from it. With `diagnose` false this is the main job; without attacks, the diagnosis alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from attacks.base import Attack
from attacks.square import Square
from attacks.threat import ThreatModel, parse_eps
from eval.data import Data
from eval.derived import CONTROL
from eval.diagnosis.answers import Answers
from eval.diagnosis.below import PROOFS, Below
from eval.diagnosis.broader import Broader
from eval.diagnosis.neighbours import Neighbours
from eval.diagnosis.paths import Paths
from eval.diagnosis.searches import Searches
from eval.diagnosis.slopes import Slopes
from eval.diagnosis.smoothing import Smoothing
from eval.errors import InputError
from eval.trial import Cohort, Probe, Trial
from models.spec import Spec


@dataclass(frozen=True)
class Robustness:
    """Robust accuracy, and whether it can be believed.

    Attributes:
        norm: of the budget that the diagnosis looks at.
        eps: text of that budget.
        transfer: judge every perturbation on all networks, beside noise of the same size.
        images: correctly classified samples on which searches are compared.
        traced: of these, how many have their gradients and the path of a search looked at step by step.
        steps: of the gradient search that is looked at.
        draws: random points for each image that it leaves standing.
        queries: for scores, for each of them.
        certify: what is tried to prove that samples keep their class: `norms`, the gains of the layers; `bounds`,
            intervals and linear bounds.
        proved: samples on which that is tried.
        work: multiplications of weights that the bounds may take, for each network.
        smoothing: deviation of the noise in box units by which smoothed networks are certified beside; 0 for none.
    """

    follows: ClassVar[tuple[str, ...]] = ("norm", "eps")  # what must be that of the run's threat
    norm: str = "linf"
    eps: str = "8/255"
    transfer: bool = False
    images: int = 64
    traced: int = 24
    steps: int = 20
    draws: int = 100
    queries: int = 300
    certify: list[str] = field(default_factory=lambda: list(PROOFS))
    proved: int = 100
    work: float = 3e10
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        ThreatModel(self.norm, parse_eps(self.eps))
        if self.norm == "l0":
            raise InputError("norm: the diagnosis follows gradients in linf, l2 or l1, got l0; choose another threat")
        for name, least in (("images", 1), ("traced", 1), ("steps", 10), ("draws", 1), ("queries", 0), ("proved", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        Below(self.norm, self.eps, proofs=tuple(self.certify))
        if self.smoothing:
            Smoothing(self.norm, self.smoothing)

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All networks, trained on all training samples if they are to be trained."""
        return [Cohort(models, data.train)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """All attacks on all networks, and the probes of the diagnosis."""
        budget = {"norm": self.norm, "eps": self.eps}
        queries = self.queries if self.norm in Square.norms else 0
        probes: dict[str, Probe] = {
            "answers": Answers(),
            "slopes": Slopes(**budget, images=self.traced),
            "paths": Paths(**budget, images=self.traced, steps=self.steps),
            "searches": Searches(**budget, images=self.images, steps=self.steps, draws=self.draws, queries=queries),
            "neighbours": Neighbours(**budget, images=self.images),
            "broader": Broader(images=self.traced),
        }
        if self.certify:
            proofs = tuple(self.certify)
            probes["below"] = Below(self.norm, self.eps, images=self.proved, proofs=proofs, work=self.work)
        if self.smoothing:
            probes["smoothed"] = Smoothing(self.norm, self.smoothing, images=self.proved)
        derived = CONTROL if self.transfer else {}
        return [Trial(data.test, attacks, transfer=self.transfer, derived=derived, probes=probes)]
