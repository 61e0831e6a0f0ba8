"""The networks of `eval.studies.inside` and what was measured of them, by their names. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.records import Run

OTHER, ROBUST, UNTRAINED = "_other", "_robust", "_untrained"
"""After the name of a model: another seed, adversarial training, weights that learnt nothing."""
_WHAT = {"": "", OTHER: " from another seed", ROBUST: " trained robustly", UNTRAINED: " untrained"}

MAPS = ("occlusion", "gradient", "random squares", "random pixels")
"""What pixels are ordered by; a map and the random one of its grain are two apart."""

Array = np.ndarray[Any, Any]
Measured = Mapping[str, Mapping[str, Array]]
"""Arrays by the name of the network."""


@dataclass(frozen=True)
class Networks:
    """The networks of a run.

    Attributes:
        models: names of those that others are variants of.
        labels: how each network is called, by its name, in their order.
    """

    models: tuple[str, ...]
    labels: Mapping[str, str]

    @classmethod
    def of(cls, run: Run) -> Networks:
        """Those of a run."""
        names = [str(model["name"]) for model in run.models]
        models = tuple(name[: -len(UNTRAINED)] for name in names if name.endswith(UNTRAINED))
        known = {model + suffix: model + what for model in models for suffix, what in _WHAT.items()}
        return cls(models, {name: known[name] for name in known if name in names})

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of those that learnt something."""
        return tuple(name for name in self.labels if not name.endswith(UNTRAINED))

    def variant(self, model: str, suffix: str) -> str | None:
        """The name of a variant of a model, if there is one."""
        return model + suffix if model + suffix in self.labels else None


def model_of(name: str) -> str:
    """The model that a network is a variant of."""
    for suffix in (OTHER, ROBUST, UNTRAINED):
        name = name.removesuffix(suffix)
    return name
