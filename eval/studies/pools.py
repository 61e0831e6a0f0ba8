"""Training on pools of adversarial examples: at the input, at each hidden layer, and at several of them.

Networks of one recipe, several of each kind: with weight decay alone, with dropout, and with pools (`models.pools`) at
various layers; as a control, pools of noise of the size of the perturbations. All see the training samples equally
often. Networks of the same number share the seed of their training, which orders the samples, and not their initial
weights, which depend on the name as well. Their errors are those on all test samples; how small a perturbation fools
them is searched for on some.

The recipe is this study's own: `epochs`, `batch_size`, `lr`, `decay` and `dropout` below rule, on all training samples,
and `train.*`, `model.<name>.decay` and `model.<name>.dropout` of the run have no effect, but for `train.epochs`, which
`epochs` stands for.

Source: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow and Fergus, "Intriguing properties of neural networks",
ICLR 2014 (arXiv 1312.6199v4), section 4.2.
Departures: the paper gives an error for pools, for dropout and for weight decay, and no recipe for any of them. The
decay that it gives its network of this shape elsewhere, 1e-5, 1e-5 and 1e-6 (Table 1), is not the default: it printed
another form of decay, and this one, dropout and learning rate were chosen on held-out training samples, so that pools
are compared with the best of what was tried of weight decay and dropout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attacks.base import Attack
from attacks.lbfgs import LBFGS
from eval.data import Data, Samples, limited
from eval.errors import InputError
from eval.pooling import Filling
from eval.studies.pool_names import DROPOUT, NOISE, kinds, suffix
from eval.trial import Cohort, Trial
from models.paper import MLP
from models.pools import RENEWALS, PoolConfig, cut
from models.recipe import TrainConfig
from models.spec import Spec, build, derive, plain


@dataclass(frozen=True)
class Pools:
    """Pools of adversarial examples, section 4.2 of Intriguing properties of neural networks.

    Attributes:
        model: a perceptron.
        seeds: networks of each kind.
        epochs: of every network.
        batch_size: samples a step.
        lr: greatest learning rate.
        decay: lambda of the weight decay of all networks: one a layer, or one for all.
        dropout: probability with which the network with dropout drops a hidden unit.
        pools: for each kind of network with pools the layers that have one; 0 is the input.
        noise: the same for pools of noise.
        size: points of a pool.
        batch: points of each pool a step.
        fresh: samples perturbed at a time for each pool.
        every: steps from one time to the next; a tenth of all steps where these are few.
        weight: of the pools' mean loss, beside that of the training samples.
        evaluations: of the search that fills the pools, an image at most.
        distorted: test samples whose smallest perturbation is searched for; 0 for none.
    """

    model: str = "fc100_100"
    seeds: int = 5
    epochs: int = 15
    batch_size: int = 128
    lr: float = 1e-2
    decay: list[float] = field(default_factory=lambda: [5e-5, 5e-5, 5e-6])
    dropout: float = 0.05
    pools: Any = field(default_factory=lambda: [[0], [1], [2], [1, 2], [0, 1, 2]])
    noise: Any = field(default_factory=lambda: [[1, 2]])
    size: int = 1280
    batch: int = 64
    fresh: int = 256
    every: int = 100
    weight: float = 0.005
    evaluations: int = 16
    distorted: int = 500

    def __post_init__(self) -> None:
        for key, least in (("seeds", 1), ("distorted", 0)):
            if getattr(self, key) < least:
                raise InputError(f"{key}: must be at least {least}, got {getattr(self, key)}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: must be in [0, 1), got {self.dropout:g}")
        if any(not strength >= 0 for strength in self.decay):
            raise InputError(f"decay: must be >= 0, got {list(self.decay)}")
        for key in ("pools", "noise"):
            if isinstance(getattr(self, key), str) or not isinstance(getattr(self, key), Sequence):
                raise InputError(
                    f"{key}: must be a list of lists of layers, [] for none, got {plain(getattr(self, key))}"
                )
            for layers in getattr(self, key):
                if not isinstance(layers, list | tuple) or not all(type(layer) is int for layer in layers):
                    raise InputError(f"{key}: must be a list of lists of layers, such as [[0],[1,2]], got {layers}")
                self._filling(layers)  # refuses what it cannot train with
        if len(set(kinds(self.pools, self.noise))) < 2 + len(self.pools) + len(self.noise):
            raise InputError(f"pools: must name different layers each, got {self.pools} and noise at {self.noise}")
        self._recipe()

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """A network of each kind for every seed."""
        decayed, dropping = self._specs(models)
        if data.train is None:
            raise InputError(f"data: must have training samples for this study, got none in {data.name}")
        network = build(decayed, self.model, data.test.shape, len(data.test.classes), seed=seed)[self.model]
        for layers in (*self.pools, *self.noise):
            cut(network.classifier(self.model, data.test.shape), layers)  # refuses layers that there are not
        steps = self.epochs * -(-len(data.train) // self.batch_size)
        if steps < RENEWALS and (self.pools or self.noise):
            raise InputError(
                f"study.epochs: must make at least {RENEWALS} steps of study.batch_size={self.batch_size} training "
                f"samples, for pools that are renewed as often, got {steps}"
            )
        cohorts = []
        for i in range(self.seeds):
            for kind, layers in kinds(self.pools, self.noise).items():
                spec = dropping if kind == DROPOUT else decayed
                pools = self._filling(layers, kind.startswith(NOISE), steps) if layers else None
                own = derive(seed, "pools", i)
                cohorts.append(
                    Cohort({self.model: spec}, data.train, suffix(kind, i), self._recipe(), seed=own, pools=pools)
                )
        return cohorts

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """All test samples, and perturbations of some."""
        for name, attack in attacks.items():
            if not attack.minimal:
                raise InputError(
                    f"attack.{name}: must search for the smallest perturbation in this study, as lbfgs does"
                )
        found = [Trial(data.test)]
        if self.distorted:
            some: Samples = limited(data.test, min(self.distorted, len(data.test)), seed, "study.distorted")
            found.append(Trial(some, attacks))
        return found

    def _specs(self, models: Mapping[str, Spec]) -> tuple[MLP, MLP]:
        """The model without and with dropout.

        Raises:
            InputError: it was not chosen, or is no perceptron.
        """
        if self.model not in models:
            raise InputError(f"study.model: must name a chosen model ({', '.join(models)}), got {self.model}")
        spec = models[self.model]
        if not isinstance(spec, MLP):
            raise InputError(
                f"study.model: must be a perceptron (models.paper.MLP), which can be cut at its layers and trained "
                f"with dropout, got {type(spec).__name__}"
            )
        if len(self.decay) not in (1, len(spec.widths) + 1):
            raise InputError(
                f"study.decay: must have 1 value or one for each of the {len(spec.widths) + 1} layers of {self.model}, "
                f"got {list(self.decay)}"
            )
        decayed = replace(spec, decay=list(self.decay), dropout=0.0)
        return decayed, replace(decayed, dropout=self.dropout)

    def _recipe(self) -> TrainConfig:
        return TrainConfig(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, val_fraction=0.0)

    def _filling(self, layers: Sequence[int], noise: bool = False, steps: int | None = None) -> Filling:
        search = LBFGS(evaluations=self.evaluations, climb=5, stride=0.05, steps=8, weights=4, classes=1, patience=0)
        every = self.every if steps is None else min(self.every, max(1, steps // RENEWALS))
        config = PoolConfig(
            list(layers), size=self.size, fresh=self.fresh, every=every, batch=self.batch, weight=self.weight
        )
        return Filling(config, search, noise, RENEWALS if steps is None else steps // every)
