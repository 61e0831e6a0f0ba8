"""Do single units mean more than other directions of their layer? Section 3 of Szegedy et al., with numbers and nulls.

A network of one model, others of the same model with other seeds, one that is trained on adversarial images, and two
nulls: networks that are not trained, and one whose training labels were shuffled. Their layer is looked at by the
probes of `eval.units`; the chosen attacks say what its units do when images are perturbed.

Source: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow and Fergus, "Intriguing properties of neural networks",
ICLR 2014 (arXiv 1312.6199v4), section 3; Le et al., "Building high-level features using large scale unsupervised
learning", ICML 2012 (arXiv 1112.6209), for one neuron as a detector.
Departures: the paper shows images and counts nothing; what is counted here stands in `eval.units`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from attacks.base import Attack
from attacks.pgd import PGD
from attacks.threat import ThreatModel, parse_eps
from eval.data import Data, Samples, limited
from eval.errors import InputError
from eval.nodes import settled
from eval.studies.unit_names import ROBUST, SHUFFLED, UNTRAINED, sibling
from eval.trial import Beside, Cohort, Probe, Trial
from eval.units.firing import Watch
from eval.units.observe import chosen_layer, halves
from eval.units.probe import UNITS, Units
from eval.units.stimuli import STIMULI, Stimuli
from models.recipe import TrainConfig
from models.spec import Network, Spec, build, comes_ready, derive

_FEW = 10_000  # training samples up to which a network is trained on adversarial images, unless it is said
_STEPS = 7  # of the PGD of adversarial training


@dataclass(frozen=True)
class UnitStudy:
    """Units beside other directions.

    Attributes:
        layer: name or alias; None for the last hidden layer.
        unit: the one whose images lead; None for the first ones of a random order.
        at: `mean` or `max` over the places of a feature map.
        norm: of the budget of the attacks and of adversarial training.
        eps: that budget.
        recipe: of the run's training.
        seeds: networks with different initial weights and orders of the samples; 1 for those with weights.
        robust: train one on adversarial images too; None: where there are at most 10,000 training samples.
        images: test samples; None for 2,000, or all if fewer.
        directions: of each basis, or as many as the layer has units, if more.
        best: images that a direction is judged by.
        ablated: directions of each basis that are taken out, 0 for none.
        stimuli: units, and random directions, whose optimal stimulus is searched for, 0 for none.
        steps: of that search.
        attacked: samples that are attacked.
    """

    follows: ClassVar[tuple[str, ...]] = ("norm", "eps")  # what must be that of the run's threat
    layer: str | None = None
    unit: int | None = None
    at: str = "mean"
    norm: str = "linf"
    eps: str = "0.1"
    recipe: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3
    robust: bool | None = None
    images: int | None = None
    directions: int = 100
    best: int = 9
    ablated: int = 32
    stimuli: int = 8
    steps: int = 100
    attacked: int = 200

    def __post_init__(self) -> None:
        ThreatModel(self.norm, parse_eps(self.eps))
        for key, least in (("seeds", 1), ("images", 4), ("stimuli", 0), ("steps", 1), ("attacked", 1), ("unit", 0)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise InputError(f"{key}: must be at least {least}, got {value}")
        self._units()
        self._config()

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """The network, its siblings, the robust one, and the nulls."""
        name, spec = self._model(models)
        names = build(spec, name, data.test.shape, len(data.test.classes), seed=seed)
        if len(names) != 1:
            raise InputError(f"model: must be one network in this study, got {', '.join(names)}; run it for each")
        self._check_layer(next(iter(names.items())), data)
        one = {name: spec}
        if data.train is None or comes_ready(spec) or next(iter(names.values())).ready:
            return [Cohort(one, data.train), Cohort(one, data.train, UNTRAINED, untrained=True)]
        own = [None, *(derive(seed, "units", i) for i in range(1, self.seeds))]
        found = [Cohort(one, data.train, sibling("", i), seed=s) for i, s in enumerate(own)]
        if self._config().method == "standard" and (len(data.train) <= _FEW if self.robust is None else self.robust):
            made = {"attack": "pgd", "norm": self.norm, "eps": self.eps, "steps": _STEPS}
            hard = replace(self._config(), method="adversarial", adversary=made)
            adversary = (PGD(steps=_STEPS, early_stop=False), self._threat())
            found.append(Cohort(one, data.train, ROBUST, hard, adversary))
        elif self.robust:
            raise InputError(
                f"study.robust: must be beside train=standard, got train.method={self._config().method}; leave "
                "study.robust out"
            )
        if self._config().method == "standard":
            last = replace(self._config(), val_fraction=0.0, patience=0)  # no sample of shuffled labels validates it
            found.append(Cohort(one, _shuffled(data.train, seed), SHUFFLED, last, guesses=True))
        return [
            *found,
            *(Cohort(one, data.train, sibling(UNTRAINED, i), seed=s, untrained=True) for i, s in enumerate(own)),
        ]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """The probes of all networks; stimuli of those with a twin; the attacks, watched."""
        n = len(data.test)
        samples = limited(data.test, min(self.images or 2000, n), seed, "study.images")
        probes: dict[str, Probe | Beside] = {UNITS: self._units()}
        told = samples.select(np.flatnonzero(~halves(samples, seed)))
        attacked = limited(told, min(self.attacked, len(told)), seed, "study.attacked")
        watch = Watch(self.layer, self.at, seed)
        found = [Trial(samples, probes=probes)]
        if self.stimuli:
            found.append(Trial(samples, probes={STIMULI: Stimuli(self._units(), self.stimuli, self.steps)}))
        others = [sibling(kind, i) for kind in ("", UNTRAINED) for i in range(self.seeds)]
        beside = (SHUFFLED, *filter(None, others))
        if attacks:
            whole = {name: settled(attack, True) for name, attack in attacks.items()}  # to the end of their budgets
            found.append(Trial(attacked, whole, without=beside, threats=[(self.eps, self._threat())], watch=watch))
        return found

    def _check_layer(self, named: tuple[str, Network], data: Data) -> None:
        """Refuse a layer or a unit that there is not before anything is trained.

        Raises:
            InputError, models.errors.ModelError: there is none.
        """
        name, network = named
        layer = chosen_layer(network.classifier(name, data.test.shape), data.test.batch(np.arange(2)), self.layer)
        if self.unit is not None and self.unit >= layer.units:
            raise InputError(f"unit: must be below the {layer.units} of its layer, got {self.unit}")

    def _model(self, models: Mapping[str, Spec]) -> tuple[str, Spec]:
        if len(models) != 1:
            raise InputError(
                f"model: must be one network in this study, got {', '.join(models)}; write model={next(iter(models))}"
            )
        return next(iter(models.items()))

    def _units(self) -> Units:
        return Units(self.layer, self.at, self.directions, best=self.best, ablated=self.ablated, lead=self.unit)

    def _threat(self) -> ThreatModel:
        return ThreatModel(self.norm, parse_eps(self.eps))

    def _config(self) -> TrainConfig:
        """The run's recipe."""
        return TrainConfig(**{key: value for key, value in self.recipe.items() if key != "_target_"})


def _shuffled(train: Samples, seed: int) -> Samples:
    """The training samples with their labels dealt out anew."""
    rng = np.random.default_rng([seed, 0x7368756666])
    return train.relabelled(rng.permutation(train.labels))
