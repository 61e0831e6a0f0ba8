"""How near searches for the smallest perturbation come: accuracy against eps from one run, and their optimality.

All chosen searches without a budget run on all networks in every norm that they support of those asked for. The report
shows, norm by norm, each search's curve of accuracy against eps beside that of the pool, the smallest distance of each
image that any of them found, and how near each comes to the pool (`eval.optimality`). A pool of an earlier run can be
given, so that numbers of several runs can be compared: xi is about a pool, and falls when a better search joins it.

Source: Cina et al., "AttackBench", AAAI 2025 (arXiv 2404.19460).
Departures: the curve's area is exact; costs are counted, but no budget of them is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attacks.base import Attack
from attacks.norms import NORMS
from eval.data import Data, limited
from eval.errors import InputError
from eval.studies.known_pool import read_pool
from eval.trial import Cohort, Trial
from models.spec import Spec


@dataclass(frozen=True)
class Distances:
    """The smallest perturbations, by several searches in several norms.

    Attributes:
        norms: in which they are searched for.
        images: test images; None for all.
        pool: a pool.csv of an earlier run, whose distances count as well.
    """

    norms: list[str] = field(default_factory=lambda: ["l2", "linf", "l1", "l0"])
    images: int | None = None
    pool: str | None = None

    def __post_init__(self) -> None:
        if not self.norms or not set(self.norms) <= set(NORMS) or len(set(self.norms)) < len(self.norms):
            raise InputError(f"norms: must be one or more of {', '.join(NORMS)}, each once, got {list(self.norms)}")
        if self.images is not None and self.images < 1:
            raise InputError(f"images: must be at least 1, got {self.images}")

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All models on all training samples."""
        return [Cohort(models, data.train)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """One for each norm that an attack supports; an attack that takes part in several is named by its norm too."""
        if not attacks:
            raise InputError("attack: must name at least one in this study, got none; such as attack=[lbfgs,fab]")
        for name, attack in attacks.items():
            if not attack.minimal:
                raise InputError(
                    f"attack.{name}: must search for the smallest perturbation in this study, as lbfgs and fab do"
                )
            if not attack.norms & set(self.norms):
                raise InputError(
                    f"study.norms: must have a norm of attack.{name} ({', '.join(sorted(attack.norms))}), "
                    f"got {', '.join(self.norms)}"
                )
        if self.pool is not None:
            read_pool(Path(self.pool))  # complain before anything is done
        n = len(data.test)
        samples = limited(data.test, min(self.images or n, n), seed, "study.images")
        found = []
        for norm in self.norms:
            some = {self._named(name, a, norm): a for name, a in attacks.items() if norm in a.norms}
            if some:
                found.append(Trial(samples, some, norm=norm))
        return found

    def _named(self, name: str, attack: Attack, norm: str) -> str:
        return f"{name}_{norm}" if len(attack.norms & set(self.norms)) > 1 else name
