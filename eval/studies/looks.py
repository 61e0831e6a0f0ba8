"""What became of perturbed pictures, as they are and under transformations, one look at a time. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.intervals import Bools, Floats, wilson
from eval.rows import flag, numbers, within, wrong
from eval.studies.cells import Value

AWAY, LEAST = "_untargeted", "_least_likely"  # of the name of an attack, by what it aims at
LABELS = {
    "fgsm" + AWAY: "fast", "bim" + AWAY: "basic iterative", "bim" + LEAST: "least likely class",
    "pgd": "plain (pgd)", "expectation": "by expectation",
}  # fmt: skip
CONFIDENT = 0.8  # probability of what the network says, before and after, of a prefiltered picture
_PHOTOS = 102  # images of the paper


@dataclass(frozen=True)
class Made:
    """Perturbations by one attack at one budget, on one network.

    Attributes:
        attack: its name.
        eps: text of the budget.
        seen: rows by role, each in the order of the samples.
    """

    attack: str
    eps: str
    seen: dict[str, pd.DataFrame]

    @property
    def label(self) -> str:
        """What the paper calls the attack."""
        return LABELS.get(self.attack, self.attack.replace("_", " "))

    @property
    def adv(self) -> pd.DataFrame:
        """As they are."""
        return self.seen["attack"]

    def looks(self, transformation: str, draws: int) -> list[pd.DataFrame]:
        """The rows of each look under a transformation."""
        roles = [transformation] if transformation in self.seen else [f"{transformation}_{i}" for i in range(draws)]
        return [self.seen[role] for role in roles]

    def correct(self, transformation: str, draws: int, among: Bools | None = None, top: int = 1) -> Floats:
        """In which part of its looks the label of each image (n,) is among the likeliest `top`."""
        hits = np.array([within(look, "adv_rank", top) for look in self.looks(transformation, draws)], dtype=np.float64)
        return _mean_of(hits, among)

    def kept(self, transformation: str, draws: int, among: Bools | None = None) -> Floats:
        """In which part of its looks each image (n,) is taken for the target."""
        looks = self.looks(transformation, draws)
        hits = np.array([numbers(k["adv_pred"]) == numbers(k["target_class"]) for k in looks], dtype=np.float64)
        return _mean_of(hits, among)

    def fooled(self, top: int = 1) -> Bools:
        """Of which images the label was among the likeliest `top`, and is not any more."""
        return within(self.adv, "clean_rank", top) & ~within(self.adv, "adv_rank", top)

    @property
    def clear(self) -> Bools:
        """Which images are clear cases: right and sure before; sure after, with the label not among the top five."""
        sure = (numbers(self.adv["clean_conf"]) > CONFIDENT) & (numbers(self.adv["adv_conf"]) > CONFIDENT)
        return sure & ~wrong(self.adv, "clean_pred") & ~within(self.adv, "adv_rank", 5)

    @property
    def brought(self) -> Bools:
        """Which images the attack brought to the target."""
        return flag(self.adv["success"]) & (numbers(self.adv["rms"]) > 0)


def _mean_of(hits: Floats, among: Bools | None) -> Floats:
    mean: Floats = hits.mean(axis=0)
    return mean if among is None else mean[among]


def mean_share(parts: Floats, paper: float | None = None, paper_n: int = _PHOTOS) -> Value:
    """The mean of shares (n,) of looks at n images, with Wilson's interval as if each had been looked at once.

    Looks at one image are alike; an interval that counts them all would be too narrow. `paper` is in percent.
    """
    n = len(parts)
    low, high = (float(bound) for bound in wilson(float(parts.sum()), n))
    known = None if paper is None else paper / 100
    if known is None or n == 0:
        return Value("share", float(parts.mean()) if n else math.nan, low, high, n, known)
    least, most = (float(bound) for bound in wilson(known * paper_n, paper_n))
    return Value("share", float(parts.mean()), low, high, n, known, high < least - 5e-4 or low > most + 5e-4)
