"""What becomes of a group of which the training data have few: thinned step by step, and its data given back.

A class, or a group of samples, is thinned to some shares of its training samples, each a part of the one before; the
others stay. Networks are trained on what is left with the recipe, the initial weights and the seeds of the one that has
all data, and attacked alike. Beside each stands one that is shown the samples that are left as often as all were shown:
what more weight on few data is worth in place of more data. In the end all data are given back to a network that is
trained anew, from other initial weights: what it gains is what the data are worth, and how it differs from the first is
what training anew does of itself.

Source: the experiment is ours, after reports of cameras and detectors that fail for people whom their training data
hardly show; robustness by class after Xu et al., ICML 2021 (arXiv 2010.06121).
Departures: the number of epochs is the same, so that networks with less data take slightly fewer steps. Samples that
are shown several times may lie on both sides of the validation split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from attacks.base import Attack
from eval.data import Data, Samples
from eval.errors import InputError
from eval.studies.thinned_names import BACK, REPEATED, chosen, column, suffix
from eval.trial import Cohort, Trial
from models.spec import Network, Spec, comes_ready, trained_as

_STREAM = 4  # of the seed
_BY = ("auto", "class", "group")


@dataclass(frozen=True)
class Twin:
    """A spec whose networks begin with the weights that those of another name begin with.

    Attributes:
        spec: what it is but for that.
        name: whose weights they are.
    """

    spec: Spec
    name: str

    @property
    def trained_as(self) -> tuple[str, Spec]:
        """The name and the spec of the other."""
        return trained_as(self.name, self.spec)

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """As the spec does."""
        return self.spec.build(name, input_shape, num_classes)


@dataclass(frozen=True)
class Thinned:
    """One group with less and less training data.

    Attributes:
        by: `class`; `group`, as the data divide their samples; `auto` for groups where there are any, else classes.
        group: which one is thinned, by name; None for the first.
        shares: of its training samples, that are left.
        repeated: beside each a network that is shown what is left as often as all were shown.
    """

    by: str = "auto"
    group: str | None = None
    shares: list[float] = field(default_factory=lambda: [0.5, 0.2, 0.05, 0.01])
    repeated: bool = True

    def __post_init__(self) -> None:
        if self.by not in _BY:
            raise InputError(f"by: must be one of {', '.join(_BY)}, got {self.by!r}")
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise InputError(f"shares: must be one or more in (0, 1), got {list(self.shares)}")

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All models on all data, on each of the thinned sets, and on all data anew."""
        for name, spec in models.items():
            if comes_ready(spec):
                raise InputError(
                    f"model.{name}: must be trained in this study, which is about training data, but comes with weights"
                )
        if data.train is None:
            raise InputError(f"data: must have training samples for this study, got none in {data.name}")
        train, members = data.train, self._members(data, seed)
        others = np.setdiff1d(np.arange(len(train)), members)
        if len(members) < 2 or len(others) == 0:
            raise InputError(
                f"study.group: must have at least 2 training samples, and others beside it, got {len(members)} of "
                f"{len(train)}"
            )
        twins: Mapping[str, Spec] = {name: Twin(spec, name) for name, spec in models.items()}
        found = [Cohort(models, train)]
        for left in sorted({max(1, round(share * len(members))) for share in self.shares}, reverse=True):
            kept, named = members[:left], suffix(left, len(members))
            found.append(Cohort(twins, _of(train, others, kept), named))
            if self.repeated:
                found.append(Cohort(twins, _of(train, others, np.resize(kept, len(members))), named + REPEATED))
        return [*found, Cohort(models, train, BACK)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """All attacks on all networks, each on its own."""
        if not attacks:
            raise InputError("attack: must name at least one in this study, got none; such as attack=quick")
        return [Trial(data.test, attacks)]

    def _members(self, data: Data, seed: int) -> npt.NDArray[np.int64]:
        """Which training samples are the group, in the order in which they are kept."""
        assert data.train is not None
        if column(self.by, data.test.groups is not None) == "group":
            if data.test.groups is None or data.train.groups is None:
                raise InputError("study.by: must be class, or the data must have groups (data.groups), got group")
            name = chosen(self.group, np.unique(data.test.groups).tolist())
            members = np.flatnonzero(data.train.groups == name)
        else:
            name = chosen(self.group, [data.test.classes[label] for label in np.unique(data.test.labels)])
            members = np.flatnonzero(data.train.labels == data.test.classes.index(name))
        return np.random.default_rng([_STREAM, seed]).permutation(members)


def _of(train: Samples, others: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> Samples:
    return train.select(np.sort(np.concatenate([others, kept])))
