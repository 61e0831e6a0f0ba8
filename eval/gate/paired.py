"""Whether samples were lost beyond chance: exact paired tests, many at once. Pure functions of counts.

Of n samples that two networks are tried on, `lost` were held by the first alone and `won` by the second alone; the
others say nothing on which is better. Were the networks equally good, each of the m = lost + won would be as likely
lost as won, whatever the others did:

    p = P(X >= lost),  X ~ Binomial(m, 1/2)                                                   (McNemar, one-sided)
    alarm, if p is small enough and (lost - won) / n is at least the minimum effect

Of k cells that are tested together the chance of any false alarm is to stay below alpha. Holm compares the smallest
p-value with alpha / k, the next with alpha / (k - 1), and so on; with weights w, p_l / w_l with alpha over the sum of
the weights that are left. That is as though each cell alarmed with the chance that its threshold allows. Counts are
few, so most cannot: the chance of an alarm at or below p in a cell of m is the largest tail of Binomial(m, 1/2) that is
at most p and reaches the minimum effect. These chances are added up instead, which refuses less and errs no more often:

    adjusted p_(j) = max over i <= j of  sum over cells l >= i of  chance_l(w_l u_(i)),  u_l = p_l / w_l, rising

Source: Q. McNemar, Psychometrika 12, 1947; S. Holm, Scandinavian Journal of Statistics 6, 1979 (with weights: section
4); R. E. Tarone, Biometrics 46, 1990; P. H. Westfall and R. D. Wolfinger, The American Statistician 51, 1997.
Departures: the minimum effect is part of what an alarm is, so that tails that do not reach it count as no alarm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from eval.errors import InputError
from eval.intervals import Codes, Floats

_SLACK = 1e-9  # of a number of samples, for eps * n that is not quite whole


@dataclass(frozen=True)
class Rules:
    """When a gate closes.

    Attributes:
        alpha: chance of any false alarm in one check.
        min_effect: share of the samples that must be lost on balance for an alarm.
        floor: least robust accuracy of each network in the worst case at the headline eps; None for any.

    Raises:
        InputError: a value is out of range.
    """

    alpha: float = 0.01
    min_effect: float = 0.005
    floor: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("alpha", 0.0, 0.5), ("min_effect", 0.0, 1.0), ("floor", 0.0, 1.0)):
            value = getattr(self, name)
            if name == "floor" and value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high or (name == "alpha" and value == 0):
                least = "above 0 and at most" if name == "alpha" else f"from {low:g} to"
                raise InputError(f"{name}: must be a number {least} {high:g}, got {value!r}; 0.05 is five percent")


@lru_cache(maxsize=256)
def tails(m: int) -> Floats:
    """P(X >= b) for X ~ Binomial(m, 1/2) and b = 0..m: (m + 1,), falling; 0 below the least float.

    >>> tails(3).round(3).tolist()
    [1.0, 0.875, 0.5, 0.125]
    """
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, m + 1)))])  # ln b!
    pmf = np.exp(logs[m] - logs - logs[::-1] - m * math.log(2.0))
    result: Floats = np.minimum(np.cumsum(pmf[::-1])[::-1], 1.0)  # the smallest first, so that they are not swallowed
    result[0] = 1.0
    result.setflags(write=False)
    return result


def mcnemar(lost: int, won: int) -> float:
    """The chance of at least so many losses among lost + won, were loss and win as likely.

    >>> mcnemar(0, 0), mcnemar(5, 0)
    (1.0, 0.03125)
    """
    return float(tails(lost + won)[lost])


def least(m: int, n: int, min_effect: float) -> int:
    """The fewest losses among m changes of n samples that are the minimum effect on balance; may exceed m.

    >>> least(10, 1000, 0.005), least(3, 1000, 0.005)
    (8, 4)
    """
    return max(0, math.ceil((m + min_effect * n - _SLACK) / 2))


def chance(m: int, n: int, min_effect: float, level: npt.ArrayLike) -> Floats:
    """The chance of an alarm whose p-value is at most `level`, elementwise, in a cell of m changes of n samples.

    >>> chance(10, 1000, 0.005, [0.5, 0.01]).round(4).tolist()
    [0.0547, 0.001]
    """
    alarms = tails(m)[least(m, n, min_effect) :][::-1]  # rising
    place = np.searchsorted(alarms, np.asarray(level, dtype=np.float64) * (1 + 1e-12), side="right")
    return np.concatenate([[0.0], alarms])[place]


def adjusted(lost: Codes, won: Codes, n: Codes, min_effect: float, weights: npt.ArrayLike = 1.0) -> Floats:
    """P-values of k cells (k,), adjusted for their number; 1 where the minimum effect is not reached.

    Rejecting those that are at most alpha makes any false alarm with a chance of at most alpha, however the cells
    depend on each other.

    Args:
        lost: (k,) samples that were lost.
        won: (k,) samples that were won.
        n: (k,) samples that were compared.
        min_effect: share of n that must be lost on balance.
        weights: (k,) or one for all, above 0: how the chance of a false alarm is shared out between the cells.
    """
    cells = [(int(b), int(c), int(k)) for b, c, k in zip(lost, won, n, strict=True)]
    large = np.array([b >= least(b + c, k, min_effect) and b > c for b, c, k in cells], dtype=bool)
    p = np.where(large, [mcnemar(b, c) for b, c, _ in cells], 1.0)
    shares = np.broadcast_to(np.asarray(weights, dtype=np.float64), len(cells))
    u = np.where(large, p / shares, np.inf)
    order = np.argsort(u, kind="stable")
    result, running = np.ones(len(cells)), 0.0
    levels = np.minimum(shares[:, None] * np.where(large, u, 1.0), 1.0)  # (k, k): of cell l where cell i is looked at
    chances = [chance(b + c, k, min_effect, level) for (b, c, k), level in zip(cells, levels, strict=True)]
    for place, cell in enumerate(order):
        running = max(running, sum(float(chances[other][cell]) for other in order[place:]))
        result[cell] = min(1.0, running) if large[cell] else 1.0
    return result
