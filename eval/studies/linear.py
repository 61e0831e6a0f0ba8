"""Fast gradient signs: linear and maxout networks, adversarial training and its controls, logits along the ray.

Softmax regressions, logistic regression between two classes and a maxout network are attacked by the fast gradient sign
method; so are maxout networks that were trained on such images, or on noise of the same size. The network with and the
one without adversarial training judge each other's images as well. Along the sign of the gradient every network tells
its logits.

Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015 (arXiv 1412.6572),
sections 3 to 6.
Departures: the paper says nothing of the weight decay of its softmax regression; several are tried. Images that a
network gets wrong unperturbed are left as they are. Its images are not clipped to the box; clipped ones stand beside.
The method's gradient is exact, where that of a network that is sure cancels in float32; the other stands beside.
All networks see all training samples, for a number of epochs that is given; the paper's large networks stop early by
the adversarial error on validation samples, and are then trained again on all. Maxout networks of one form of training
and another share the seed, which orders the samples, and not their initial weights, which depend on the name as well.

Softmax and logistic regression are trained by the run's recipe, `train`. Of it only `train.epochs`, through `epochs`,
has an effect on maxout networks: `longer`, `batch_size` and `lr` below rule these, on all training samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attacks.base import Attack
from attacks.fgsm import FGSM
from attacks.noise import Noise
from attacks.rounded import RoundedFGSM
from attacks.threat import ThreatModel, parse_eps
from eval.data import Data, Samples, limited
from eval.data.subset import of_classes
from eval.errors import InputError
from eval.rays import RAYS, Rays
from eval.studies.linear_names import ADVERSARIAL, CLIPPED, LOGISTIC, PAPERS, ROUNDED, SIGN, UNIFORM
from eval.trial import Cohort, Trial
from models.logistic import Logistic
from models.recipe import TrainConfig
from models.spec import Spec, derive

UNBOUNDED = (-math.inf, math.inf)
TRACED = 1000  # samples, unless it is said


@dataclass(frozen=True)
class Linear:
    """The fast gradient sign method of Explaining and harnessing adversarial examples.

    Attributes:
        eps: budget of the attack and of adversarial training, in box units.
        norm: of the budget; `linf`.
        softmax: models of section 4, that are trained as the run says.
        maxout: model that is trained with and without adversarial images, and with noise.
        pair: classes of the logistic regression, by position or name.
        epochs: of the run's recipe.
        longer: how many times as many maxout networks take, which learn slowly with dropout.
        batch_size: samples a step of maxout networks.
        lr: greatest learning rate of maxout networks.
        alpha: weight of the loss on clean images in adversarial training.
        traced: test samples whose logits are traced; None for 1,000, or all where there are fewer.
        reach: of the rays, in box units.
        large: how many times, with different seeds, the large model is trained with and without adversarial images.
        large_model: the model that it is.
    """

    eps: str = "0.25"
    norm: str = "linf"
    softmax: list[str] = field(default_factory=lambda: ["fc10_1e-4", "fc10_1e-2", "fc10_1"])
    maxout: str = "maxout240"
    pair: list[Any] = field(default_factory=lambda: [3, 7])
    epochs: int = 15
    longer: int = 1
    batch_size: int = 128
    lr: float = 1e-3
    alpha: float = 0.5
    traced: int | None = None
    reach: float = 1.0
    large: int = 0
    large_model: str = "maxout1600"

    def __post_init__(self) -> None:
        for key, holds, must in (
            ("eps", 0 < parse_eps(self.eps) < math.inf, "> 0 in box units"),
            ("norm", self.norm == "linf", "linf: the method is one of signs"),
            ("softmax", len(self.softmax) > 0, "one model or more"),
            ("pair", len(self.pair) == 2, "two classes"),
            ("epochs", self.epochs >= 1, ">= 1"),
            ("longer", self.longer >= 1, ">= 1"),
            ("alpha", 0 <= self.alpha < 1, "in [0, 1)"),
            ("traced", self.traced is None or self.traced >= 1, "at least 1"),
            ("reach", self.reach >= 0.5, "at least 0.5"),
            ("large", self.large >= 0, "at least 0"),
        ):
            if not holds:
                raise InputError(f"{key}: must be {must}, got {getattr(self, key)}")
        self._recipe()  # refuses what it cannot train with

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """Softmax and logistic regression by the run's recipe, and maxout networks by this one's."""
        wanted = [("softmax", name) for name in self.softmax] + [("maxout", self.maxout)]
        wanted += [("large_model", self.large_model)] if self.large else []
        for key, name in wanted:
            if name not in models:
                raise InputError(f"study.{key}: must name chosen models ({', '.join(models)}), got {name}")
        if data.train is None:
            raise InputError(f"data: must have training samples for this study, got none in {data.name}")
        classes = self._classes(data)
        maxout, train = {self.maxout: models[self.maxout]}, data.train
        cohorts = [
            Cohort({name: models[name] for name in self.softmax}, train),
            Cohort({LOGISTIC: Logistic(classes)}, _only(train, classes, "training", data)),
            Cohort(maxout, train, config=self._recipe()),
            Cohort(maxout, train, ADVERSARIAL, self._recipe("fgsm", 1 - self.alpha), (FGSM(), self._budget())),
            Cohort(maxout, train, SIGN, self._recipe("sign", 1.0), (Noise("sign"), self._budget())),
            Cohort(maxout, train, UNIFORM, self._recipe("uniform", 1.0), (Noise("uniform"), self._budget())),
        ]
        for i in range(self.large):
            large, own = {self.large_model: models[self.large_model]}, derive(seed, "large", i)
            harder = self._recipe("fgsm", 1 - self.alpha)
            cohorts += [
                Cohort(large, train, f"_{i}", self._recipe(), seed=own),
                Cohort(large, train, f"{ADVERSARIAL}_{i}", harder, (FGSM(), self._budget()), own),
            ]
        return cohorts

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """Attacks without and with the box, one with the gradient as rounding leaves it, and rays."""
        if PAPERS not in attacks:
            chosen = ", ".join(attacks) or "none"
            raise InputError(f"attack: must have {PAPERS} in this study, which is about it, got {chosen}")
        for name, attack in attacks.items():
            if attack.minimal:
                raise InputError(f"attack.{name}: must spend a budget in this study, as fgsm does; got a minimal one")
        classes, maxout = self._classes(data), self.maxout
        single = (*self.softmax, maxout + SIGN, maxout + UNIFORM)
        crossed = (maxout, maxout + ADVERSARIAL)
        large = tuple(self.large_model + suffix + f"_{i}" for i in range(self.large) for suffix in ("", ADVERSARIAL))
        pair = _only(data.test, classes, "test", data)
        traced = _traced(data.test, self.traced, seed)
        rays = {RAYS: Rays(parse_eps(self.eps), reach=self.reach)}
        clipped = {name + CLIPPED: attack for name, attack in attacks.items()}
        free, boxed = [(self.eps, self._budget())], [(self.eps, ThreatModel(self.norm, parse_eps(self.eps)))]
        return [
            Trial(data.test, attacks, (*single, *large), threats=free),
            Trial(data.test, attacks, crossed, transfer=True, threats=free),
            Trial(pair, attacks, (LOGISTIC,), threats=free),
            Trial(data.test, {ROUNDED: RoundedFGSM()}, (*single, *crossed), threats=free),
            Trial(pair, {ROUNDED: RoundedFGSM()}, (LOGISTIC,), threats=free),
            Trial(data.test, clipped, (*single, *crossed, *large), threats=boxed),
            Trial(pair, clipped, (LOGISTIC,), threats=boxed),
            Trial(traced, models=(*single, *crossed), probes=rays),
            Trial(_traced(pair, self.traced, seed), models=(LOGISTIC,), probes=rays),
        ]

    def _budget(self) -> ThreatModel:
        """That of the paper, which does not clip."""
        return ThreatModel(self.norm, parse_eps(self.eps), UNBOUNDED)

    def _recipe(self, adversary: str = "", weight: float = 1.0) -> TrainConfig:
        """How maxout networks are trained; what `adversary` stands for belongs to the name of a checkpoint."""
        plain = TrainConfig(epochs=self.longer * self.epochs, batch_size=self.batch_size, lr=self.lr, val_fraction=0.0)
        if not adversary:
            return plain
        made = {"attack": adversary, "norm": self.norm, "eps": self.eps, "box": "unbounded"}
        return replace(plain, method="adversarial", adversarial_weight=weight, adversary=made)

    def _classes(self, data: Data) -> tuple[int, int]:
        """The positions of the pair.

        Raises:
            InputError: they are no two classes of the data.
        """
        classes = data.test.classes
        places = [
            place if isinstance(place, int) else classes.index(place) if place in classes else -1 for place in self.pair
        ]
        if len(set(places)) != 2 or not all(0 <= place < len(classes) for place in places):
            raise InputError(
                f"study.pair: must be two classes of {data.name} ({', '.join(classes)}), by position or name, "
                f"got {list(self.pair)}"
            )
        return places[0], places[1]


def _only(samples: Samples, classes: Sequence[int], part: str, data: Data) -> Samples:
    """The samples of some classes, of which there must be some of each."""
    missing = [samples.classes[place] for place in classes if place not in samples.labels]
    if missing:
        raise InputError(f"study.pair: must have {part} samples in {data.name}, got none of {', '.join(missing)}")
    return of_classes(samples, classes)


def _traced(samples: Samples, number: int | None, seed: int) -> Samples:
    """Samples whose logits are traced."""
    return limited(samples, min(number or TRACED, len(samples)), seed, "study.traced")
