"""Is high dimension what makes networks fragile? The same images at several sizes, and what else may be the cause.

Images are averaged down and replicated up, so that what changes is the number of pixels d and, as far as they are only
enlarged, nothing else: every distance between two images grows as d^1/2. Networks are trained anew at each size, with
several seeds, and the exponent of everything that is said to make them fragile is fitted: of the distance to the
boundary, alpha, of that along random lines, of gradients; and beside alpha delta, that of the distance to the nearest
image of another class. alpha = delta: dimension as such is innocent, the boundary moves as the images do. alpha = 0:
the distance stays while images grow apart.

What may be the cause instead is taken away in turn: what the first layer starts from in directions in which no two
images differ, by a smaller start, by weight decay, and by projecting the layer onto the span of the images afterwards.

Source: C.-J. Simon-Gabriel et al., "First-order adversarial vulnerability of neural networks and input dimension", ICML
2019 (arXiv 1802.01421); A. Shafahi et al., "Are adversarial examples inevitable?", ICLR 2019 (arXiv 1809.02104), for
enlarged digits; A. Fawzi et al., NeurIPS 2016 (arXiv 1608.08967); N. Ford et al., ICML 2019 (arXiv 1901.10513).
Departures: layers learn at a pace that goes with the inverse of their inputs (`models.initial`), as else the large
networks would be trained longer in effect. Perturbed points may leave the box of valid pixels, as theory has it; one
trial keeps them inside. All seeds see the same training images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from attacks.base import Attack
from eval.data import Data, Samples, limited
from eval.data.resized import MODES, resized
from eval.dimension.boundary import BOUNDARY, Boundary
from eval.dimension.gradients import GRADIENTS, Gradients
from eval.dimension.separation import SEPARATION, Separation
from eval.dimension.span import PROJECTED, Projected, Span
from eval.dimension.subspaces import SUBSPACES, Subspaces
from eval.errors import InputError
from eval.studies.dimension_names import HANDLES, HE, NOISE, STEP, UNTRAINED, sides_of, suffix
from eval.trial import Cohort, Probe, Trial
from models.initial import Initial
from models.recipe import TrainConfig
from models.spec import Spec, comes_ready, derive

_SPANNING = 1500  # training images, at most, whose span is taken


@dataclass(frozen=True)
class Dimension:
    """The same images at several sizes.

    Attributes:
        sides: in pixels, each a divisor or a multiple of the images' own, which must be among them; None for those
            from a quarter of it, at least 4, to four times it.
        resize: how images grow: `nearest` or `bilinear`.
        seeds: networks of each kind.
        images: test images, balanced by class; None for all.
        train_images: training images, balanced by class; None for all.
        models: that are trained at every size.
        handles: starts and decays, as `dimension_names.HANDLES` has them.
        handled: models that are trained with all of them, whose first layer must see all pixels at once; the others are
            trained with He's start and no decay alone.
        epochs: of training.
        batch_size: samples a step.
        lr: greatest learning rate of Adam, at the images' own size.
        decay: a weight that no gradient reaches shrinks by exp(-decay) in the course of training, where there is decay.
        lines: random lines an image.
        steps: random steps an image.
        draws: of noise an image.
        subspaces: numbers of dimensions of random subspaces, at the images' own size.
    """

    sides: list[int] | None = None
    resize: str = "nearest"
    seeds: int = 5
    images: int | None = 100
    train_images: int | None = 3000
    models: list[str] = field(default_factory=lambda: ["softmax", "mlp_relu", "cnn"])
    handles: list[str] = field(default_factory=lambda: list(HANDLES))
    handled: list[str] = field(default_factory=lambda: ["softmax", "mlp_relu"])
    epochs: int = 12
    batch_size: int = 50
    lr: float = 3e-3
    decay: float = 2.0
    lines: int = 5
    steps: int = 10
    draws: int = 400
    subspaces: list[int] = field(default_factory=lambda: [1, 4, 16, 64, 256])

    def __post_init__(self) -> None:
        for key, holds, must in (
            ("sides", self.sides is None or len(set(self.sides)) == len(self.sides) >= 2, "two or more, each once"),
            ("resize", self.resize in MODES, f"one of {', '.join(MODES)}"),
            ("seeds", self.seeds >= 1, "at least 1"),
            ("images", self.images is None or self.images >= 1, "at least 1"),
            ("train_images", self.train_images is None or self.train_images >= 2, "at least 2"),
            ("models", len(self.models) >= 1, "one model or more"),
            ("handled", set(self.handled) <= set(self.models), f"of study.models ({', '.join(self.models)})"),
            ("handles", set(self.handles) <= set(HANDLES) and HE in self.handles, f"{HE} and others of {[*HANDLES]}"),
            ("decay", 0 < self.decay < math.inf, "> 0"),
            ("lines", self.lines >= 1, "at least 1"),
            ("steps", self.steps >= 1, "at least 1"),
            ("draws", self.draws >= 1, "at least 1"),
            ("subspaces", all(m >= 1 for m in self.subspaces), "numbers of dimensions, at least 1"),
        ):
            if not holds:
                raise InputError(f"{key}: must be {must}, got {getattr(self, key)}")
        self.recipe(HE, 100)  # refuses what it cannot train with

    def recipe(self, handle: str, samples: int) -> TrainConfig:
        """How networks learn from so many samples."""
        plain = TrainConfig(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, val_fraction=0.0)
        if not HANDLES[handle][1]:
            return plain
        steps = self.epochs * math.ceil(samples / self.batch_size)
        total = sum(plain.lr_at(step, steps) for step in range(steps))
        return TrainConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            val_fraction=0.0,
            weight_decay=self.decay / total,
        )

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """One for each size, seed, start and decay, and one that is not trained."""
        for name in self.models:
            if name not in models:
                raise InputError(f"study.models: must name chosen models ({', '.join(models)}), got {name}")
            if comes_ready(models[name]):
                raise InputError(f"model.{name}: must be trained here, at each size, got one that comes with weights")
        found = []
        for side, (train, test) in self._sizes(data, seed).items():
            for number in range(self.seeds):
                own = derive(seed, "dimension", number)
                for handle in (HE, *self._others()):
                    names = self.models if handle == HE else self.handled
                    specs = {name: Initial(models[name], HANDLES[handle][0], data.test.shape) for name in names}
                    config = self.recipe(handle, len(train))
                    found.append(Cohort(specs, train, suffix(handle, side, number), config, seed=own, test=test))
                plain = {name: Initial(models[name], 1.0, data.test.shape) for name in self.models}
                end = suffix(UNTRAINED, side, number)
                found.append(Cohort(plain, train, end, seed=own, untrained=True, test=test))
        return found

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """What is measured at each size, and once what stays inside the box."""
        if len(attacks) != 1:
            chosen = ", ".join(attacks) or "none"
            raise InputError(f"attack: must be one search for the smallest L2 perturbation, as lbfgs is, got {chosen}")
        ((name, attack),) = attacks.items()
        if not attack.minimal or "l2" not in attack.norms:
            raise InputError(
                f"attack.{name}: must search for the smallest L2 perturbation in this study, as lbfgs does"
            )
        sizes = self._sizes(data, seed)
        test = sizes[data.test.shape[1]][1]
        inside = tuple(model + suffix(HE, test.shape[1], 0) for model in self.models)
        found = [Trial(test, attacks, inside, norm="l2")]
        for side, (train, seen) in sizes.items():
            found += self._at(side, train, seen, attack, side == test.shape[1])
        return found

    def _at(self, side: int, train: Samples, test: Samples, attack: Attack, own: bool) -> list[Trial]:
        """What is measured at one size; `own` is that of the data."""

        def names(models: Sequence[str], *handles: str) -> tuple[str, ...]:
            return tuple(m + suffix(h, side, i) for h in handles for m in models for i in range(self.seeds))

        boundary, pixels = Boundary(attack), math.prod(test.shape)
        whole = Boundary(attack, self.lines, self.steps, STEP, NOISE if own else (), self.draws)
        probes: dict[str, Probe] = {BOUNDARY: whole, GRADIENTS: Gradients()}
        if own:
            probes[SUBSPACES] = Subspaces(attack, tuple(sorted(m for m in set(self.subspaces) if m < pixels)))
        basis = limited(train, min(_SPANNING, len(train)), 0, "study.train_images")
        projected = Projected(boundary, Span(basis, basis.fingerprint))
        separation = Separation(train, train.fingerprint)
        return [
            Trial(test, models=names(self.models, HE), probes=probes),
            Trial(test, models=names(self.models, UNTRAINED), probes={GRADIENTS: Gradients()}),
            Trial(test, models=names(self.handled, *self._others()), probes={BOUNDARY: boundary}),
            Trial(test, models=names(self.handled, HE), probes={PROJECTED: projected}),
            Trial(test, models=names(self.models, HE)[:1], probes={SEPARATION: separation}),
        ]

    def _others(self) -> list[str]:
        """Starts and decays beside the usual one."""
        return [handle for handle in self.handles if handle != HE]

    def _sizes(self, data: Data, seed: int) -> dict[int, tuple[Samples, Samples]]:
        """Training and test samples by side."""
        if data.train is None:
            raise InputError(f"data: must have training samples for this study, got none in {data.name}")
        native = data.test.shape[1]
        sides = sides_of(native, self.sides)
        if native not in sides:
            raise InputError(f"study.sides: must have the images' own, {native}, among them, got {list(sides)}")
        n, m = len(data.test), len(data.train)
        test = limited(data.test, min(self.images or n, n), seed, "study.images")
        train = limited(data.train, min(self.train_images or m, m), seed, "study.train_images")
        return {side: (resized(train, side, self.resize), resized(test, side, self.resize)) for side in sides}
