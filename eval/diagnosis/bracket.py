"""Between what is proved and what is broken: the bracket of the robust accuracy. Free of torch.

Of the samples that `eval.diagnosis.below` looked at, those that are proved to keep their class within the budget of the
run are a lower bound, and those that no search broke an upper one. What is proved, broken, or wrong to begin with is
decided; the rest lies between. No proof may reach as far as a perturbation that was found: where one does, the proof is
wrong, or the network that was attacked is not the function that was proved. A sample is proved at the budget if its
radius exceeds every size that counts as within it, rounding included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.intervals import Bools, Floats, wilson

Arrays = Mapping[str, np.ndarray[Any, Any]]

PROOFS: Mapping[str, str] = {"norms": "gains of the layers", "bounds": "bounds of the logits"}
"""In words."""
METHODS: Mapping[str, str] = {"ibp": "intervals", "crown_ibp": "linear bounds on intervals", "crown": "linear bounds"}
"""How the logits were bounded, in words."""

_ROUNDING = 1e-6  # of a distance


@dataclass(frozen=True)
class Proof:
    """What one way of proving comes to.

    Attributes:
        name: in words.
        certified: samples proved at the budget.
        median: of the radii of correct samples, in the norm of the budget; NaN where it was refused.
        refused: why nothing could be proved; empty otherwise.
    """

    name: str
    certified: int
    median: float
    refused: str = ""


@dataclass(frozen=True)
class Smoothed:
    """What is proved of the smoothed network, which is another one.

    Attributes:
        n: samples looked at.
        certified: those proved at the budget.
        right: those proved to be right at all.
        abstained: those of which nothing is said.
        sigma: deviation of the noise.
        alpha: probability for each sample that what is said of it is wrong.
    """

    n: int
    certified: int
    right: int
    abstained: int
    sigma: float
    alpha: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share that is certified, 95%."""
        low, high = wilson(self.certified, self.n)
        return float(low), float(high)


@dataclass(frozen=True)
class Bracket:
    """What is known of the robust accuracy of one network from both sides.

    Attributes:
        n: samples looked at.
        certified: correct samples that are proved to keep their class at the budget.
        standing: correct samples that no search broke within the budget.
        decided: samples that are proved, broken, or wrong to begin with.
        broken: ids of samples whose proof reaches as far as a perturbation that was found, or farther.
        compared: samples with a proof and a perturbation that was found, at any size.
        ratio: median of their distance over their radius; NaN without any.
        proofs: each way of proving.
    """

    n: int
    certified: int
    standing: int
    decided: int
    broken: tuple[str, ...]
    compared: int
    ratio: float
    proofs: tuple[Proof, ...]

    @property
    def possible(self) -> bool:
        """Whether some way of proving was possible."""
        return any(not proof.refused for proof in self.proofs)

    @property
    def low(self) -> float:
        """The certified accuracy."""
        return self.certified / self.n

    @property
    def high(self) -> float:
        """The accuracy in the worst case of all searches, of these samples."""
        return self.standing / self.n

    @property
    def open(self) -> int:
        """Samples of which neither is known."""
        return self.n - self.decided

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """95% intervals of both ends."""
        (a, c), (b, d) = (map(float, wilson(k, self.n)) for k in (self.certified, self.standing))
        return (a, c), (b, d)

    @property
    def text(self) -> str:
        """In a sentence."""
        if self.broken:
            return f"proofs and perturbations contradict each other on {len(self.broken)} of {self.n} samples"
        return (
            f"between {self.low:.1%} (proved) and {self.high:.1%} (not broken) of the first {self.n} samples are "
            f"robust; {self.decided / self.n:.0%} are decided"
        )


def bracket(below: Arrays, distances: Mapping[str, float], within: Callable[[Floats], Bools]) -> Bracket | None:
    """What both sides come to; None where nothing was looked at.

    Args:
        below: of the probe.
        distances: of the nearest perturbation that changes the class of a sample, by its id.
        within: which distances (n,) keep the budget.
    """
    right = below.get("right")
    if right is None or len(right) == 0:
        return None
    far = np.array([distances.get(str(sample), np.inf) for sample in below["sample"]])
    radius = np.zeros(len(right))
    proofs = []
    for name, words in PROOFS.items():
        refused = str(below.get(f"{name}_refused", ""))
        own = below.get(name)
        if own is None and not refused:
            continue
        method = METHODS.get(str(below.get("method", "")), "") if name == "bounds" and own is not None else ""
        said = f"{words} ({method})" if method else words
        if own is None:
            proofs.append(Proof(said, 0, float("nan"), refused))
            continue
        mine = np.where(right, own, 0.0)
        radius = np.maximum(radius, mine)
        median = float(np.median(mine[right])) if right.any() else float("nan")
        proofs.append(Proof(said, int((~within(mine)).sum()), median))
    both = right & (radius > 0) & np.isfinite(far)
    certified, standing = ~within(radius), right & ~within(far)
    contradicted = both & ((radius > far * (1 + _ROUNDING)) | (certified & ~standing))
    return Bracket(
        n=len(right),
        certified=int(certified.sum()),
        standing=int(standing.sum()),
        decided=int((certified | ~standing).sum()),
        broken=tuple(str(sample) for sample in below["sample"][contradicted]),
        compared=int(both.sum()),
        ratio=float(np.median(far[both] / radius[both])) if both.any() else float("nan"),
        proofs=tuple(proofs),
    )


def smoothed(arrays: Arrays, eps: float) -> Smoothed | None:
    """What smoothing came to; None where it was not tried."""
    right = arrays.get("right")
    if right is None or len(right) == 0:
        return None
    certified = int((right & (arrays["radius"] >= eps)).sum())
    abstained = int(arrays["abstained"].sum())
    return Smoothed(len(right), certified, int(right.sum()), abstained, float(arrays["sigma"]), float(arrays["alpha"]))
