"""Tables 1 to 4 of Szegedy et al.: how small adversarial perturbations are, and which networks share them.

One set of networks is trained on all training samples and attacked on some of them, as in the paper, and on test
samples; another set is trained on two disjoint halves and attacked on test samples. Every perturbation is judged on all
networks of its set: as it was found, and scaled to one RMS for all; Gaussian noise stands beside both. Perturbations
towards the nearest class are searched for as well, and tell how much smaller these are.

Source: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow and Fergus, "Intriguing properties of neural networks",
ICLR 2014 (arXiv 1312.6199v4), section 4.2.
Departures: the paper does not say how many images it attacked (its figures are multiples of 1/256), towards which
class (its distortions fit a random one), nor how networks were trained. Its noise fits only if it may leave the box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from attacks.base import Attack
from attacks.noise import GaussianNoise
from eval.data import Data, Samples, limited
from eval.data.subset import split
from eval.derived import Amplified
from eval.errors import InputError
from eval.filters import FILTERS, Filters
from eval.trial import Cohort, Trial
from models.spec import Spec

IMAGES = 2560  # ten times as many as the paper's figures let one guess
FIRST, SECOND = "_p1", "_p2"  # of the names of networks that saw one half
NEAREST = "_nearest"  # of the name of an attack, where it goes to the nearest class
CLIPPED = "_clipped"  # of the names of noise that stays in the box


@dataclass(frozen=True)
class Tables:
    """Tables 1 to 4 of Intriguing properties of neural networks.

    Attributes:
        images: attacked of the training samples, and of the test samples; None for 2,560, or all where there are fewer.
        full: models trained on all training samples: Tables 1 and 2.
        first: models trained on the first half: Tables 3 and 4.
        second: models trained on the second half.
        amplified: RMS to which perturbations are scaled, in box units.
        noise: standard deviations of the Gaussian noise beside Table 2.
        halves_noise: standard deviations of the Gaussian noise beside Table 4.
        nearest: search towards the nearest class as well, for the distortions of Tables 1 and 3.
    """

    images: int | None = None
    full: list[str] = field(
        default_factory=lambda: ["fc10_1e-4", "fc10_1e-2", "fc10_1", "fc100_100", "fc200_200", "ae400"]
    )
    first: list[str] = field(default_factory=lambda: ["fc100_100", "fc123_456"])
    second: list[str] = field(default_factory=lambda: ["fc100_100"])
    amplified: float = 0.1
    noise: list[float] = field(default_factory=lambda: [0.1, 0.3])
    halves_noise: list[float] = field(default_factory=lambda: [0.06, 0.1])
    nearest: bool = True

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise InputError(f"images: must be at least 1, got {self.images}")
        if not self.full or not (self.first or self.second):
            raise InputError("full: must name at least one model, and first or second too, got none")
        for key in ("amplified", "noise", "halves_noise"):
            value = getattr(self, key)
            sizes = value if isinstance(value, list | tuple) else [value]
            if any(not 0 < size < 1 for size in sizes):
                raise InputError(f"{key}: must be in (0, 1), in box units, got {value}")

    @property
    def halves(self) -> tuple[str, ...]:
        """Names of the networks of Tables 3 and 4."""
        return (*(name + FIRST for name in self.first), *(name + SECOND for name in self.second))

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """The networks on all training samples, and those on either half."""
        for key in ("full", "first", "second"):
            for name in getattr(self, key):
                if name not in models:
                    raise InputError(f"study.{key}: must name chosen models ({', '.join(models)}), got {name}")
        train = _train(data)
        halves = split(train, 0.5, seed)
        return [
            Cohort({name: models[name] for name in self.full}, train),
            Cohort({name: models[name] for name in self.first}, halves[0], FIRST),
            Cohort({name: models[name] for name in self.second}, halves[1], SECOND),
        ]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """Attacks and noise on some images, then the errors on all."""
        if not attacks:
            raise InputError("attack: must name a search for the smallest perturbation, got none; such as attack=lbfgs")
        for name, attack in attacks.items():
            if not attack.minimal:
                raise InputError(
                    f"attack.{name}: must be a search for the smallest perturbation, since the tables are about its "
                    "size; such as attack=lbfgs or attack=foolbox/ddn"
                )
        train, full, halves = _train(data), tuple(self.full), self.halves
        seen, unseen = (self._some(samples, seed, data.name) for samples in (train, data.test))
        derived = {"amplified": Amplified(self.amplified)}
        nearest = {name + NEAREST: attack for name, attack in attacks.items() if self.nearest}
        first, second = split(train, 0.5, seed)
        return [
            Trial(_part("train", seen), attacks, full, transfer=True, derived=derived),
            Trial(_part("test", unseen), attacks, full, transfer=True, derived=derived),
            Trial(_part("test", unseen), attacks, halves, transfer=True, derived=derived),
            Trial(_part("train", seen), nearest, full, goal="untargeted"),
            Trial(_part("test", unseen), nearest, halves, goal="untargeted"),
            Trial(_part("train", seen), _gaussian(self.noise, self.amplified), full),
            Trial(_part("test", unseen), _gaussian(self.halves_noise, self.amplified), halves),
            Trial(_part("train", train), models=full, probes={FILTERS: Filters()}),
            Trial(_part("test", data.test)),
            Trial(_part("p1", first), models=halves),
            Trial(_part("p2", second), models=halves),
        ]

    def _some(self, samples: Samples, seed: int, name: str) -> Samples:
        n = len(samples)
        if self.images is not None and self.images > n:
            raise InputError(f"study.images: must be at most {n}, all that {name} has to offer, got {self.images}")
        return limited(samples, min(self.images or IMAGES, n), seed, "study.images")


def _part(name: str, samples: Samples) -> Samples:
    """The samples, their ids preceded by the part of the data that they stand for."""
    return replace(samples, ids=np.char.add(f"{name}:", samples.ids))


def _gaussian(sizes: list[float], amplified: float) -> dict[str, Attack]:
    """Noise as the paper adds it, which leaves the box, and noise in the box of the same sizes."""
    plain: dict[str, Attack] = {f"gaussian_{size:g}": GaussianNoise(size, clip=False) for size in sizes}
    return plain | {f"gaussian_{size:g}{CLIPPED}": GaussianNoise(size) for size in [*sizes, amplified]}


def _train(data: Data) -> Samples:
    """The training samples.

    Raises:
        InputError: there are none, or they are of one class.
    """
    if data.train is None:
        raise InputError(f"data: must have training samples for this study, got none in {data.name}")
    if len(np.unique(data.train.labels)) < 2:
        raise InputError(f"data: must have training samples of two classes or more, got one in {data.name}")
    return data.train
