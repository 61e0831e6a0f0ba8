"""What a run consists of: networks by what they are trained on, and trials of them on some samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from attacks.base import Attack
from eval.data import Data, Samples
from eval.derived import Derived
from models.spec import Spec


@dataclass(frozen=True)
class Cohort:
    """Networks, and the samples that those without weights are trained on.

    Attributes:
        specs: by the name of their node.
        train: training samples; None where there are none.
        suffix: of their names, where another cohort has networks of the same specs.
    """

    specs: Mapping[str, Spec]
    train: Samples | None
    suffix: str = ""


@dataclass(frozen=True)
class Trial:
    """Samples that networks are tried on.

    Attributes:
        samples: their clean predictions are recorded in any case.
        attacks: searches for perturbations of them, by name.
        models: names of the networks; None for all.
        transfer: judge every perturbation on all these networks, not only on the one that it was made for.
        derived: what is judged beside each perturbation, by role.
    """

    samples: Samples
    attacks: Mapping[str, Attack] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    transfer: bool = False
    derived: Mapping[str, Derived] = field(default_factory=dict)


class Study(Protocol):
    """An experiment that is more than all attacks on all networks: what stands in one file of `conf/study`."""

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """Which networks are trained on what.

        Raises:
            InputError: the data or the chosen models do not allow it.
        """

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """What is tried on what, in order.

        Raises:
            InputError: as `cohorts` does.
        """
