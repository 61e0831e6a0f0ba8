"""The checks of the diagnosis: what ought to be so, what was seen, and what to do where it is not. Free of torch.

That no check fires proves nothing (there are published counter-examples); that one does is a reason not to believe the
number beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.diagnosis.bracket import Bracket
from eval.intervals import wilson

Arrays = Mapping[str, np.ndarray[Any, Any]]

_ONE_SIDED = 0.9  # level of a two-sided interval whose lower end is a one-sided 95% bound


@dataclass(frozen=True)
class Seen:
    """What was measured of one network; a name is missing where nothing was.

    Attributes:
        answers, slopes, paths, searches, neighbours, broader: of the probes in this package.
        standing: ids of the samples that the evaluation's own attacks left standing; None without attacks.
        late: samples that those of its searches that need no gradient, alone or in a cascade, broke together, and none
            with gradients did; None unless there are both.
        tried: samples that its attacks were made for.
        elsewhere: samples that perturbations made for other networks broke, and its own did not; None if untried.
        scored: names of its attacks and stages that need no gradient.
        accuracy: correct samples, samples, and the share of the largest class; 0 samples for none.
        targeted: its attacks aim at classes, where the searches here do not.
        bracket: what is proved beside what is broken; None where nothing was tried.
        smallest: by sample, the size of the perturbation that searches for the smallest one found, where they
            minimise the norm of the budget.
    """

    answers: Arrays = field(default_factory=dict)
    slopes: Arrays = field(default_factory=dict)
    paths: Arrays = field(default_factory=dict)
    searches: Arrays = field(default_factory=dict)
    neighbours: Arrays = field(default_factory=dict)
    broader: Arrays = field(default_factory=dict)
    standing: frozenset[str] | None = None
    late: int | None = None
    tried: int = 0
    elsewhere: int | None = None
    scored: tuple[str, ...] = ()
    accuracy: tuple[int, int, float] = (0, 0, 1.0)
    targeted: bool = False
    bracket: Bracket | None = None
    smallest: Mapping[str, float] = field(default_factory=dict)


Told = tuple[str, bool | None]
"""What was seen, in words with its number, and whether the check fires; None where it could not be asked."""


@dataclass(frozen=True)
class Question:
    """What is asked of every network.

    Attributes:
        name: short, for tables and tests.
        title: what ought to be so.
        limit: when it fires.
        why: what it means when it does.
        remedy: what to do then.
        source: where it comes from.
        ask: answers it.
        fault: whether it is a reason not to trust the evaluation; else a remark.
    """

    name: str
    title: str
    limit: str
    why: str
    remedy: str
    source: str
    ask: Callable[[Seen], Told] = field(repr=False)
    fault: bool = True


@dataclass(frozen=True)
class Check:
    """A question with its answer.

    Attributes:
        question: what was asked.
        saw: what was measured.
        fired: whether it is not as it ought to be; None where it could not be asked.
    """

    question: Question
    saw: str
    fired: bool | None


MASKED = (
    "try a search without gradients (attack=square), smoothed gradients (attack=pgd_eot) or a stand-in (attack=bpda)"
)
"""What to do where gradients mislead."""

NOT_MEASURED: Told = ("not measured", None)


def beyond_chance(k: int, n: int, limit: float) -> bool:
    """Whether k of n are more than a share `limit`, with 95% confidence.

    >>> beyond_chance(1, 64, 0.005), beyond_chance(3, 64, 0.005)
    (False, True)
    """
    return n > 0 and float(wilson(k, n, _ONE_SIDED)[0]) > limit


def some(arrays: Arrays, name: str) -> np.ndarray[Any, Any] | None:
    """The measured values of that name, if there are any."""
    values = arrays.get(name)
    return None if values is None or values.size == 0 else values


def share(hits: np.ndarray[Any, Any]) -> str:
    """How many of how many.

    >>> share(np.array([True, False, True]))
    '2 of 3'
    """
    return f"{int(hits.sum())} of {hits.size}"


def area(score: np.ndarray[Any, Any], hit: np.ndarray[Any, Any]) -> float:
    """Area under the curve: how often a hit has a larger score than a miss, ties by half; NaN without both.

    >>> area(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    hits, misses = int(hit.sum()), int((~hit).sum())
    if hits == 0 or misses == 0:
        return float("nan")
    values, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    middle = counts.cumsum() - (counts - 1) / 2  # mean rank of equals
    return float((middle[place][hit].sum() - hits * (hits + 1) / 2) / (hits * misses))
