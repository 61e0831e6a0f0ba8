"""A cat becomes a toaster: one picture, a wanted class, and several searches for the change that makes it so.

Every network and every search is tried on the same picture. `eval.toasting` watches the searches and looks at what
they end with; what they made for one network is judged on all, as in any run.

Source: A. Geitgey, "Machine Learning is Fun, part 8: how to intentionally trick neural networks", 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from attacks.base import Attack
from eval.data import Data, Samples, class_number
from eval.errors import InputError
from eval.studies.linf import linf
from eval.toasting import Toasting
from eval.trial import Cohort, Trial
from models.spec import Spec

ON_PHOTOS, ON_PICTURES = "0.005", "8/255"


@dataclass(frozen=True)
class Toaster:
    """One picture becomes another thing.

    Attributes:
        target: the wanted class, by name or number.
        of: class of the pictures that are taken from a data set with labels; not used for photos of the user's own.
        pictures: how many of that class, the first ones.
        eps: Linf budget of the searches that have one, in box units; None for 0.005 on photos, which is the article's
            0.01 on its scale of -1..1, and for 8/255 on the small pictures of a data set.
    """

    target: str = "toaster"
    of: str = "cat"
    pictures: int = 1
    eps: str | None = None

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise InputError(f"pictures: must be at least 1, got {self.pictures}")
        if self.eps is not None:
            linf(self.eps)

    def cohorts(self, data: Data, models: Mapping[str, Spec], seed: int) -> list[Cohort]:
        """All networks, trained on all training samples if they are to be trained."""
        return [Cohort(models, data.train)]

    def trials(self, data: Data, attacks: Mapping[str, Attack], seed: int) -> list[Trial]:
        """All searches on the pictures, watched."""
        target = class_number(str(self.target), data.test.classes, "target")
        eps = self.eps or (ON_PHOTOS if data.train is None else ON_PICTURES)
        threat = linf(eps)
        pictures = self._pictures(data, target)
        return [Trial(pictures, attacks, transfer=True, goal=str(target), threats=[(eps, threat)], watch=Toasting)]

    def _pictures(self, data: Data, target: int) -> Samples:
        if data.train is None:
            already = data.test.ids[data.test.labels == target]
            if len(already) and not data.unlabelled:
                raise InputError(
                    f"target: must be another class than the picture's, got {data.test.classes[target]}, which "
                    f"{already[0]} is already"
                )
            return data.test
        wanted = class_number(str(self.of), data.test.classes, "study.of")
        if wanted == target:
            raise InputError(f"target: must be another class than study.of, got {data.test.classes[target]} for both")
        found = np.flatnonzero(data.test.labels == wanted)[: self.pictures]
        if len(found) == 0:
            raise InputError(f"study.of: there must be pictures of {self.of}, got none in {data.name}")
        return data.test.select(found)
