"""Sentences that several runs say alike, told once: with the least and the greatest of each number. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

# a number, with commas for thousands, that is no part of a name such as FC100-100-10, FC10(1), 8-bit or L2
_NUMBER = re.compile(r"(?<![\w.,/^-])(?<!\w\()(-?\d+(?:,\d{3})*(?:\.\d+)?)(?![\w-]|\.\d)")


def fold(runs: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """What all runs say, and what is left of each.

    Sentences are alike that differ in their numbers alone. Of those that a run says several times the first goes with
    the first of the others.

    >>> fold([["a: 1% of 9", "only here"], ["a: 1% of 9"]])
    (('a: 1% of 9',), (('only here',), ()))

    Args:
        runs: the sentences of each.

    Returns:
        The sentences that all share, in the order of the first run, and those that are left of each run.
    """
    left = [list(said) for said in runs]
    common = []
    for line in runs[0]:
        shape = _shape(line)
        alike = [next((other for other in said if _shape(other) == shape), None) for said in left]
        found = [other for other in alike if other is not None]
        if len(found) == len(runs):
            for said, other in zip(left, found, strict=True):
                said.remove(other)
            common.append(_joined(found))
    return tuple(common), tuple(map(tuple, left))


def _shape(line: str) -> str:
    return _NUMBER.sub("#", line)


def _joined(lines: Sequence[str]) -> str:
    """Sentences of one shape as one."""
    pieces = [_NUMBER.split(line) for line in lines]  # text, number, text, ..., text
    return "".join(p[0] if i % 2 == 0 else _range(p) for i, p in enumerate(zip(*pieces, strict=True)))


def _range(numbers: Sequence[str]) -> str:
    ordered = sorted(set(numbers), key=lambda text: float(text.replace(",", "")))
    low, high = ordered[0], ordered[-1]
    if low == high:
        return low
    return f"{low} \u2026 {high}" if low.startswith("-") else f"{low}\u2013{high}"
