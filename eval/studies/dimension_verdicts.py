"""What numbers of `eval.studies.dimension` say of a claim, in words. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from eval.studies.cells import Value
from eval.studies.clauses import listed
from eval.studies.dimension_measured import told

Named = tuple[str, Value]
"""A network's label and a number of it."""
NEAR = 0.15
"""How far, as a part, a distance may be from what is predicted and still count as near."""


def _split(words: Sequence[Named], holds: Callable[[Value], bool | None]) -> dict[bool | None, list[str]]:
    """The labels of those that hold, that do not, and of which it cannot be told."""
    found: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for name, value in words:
        found[holds(value)].append(f"the {name}")
    return found


def takes_in(at: float) -> Callable[[Value], bool | None]:
    """Whether an interval holds a number; None where there is no interval."""
    return lambda value: value.low <= at <= value.high if math.isfinite(value.high - value.low) else None


def stands(words: Sequence[Named], holds: Callable[[Value], bool | None], what: str = "the claim") -> str:
    """For which networks a claim stands.

    >>> stands([("a", Value("number", 0.5, 0.4, 0.6, 5)), ("b", Value("number", 0.3, 0.2, 0.4, 5))], takes_in(0.5))
    'the claim stands for the a, and does not stand for the b'
    """
    by = _split(words, holds)
    parts = [
        f"{verb} for {listed(by[key])}"
        for verb, key in (("stands", True), ("does not stand", False), ("cannot be told", None))
        if by[key]
    ]
    return f"{what} {', and '.join(parts)}"


def moves(words: Sequence[Named]) -> str:
    """What alpha - delta says of each network."""
    parts = []
    for verb, which in (
        ("comes nearer as d grows for", [w for w in words if w[1].high < 0]),
        ("goes away for", [w for w in words if w[1].low > 0]),
        ("cannot be told to move for", [w for w in words if not (w[1].high < 0 or w[1].low > 0)]),
    ):
        if which:
            parts.append(f"{verb} {listed([f'the {name}, {told(value)}' for name, value in which])}")
    return "; it ".join(parts)


def fault(alphas: Sequence[Named], gaps: Sequence[Named]) -> str:
    """Whether dimension is guilty, by alpha and alpha - delta of each network where d alone changes."""
    by: dict[str, list[str]] = {}
    for (name, alpha), (_, gap) in zip(alphas, gaps, strict=True):
        if gap.high < 0:
            verdict = "guilty in part (alpha lies between 0 and delta)" if alpha.low > 0 else "guilty (alpha = 0)"
        elif alpha.low > 0:
            verdict = "innocent (alpha = delta)" if gap.low <= 0 else "innocent (alpha above delta)"
        else:
            verdict = "neither, as far as can be told,"
        by.setdefault(verdict, []).append(f"the {name}")
    return "dimension is " + ", and ".join(f"{verdict} for {listed(names)}" for verdict, names in by.items())


def _near(value: Value) -> bool | None:
    """Whether a prediction is near the distance found; None where its interval does not say."""
    low, high = (value.ours if math.isnan(bound) else bound for bound in (value.low, value.high))
    if low > 1 - NEAR and high < 1 + NEAR:
        return True
    return False if high <= 1 - NEAR or low >= 1 + NEAR else None


def predicted(levels: Sequence[tuple[float, Sequence[Named]]]) -> str:
    """What noise of each deviation, in units of r_adv, predicts of the distance found, and what of the claim stands."""
    said = listed(
        [f"at {times:g} r_adv {listed([f'{told(v)} ({name})' for name, v in words])}" for times, words in levels]
    )
    parts = []
    for times, words in levels:
        by = _split(words, _near)
        near = "none" if not by[True] else "all" if not (by[False] or by[None]) else listed(by[True])
        if len(by[None]) == len(words):
            near = "none that can be told"
        parts.append(f"at {times:g} r_adv for {near}")
    every = [_near(value) for _, words in levels for _, value in words]
    verdict = "cannot be told" if False not in every else "does not stand"
    return (
        f"Of the distance found, noise predicts {said}: within {NEAR:.0%} of it {listed(parts)}; that it does at "
        f"every sigma {'stands' if all(every) else verdict}."
    )


def left(before: Sequence[Named], after: Sequence[Named], change: Sequence[Named], starts: Sequence[Named]) -> str:
    """What training does to exponents of the L1 norm, and whether they began as derived.

    Args:
        before: of the lead's gradient, untrained.
        after: the same, trained.
        change: from `before` to `after`, seed by seed.
        starts: of the loss's gradient, untrained, with what is derived beside.
    """
    both = zip(before, after, strict=True)
    grown = [f"{told(b)} untrained and {told(a)} trained ({name})" for (name, b), (_, a) in both]
    return (
        f"The L1 norm of the lead's gradient grows as d to the power of {listed(grown)}: "
        + stands(change, takes_in(0.0), "that training leaves it so")
        + ". Before training the loss's grows as d to the power of "
        + listed([f"{told(value)} ({name})" for name, value in starts])
        + ": "
        + stands(starts, takes_in(0.5), "the derived 1/2")
        + "."
    )


def returned(treated: Sequence[tuple[str, Sequence[Named]]]) -> str:
    """By which treatments alpha - delta takes in 0, and by which not."""
    parts = []
    for what, gaps in treated:
        by = _split(gaps, takes_in(0.0))
        away = listed([f"the {name}, {told(gap)}" for name, gap in gaps if takes_in(0.0)(gap) is False])
        own = [f"back for {listed(by[True])}" if by[True] else "", f"not for {away} off" if away else ""]
        own.append(f"not known for {listed(by[None])}" if by[None] else "")
        parts.append(f"{what}: {', '.join(p for p in own if p)}")
    return "; ".join(parts)
