"""Looking inside: filters, images that excite units and classes, occlusion maps, and whether any of it means something.

Each model is trained four times: as it is, from another seed, on adversarial images, and not at all. A network that
came with its weights stands beside its untrained form and the other networks of the run alone.

Source: M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014 (arXiv 1311.2901); J.
Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018 (arXiv 1810.03292); D. Tsipras et al., "Robustness may
be at odds with accuracy", ICLR 2019 (arXiv 1805.12152), for networks that were trained robustly. Each probe
of `eval.inside` names its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from attacks.base import Attack
from attacks.pgd import PGD
from attacks.threat import parse_eps
from eval.data import Data, limited
from eval.errors import InputError
from eval.filters import FILTERS, Filters
from eval.inside.layer import chosen, units_of
from eval.inside.mapped import MAPPED, Mapped, Square
from eval.inside.maximised import MAXIMISED, Maximised
from eval.inside.randomised import RANDOMISED, Randomised
from eval.nodes import budget, check_norm
from eval.studies.inside_names import OTHER, ROBUST, UNTRAINED
from eval.studies.linf import linf
from eval.trial import Cohort, Trial
from models.errors import ModelError
from models.recipe import TrainConfig
from models.spec import Spec, build, comes_ready, derive
from models.visualise import Ascent


@dataclass(frozen=True)
class Inside:
    """What networks have inside.

    Attributes:
        layer: whose units are looked at; None for the last convolution.
        unit: the one that is; None for the first `units`.
        units: how many.
        classes: for how many images are made.
        starts: images a class, from different noise.
        steps: of an image.
        real: test images among which the best one for a unit is looked for, at most.
        images: correctly classified test images that are mapped, at most.
        checked: of those that layers are drawn again for, at most.
        layers: that are drawn again, at most.
        draws: of their weights.
        side: of the grey square, as a part of the image's shorter side.
        stride: the same; at least a pixel.
        norm: of the attacks' budget.
        eps: of the attacks' budget, in box units.
        hardened: Linf budget of adversarial training, in box units.
        epochs: passes over the training samples, at most.
        trained_on: images that training sees in all passes, at most, but no less than one pass: a large data set gets
            fewer passes.
        batch_size: samples a step of the training.
        lr: greatest learning rate.
    """

    layer: str | None = None
    unit: int | None = None
    units: int = 16
    classes: int = 10
    starts: int = 3
    steps: int = 64
    real: int = 1000
    images: int = 60
    checked: int = 24
    layers: int = 5
    draws: int = 3
    side: float = 0.25
    stride: float = 0.0625
    norm: str = "linf"
    eps: str = "0.1"
    hardened: str = "0.1"
    epochs: int = 20
    trained_on: int = 200_000
    batch_size: int = 64
    lr: float = 1e-2

    def __post_init__(self) -> None:
        for key in (
            "units",
            "classes",
            "starts",
            "steps",
            "real",
            "images",
            "checked",
            "draws",
            "epochs",
            "trained_on",
            "batch_size",
        ):
            if getattr(self, key) < 1:
                raise InputError(f"{key}: must be at least 1, got {getattr(self, key)}")
        if self.layers < 2:
            raise InputError(f"layers: must be at least 2, the first and the last, got {self.layers}")
        if self.unit is not None and self.unit < 0:
            raise InputError(f"unit: must be at least 0, got {self.unit}")
        for key in ("side", "stride"):
            if not 0 < getattr(self, key) <= 1:
                raise InputError(f"{key}: must be in (0, 1], a part of the image's side, got {getattr(self, key):g}")
        linf(self.hardened)

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """Of each model itself, another seed, its adversarially trained twin, and one that learnt nothing."""
        trained = {name: spec for name, spec in models.items() if not comes_ready(spec)}
        if trained and data.train is None:
            raise InputError(f"data: must have training samples for {', '.join(trained)}, got none in {data.name}")
        for name, spec in trained.items():  # a layer or a unit that there is not is told before that
            for own, network in build(spec, name, data.test.shape, len(data.test.classes), seed=seed).items():
                x = data.test.batch(np.arange(min(2, len(data.test))))
                units_of(chosen(network.classifier(own, data.test.shape), x, self.layer), self.unit, self.units)
        passes = self.epochs if data.train is None else max(1, round(self.trained_on / len(data.train)))
        config = TrainConfig(epochs=min(self.epochs, passes), batch_size=self.batch_size, lr=self.lr)
        made = {"attack": "pgd", "norm": "linf", "eps": self.hardened, "steps": _STEPS}
        hard = replace(config, method="adversarial", adversary=made)
        adversary = (PGD(steps=_STEPS, early_stop=False), linf(self.hardened))
        found = [Cohort(models, data.train, config=config)]
        if trained:
            found += [
                Cohort(trained, data.train, OTHER, config, seed=derive(seed, "inside", "other")),
                Cohort(trained, data.train, ROBUST, hard, adversary),
            ]
        return [*found, Cohort(models, data.train, UNTRAINED, config, untrained=True)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """The probes: filters and images of all networks, maps of those that learnt something."""
        if not attacks:
            raise InputError("attack: must name at least one in this study, got none; such as attack=[pgd]")
        threat = budget(self.norm, self.eps)
        for name, attack in attacks.items():
            check_norm(f"attack.{name}", attack, threat.norm)
        parse_eps(self.eps)
        square = Square(self.side, self.stride)
        try:
            square.over(*data.test.shape[1:])
        except ModelError as error:
            raise InputError(f"study.{error}") from None
        some = limited(data.test, min(self.real, len(data.test)), seed, "study.real")
        few = limited(data.test, min(4 * self.images, len(data.test)), seed, "study.images")
        maximised = Maximised(
            self.layer, self.unit, self.units, self.classes, self.starts, ascent=Ascent(steps=self.steps)
        )
        mapped = Mapped(self.layer, self.images, square, attacks=attacks, norm=self.norm, eps=self.eps)
        randomised = Randomised(self.checked, self.layers, self.draws, square)
        return [
            Trial(some, probes={FILTERS: Filters(), MAXIMISED: maximised}),
            Trial(few, probes={MAPPED: mapped, RANDOMISED: randomised}),
        ]


_STEPS = 7  # of the PGD that adversarial training uses
