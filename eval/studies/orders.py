"""What intervals allow to say of an order. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

from eval.studies.cells import Value, overlap


def allowed(rates: Mapping[str, Value]) -> str:
    """What the intervals allow to say of an order; `rates` are in the paper's, from least to most destroyed."""
    held: list[tuple[str, str]] = []
    against: list[tuple[str, str]] = []
    for one, other in combinations(rates, 2):
        if not overlap(rates[one], rates[other]):
            (held if rates[one].ours < rates[other].ours else against).append((one, other))
    if len(held) == math.comb(len(rates), 2):
        return "that is the paper's order, beyond the intervals"
    if not held and not against:
        return "all intervals overlap, so that this is no order, neither the paper's nor another"
    pairs = [f"{one} less than {other}, as in the paper" for one, other in held]
    pairs += [f"{other} less than {one}, unlike the paper" for one, other in against]
    rest = "" if len(held) + len(against) == math.comb(len(rates), 2) else "; the other intervals overlap"
    return f"beyond the intervals: {' and '.join(pairs)}{rest}"
