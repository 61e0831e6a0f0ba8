"""What a run consists of: networks by what they are trained on and how, and trials of them on some samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from attacks.base import Attack
from attacks.threat import ThreatModel
from eval.album import Album
from eval.blackbox import Access
from eval.data import Data, Samples
from eval.derived import Derived
from eval.pooling import Filling
from eval.substitute import Imitation
from eval.watch import Watcher
from models.classifier import Classifier
from models.recipe import TrainConfig
from models.spec import Spec

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Cohort:
    """Networks, and what those without weights are trained on and how.

    Attributes:
        specs: by the name of their node.
        train: training samples; None where there are none.
        suffix: of their names, where another cohort has networks of the same specs.
        config: the recipe; None for the run's.
        adversary: the attack and the budget of adversarial training, if `config` asks for it.
        seed: of initialisation and training; None for the run's.
        pools: of adversarial examples that are trained on as well; None for none.
        temperature: of the softmax in training; above 1 for defensive distillation and its teacher.
        teacher: name of a network of the cohorts before whose softened answers are learnt in place of the labels.
        imitates: how these networks learn from each network of the cohorts before, as its substitutes.
        untrained: the networks stay as they are drawn; weights that one came with are drawn again.
        test: samples of the size that the networks take; None for the run's.
        guesses: the networks are meant to know nothing, as those are that are not trained.
    """

    specs: Mapping[str, Spec]
    train: Samples | None
    suffix: str = ""
    config: TrainConfig | None = None
    adversary: tuple[Attack, ThreatModel] | None = None
    seed: int | None = None
    pools: Filling | None = None
    temperature: float = 1.0
    teacher: str | None = None
    imitates: Imitation | None = None
    untrained: bool = False
    test: Samples | None = None
    guesses: bool = False


class Probe(Protocol):
    """Measures a network on samples where records are not the form for it; its `repr` names all it depends on."""

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """Arrays by name, as `numpy.savez` takes them."""


@runtime_checkable
class Beside(Protocol):
    """What becomes a probe when it knows the other networks of its trial, as one that compares them does."""

    def beside(self, others: Mapping[str, Classifier]) -> Probe:
        """The probe of a network, given all others of the trial by their names."""


@dataclass(frozen=True)
class Trial:
    """Samples that networks are tried on.

    Attributes:
        samples: their clean predictions are recorded in any case.
        attacks: searches for perturbations of them, by name.
        models: names of the networks; None for all.
        without: endings of the names of those that take no part.
        transfer: judge every perturbation on all these networks, not only on the one that it was made for.
        goal: rule of `eval.goals`; None for the run's.
        derived: what is judged beside each perturbation, by role.
        threats: budgets, each with its text, of attacks that are not minimal; None for the run's in each network's box.
        norm: that minimal attacks minimise, where they support it; None for the run's.
        probes: what else is measured of the networks, by name; one that is `Beside` knows the other networks.
        access: what the attacks see of the networks; None for what the run says.
        substitutes: true: perturbations are made for each substitute, meant for the network that it imitates, and
            judged on both; false: substitutes take no part; None: they are networks like others.
        watch: makes somebody who watches a search, of the album of the run's pictures, the network's name and the
            attack's; what they saw is stored under `watched:` and the attack's name.
        reuse: false: at each eps every sample is searched for, as it must be where costs are what is wanted to know.
    """

    samples: Samples
    attacks: Mapping[str, Attack] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    transfer: bool = False
    goal: str | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)
    threats: Sequence[tuple[str, ThreatModel]] | None = None
    norm: str | None = None
    probes: Mapping[str, Probe | Beside] = field(default_factory=dict)
    access: Access | None = None
    substitutes: bool | None = None
    watch: Callable[[Album, str, str], Watcher] | None = None
    reuse: bool = True


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
