"""Without the weights: what an attacker needs who sees scores, or labels alone; queries counted, gradients beside.

Attacks that must see the weights are the reference; those that do with scores or labels reach the network through
`eval.blackbox`, which counts and limits what they ask. Substitutes learn the network from its labels, and what fools
them is shown to it.

Source: Papernot, McDaniel, Goodfellow, Jha, Celik and Swami, "Practical black-box attacks against machine learning",
Asia CCS 2017 (arXiv 1602.02697), for the substitutes.
Departures: the paper's networks are remote services; the substitute's layers are another's here too. Its perturbations
are judged on samples that the oracle was not asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from attacks.access import needs
from attacks.base import Attack
from eval.blackbox import Access
from eval.data import Data, Samples, limited
from eval.derived import CONTROL
from eval.errors import InputError
from eval.substitute import Imitation
from eval.trial import Cohort, Trial
from models.convnets import CNN
from models.recipe import TrainConfig
from models.spec import Spec

SEEDS = 150  # as in the paper
_SHARE = 3  # where there are few samples, one in so many is a seed
_FEWEST = 4  # seeds without which nothing is learnt
_SMALL_CNN = "cnn"


@dataclass(frozen=True)
class Blackbox:
    """Attacks without the weights.

    Attributes:
        queries: that an attack by scores or labels may ask for each sample.
        decisions: samples of attacks that see labels alone, which run one by one; None for all.
        seeds: samples that substitutes begin with; None for 150, or a third of all where there are fewer than 450.
        rounds: how often their number is doubled.
        step: length of the steps to new points, in box units.
        period: rounds after which the steps turn round, and again; None: never, as in the paper's algorithm 1.
        asked: queries in all that a substitute may ask; None for seeds * 2^rounds.
        substitute: name of a chosen model whose layers it has; None for a small convolutional network.
        epochs: of each training.
        batch_size: samples a step.
        lr: learning rate.
    """

    queries: int = 5000
    decisions: int | None = 30
    seeds: int | None = None
    rounds: int = 6
    step: float = 0.1
    period: int | None = None
    asked: int | None = None
    substitute: str | None = None
    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        for key, holds, must in (
            ("queries", self.queries >= 1, "at least 1"),
            ("decisions", self.decisions is None or self.decisions >= 1, "at least 1"),
            ("seeds", self.seeds is None or self.seeds == 0 or self.seeds >= _FEWEST, f"at least {_FEWEST}, or 0"),
            ("rounds", self.rounds >= 0, "at least 0"),
            ("step", self.step > 0, "> 0 in box units"),
            ("period", self.period is None or self.period >= 1, "at least 1"),
            ("asked", self.asked is None or self.asked >= _FEWEST, f"at least {_FEWEST}"),
        ):
            if not holds:
                raise InputError(f"{key}: must be {must}, got {getattr(self, key)}")
        self._recipe()  # refuses what it cannot train with

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """The networks to attack, and the substitutes of each."""
        if self.substitute is not None and self.substitute not in models:
            raise InputError(f"study.substitute: must name a chosen model ({', '.join(models)}), got {self.substitute}")
        attacked = {name: spec for name, spec in models.items() if name != self.substitute}
        if not attacked:
            raise InputError("model: must name one that is no substitute, to be attacked")
        cohorts, (seeds, _) = [Cohort(attacked, data.train)], self._split(data.test, seed)
        if seeds is not None:
            spec = CNN() if self.substitute is None else models[self.substitute]
            imitation = Imitation(seeds, self.rounds, self.step, self._recipe(), self.asked, self.period)
            cohorts.append(Cohort({self.substitute or _SMALL_CNN: spec}, None, "_substitute", imitates=imitation))
        return cohorts

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """The attacks, each with what it needs to see, and those for substitutes."""
        if not attacks:
            raise InputError("attack: must name at least one in this study, got none; such as attack=[pgd,square]")
        by: dict[str, dict[str, Attack]] = {"weights": {}, "scores": {}, "labels": {}}
        for name, attack in attacks.items():
            by[needs(attack)][name] = attack
        seeds, samples = self._split(data.test, seed)
        few = limited(samples, min(self.decisions or len(samples), len(samples)), seed, "study.decisions")
        scores, labels = (Access(kind, self.queries) for kind in ("scores", "labels"))
        trials = [
            Trial(samples, by["weights"], substitutes=False, access=Access(), reuse=False),
            Trial(samples, by["scores"], substitutes=False, access=scores, reuse=False),
            Trial(few, by["labels"], substitutes=False, access=labels, reuse=False),
        ]
        if seeds is not None:
            sent = {name: attack for name, attack in by["weights"].items() if not attack.minimal}
            trials.append(Trial(samples, sent, transfer=True, substitutes=True, derived=CONTROL, access=Access()))
        return trials

    def _recipe(self) -> TrainConfig:
        return TrainConfig(
            epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, schedule="constant", val_fraction=0.0
        )

    def _split(self, samples: Samples, seed: int) -> tuple[Samples | None, Samples]:
        """Seeds of the substitutes, if there are any, and the samples to attack, which are others.

        Raises:
            InputError: nothing would be left to attack.
        """
        n = len(samples)
        count = min(SEEDS, n // _SHARE) if self.seeds is None else self.seeds
        if count < _FEWEST:
            return None, samples
        if count >= n:
            raise InputError(f"study.seeds: must leave some of the {n} samples to attack, got {count}")
        seeds = limited(samples, count, seed, "study.seeds")
        return seeds, samples.select(np.flatnonzero(~np.isin(samples.ids, seeds.ids)))
