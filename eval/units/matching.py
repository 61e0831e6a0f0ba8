"""Which direction of one network is which of another: the matching of the greatest correlation. Free of torch.

    max over one-to-one p of  sum_i |corr(r_i, s_p(i))|

found on some images; what the pairs have in common is measured on others, with the sign that the first gave. Any two
sets of directions can be matched, the better the more there are: random ones of the same number stand beside.

Source: Y. Li et al., "Convergent learning: do different neural networks learn the same representations?", ICLR 2016
(arXiv 1511.07543), section 3, for the bipartite matching of units by their correlation.
Departures: the sign of a correlation does not count, as the sign of a direction means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.units.bases import Array


@dataclass(frozen=True)
class Matched:
    """Pairs of directions.

    Attributes:
        one: (m,) numbers in the first set.
        other: (m,) numbers in the second.
        sign: (m,) of their correlation where they were matched.
    """

    one: Array
    other: Array
    sign: Array


def correlations(one: Array, other: Array) -> Array:
    """The correlation (D, E) of responses (n, D) and (n, E) to the same images; 0 for those that are constant."""
    a, b = _standard(one), _standard(other)
    found: Array = a.T @ b
    return found


def paired(one: Array, other: Array) -> Array:
    """The correlation (D,) of each column of (n, D) with that of the same place."""
    found: Array = np.einsum("nd,nd->d", _standard(one), _standard(other))
    return found


def _standard(responses: Array) -> Array:
    r = responses.astype(np.float64)
    r = r - r.mean(0)
    length = np.linalg.norm(r, axis=0)
    found: Array = np.divide(r, length, out=np.zeros_like(r), where=length > 1e-12)
    return found


def match(one: Array, other: Array) -> Matched:
    """The matching of responses (n, D) and (n, E): min(D, E) pairs."""
    from scipy.optimize import linear_sum_assignment

    found = correlations(one, other)
    rows, columns = linear_sum_assignment(-np.abs(found))
    return Matched(rows, columns, np.where(found[rows, columns] < 0, -1.0, 1.0))


def held_out(one: Array, other: Array, matched: Matched) -> Array:
    """What the pairs (m,) have in common on other images: their correlation, in the sign that they were matched by."""
    return matched.sign * paired(one[:, matched.one], other[:, matched.other])
