"""What was measured of universal perturbations, by maker, norm and network. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.exponents import student
from eval.intervals import Bools, Floats, wilson
from eval.records import Run
from eval.studies.cells import Table, Value, overlap, share
from eval.studies.universal_names import ASCENT, MAKERS, PAPERS

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
SOURCE = "Moosavi-Dezfooli et al. 2017, arXiv 1610.08401"


@dataclass(frozen=True)
class Found:
    """What the probes measured.

    Attributes:
        made: by maker, norm and network.
        drawn: by network.
        names: of the networks, in their order.
        imagenet: whether the paper's numbers are about such data and budgets.
        linf: the budget in Linf.
        passes: of the paper's algorithm, at most.
    """

    made: Mapping[tuple[str, str], Mapping[str, Arrays]]
    drawn: Mapping[str, Arrays]
    names: Sequence[str]
    imagenet: bool
    linf: float
    passes: int

    def fooled(self, maker: str, norm: str, name: str, place: int = 0) -> Bools:
        """Which of the judged images the perturbation that was made for a network fools there."""
        arrays = self.made[maker, norm][name]
        return np.asarray(arrays["own"][place] != arrays["clean"], dtype=bool)

    def shown(self, norm: str, source: str, target: str) -> Bools:
        """Which of them the ascent's for `source` fools on `target`."""
        if source == target:
            return self.fooled(ASCENT, norm, source)
        arrays = self.made[ASCENT, norm][source]
        place = arrays["names"].tolist().index(target)
        return np.asarray(arrays["other"][place] != arrays["other_clean"][place], dtype=bool)

    def random(self, kind: str, name: str) -> Value:
        """The share that random perturbations fool: the mean over draws."""
        arrays = self.drawn[name]
        return mean_share((arrays[kind] != arrays["clean"]).mean(axis=0))

    def directions(self, kind: str, name: str) -> Value:
        """The share that random directions fool, `whole`, `span` or `components`: the mean over directions."""
        arrays = self.drawn[name]
        hit = arrays[kind] != arrays["clean"][arrays["among"]]  # (directions, images)
        return over_draws(hit.mean(axis=1), hit.shape[1])

    @property
    def l2(self) -> float:
        """The budget in L2."""
        return float(self.drawn[self.names[0]]["budget"])

    @property
    def n(self) -> int:
        """Images judged."""
        return len(self.drawn[self.names[0]]["clean"])

    @property
    def count(self) -> int:
        """Images that perturbations were made on."""
        return int(self.made[ASCENT, "linf"][self.names[0]]["images"][0])


def where_of(run: Run, found: Found) -> str:
    """On what it was measured."""
    return (
        f"Made on {found.count} images and judged on {found.n} others of {run.data['name']}, clipped to the box, "
        f"Linf {run.threat['headline']}, L2 {found.l2:.4g}, seed {run.seed}. "
    )


def row_of(name: str, maker: str) -> str:
    """What a row of the tables is called."""
    return f"{name}: {MAKERS[maker]}"


def span(values: Iterable[Value]) -> str:
    """The least and the greatest of some shares, in words; empty of none."""
    shares = [v.ours for v in values]
    if not shares:
        return ""
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"


def cell(table: Table, row: str, column: str) -> Value:
    """The value in a cell."""
    value = dict(table.rows)[row][table.columns.index(column)]
    assert value is not None
    return value


def unstable(found: Found) -> str:
    """Where the paper's algorithm does clearly better on fewer images than on all of them, in Linf; empty if nowhere.

    Each rate is of one perturbation: another one, made anew, could be worse by as much.
    """
    lines = []
    for name in found.names:
        images = found.made[PAPERS, "linf"][name]["images"]
        whole, *fewer = (share(found.fooled(PAPERS, "linf", name, i)) for i in range(len(images)))
        better = [f"{v.ours:.1%} on {n}" for n, v in zip(images[1:], fewer, strict=True) if above(v, whole)]
        if better:
            lines.append(f"{name} ({', '.join(better)} images, but {whole.ours:.1%} on {images[0]})")
    if not lines:
        return ""
    return (
        f"The paper's algorithm is unstable: in Linf it fools clearly more made on fewer images for {', '.join(lines)}."
    )


def mean_share(values: Floats) -> Value:
    """The mean of shares (n,), one an image, with Wilson's interval as if each were one draw.

    Too wide rather than too narrow; that of a normal mean has no width where no draw fools any image.
    """
    n, mean = len(values), float(values.mean())
    low, high = wilson(mean * n, n)
    return Value("share", mean, float(low), float(high), n)


def over_draws(shares: Floats, images: int) -> Value:
    """The mean of what each draw (D,) fools of the same images, with Student's interval over draws.

    It is about other draws, not about other images; and no narrower than half an image to both sides, since draws that
    all fool as many do not tell more.
    """
    mean, (low, high) = float(shares.mean()), student(shares)
    half = 0.5 / images
    low, high = max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half))
    return Value("share", mean, low, high, len(shares))


def above(value: Value | None, null: Value | None) -> bool:
    """Whether a share is clearly greater than another one."""
    return value is not None and null is not None and value.ours > null.ours and not overlap(value, null)
