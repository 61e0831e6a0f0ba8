"""Subsets: random ones that keep the classes in balance, decided by a seed alone, and those of some classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eval.data.samples import Labels, Samples
from eval.errors import InputError

TEST_FRACTION = 0.2
"""Share of test samples where neither the data set nor the configuration says it."""

_BALANCED, _SPLIT = 1, 2  # streams of the seed


def _generator(stream: int, seed: int) -> np.random.Generator:
    if seed < 0:
        raise InputError(f"seed: must be at least 0, got {seed}")
    return np.random.default_rng([stream, seed])


def _ranks(labels: Labels, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many (n,) of its class stand before each of the samples `order` (n,)."""
    own = labels[order]
    by_class = np.argsort(own, kind="stable")
    counts = np.bincount(own)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[by_class] = np.arange(len(order)) - starts
    return ranks


def in_turn(labels: Labels, seed: int, among: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
    """The samples in an order in which the classes take turns, and one that runs out is passed over.

    Within a class and among the classes it is random. The first n of it are balanced: counts differ by at most one
    among classes that did not run out. Neighbours are of different classes until a single one is left.

    Args:
        labels: (N,) class of each sample.
        seed: non-negative.
        among: (N,) which samples take part; None for all. Two that share samples keep them in one order by class.

    Returns:
        Their numbers (n,); a permutation of 0..N-1 without `among`.

    Raises:
        InputError: the seed is negative.
    """
    rng = _generator(_BALANCED, seed)
    turn = rng.permutation(int(labels.max(initial=0)) + 1)
    order = rng.permutation(len(labels))
    if among is not None:
        order = order[among[order]]
    return order[np.lexsort((turn[labels[order]], _ranks(labels, order)))]


def balanced(labels: Labels, limit: int, seed: int, key: str = "data.limit") -> npt.NDArray[np.int64]:
    """Which `limit` samples to keep, ascending: the first of `in_turn`.

    A smaller limit with the same seed gives a subset of a larger one's.

    Args:
        labels: (N,) class of each sample.
        limit: how many, in 1..N.
        seed: non-negative.
        key: what an error calls the limit.

    Raises:
        InputError: `limit` is not in 1..N, or the seed is negative.
    """
    if not 1 <= limit <= len(labels):
        raise InputError(
            f"{key}: must be in 1..{len(labels)}, the samples there are, got {limit}; {key}=null takes all"
        )
    return np.sort(in_turn(labels, seed)[:limit])


def stratified(labels: Labels, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which samples (N,) form a random `fraction`: of each class its share, rounded up or down.

    Raises:
        InputError: one of the two parts would be empty.
    """
    total = round(len(labels) * fraction)
    if not 0 < total < len(labels):
        raise InputError(
            f"data.test_fraction: must leave samples on both sides, got {fraction:g} of {len(labels)} samples"
        )
    rng = _generator(_SPLIT, seed)
    counts = np.bincount(labels)
    share, remainder = np.divmod(counts * total, len(labels))  # integers: no share is lost to rounding
    by_remainder = np.lexsort((rng.permutation(len(counts)), -remainder))
    share[by_remainder[: total - share.sum()]] += 1
    order = rng.permutation(len(labels))
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[order] = _ranks(labels, order) < share[labels[order]]
    return chosen


def split(samples: Samples, fraction: float, seed: int) -> tuple[Samples, Samples]:
    """The rest, and a random `fraction` that keeps the proportions of the classes; both in order.

    Raises:
        InputError: one of the two parts would be empty.
    """
    chosen = stratified(samples.labels, fraction, seed)
    return samples.select(np.flatnonzero(~chosen)), samples.select(np.flatnonzero(chosen))


def limited(samples: Samples, limit: int | None, seed: int, key: str) -> Samples:
    """`limit` samples, balanced by class, in order; all of them for None.

    Raises:
        InputError: there are fewer than `limit`.
    """
    return samples if limit is None else samples.select(balanced(samples.labels, limit, seed, key))


def of_classes(samples: Samples, classes: Sequence[int]) -> Samples:
    """The samples of the `classes`, given by position, in order; labels and names of classes stay as they are.

    Raises:
        InputError: there are none.
    """
    return samples.select(np.flatnonzero(np.isin(samples.labels, list(classes))))
