"""One direction as a detector of a class: the best threshold on some images, its accuracy on others. Free of torch.

    detected(x) = side * (<phi(x), v> - threshold) > 0

for each class against all others; side and threshold are those of the highest accuracy, and accuracy is compared with
that of the detector that always says no, as the class is the rarer part (or yes, where it is not).

Source: Q. V. Le et al., "Building high-level features using large scale unsupervised learning", ICML 2012
(arXiv 1112.6209), section 4: one neuron of many detects faces.
Departures: all thresholds between neighbouring responses are tried, not 20 at equal distances; the threshold is
chosen on images that the accuracy is not measured on; both sides count, as a direction's sign means nothing.
Cost: a sort of the responses of each direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.units.bases import Array


@dataclass(frozen=True)
class Detectors:
    """The best of each direction for each class.

    Attributes:
        threshold: (D, C).
        side: (D, C), 1 where the class responds more, -1 where it responds less.
        fitted: accuracy (D, C) on the images that they were chosen on.
    """

    threshold: Array
    side: Array
    fitted: Array


def fit(responses: Array, member: Array) -> Detectors:
    """The best thresholds.

    Args:
        responses: (n, D).
        member: (n, C) bool, whether an image is of the class.
    """
    classes = member.shape[1]
    found = [_best(responses[:, d].astype(np.float64), member) for d in range(responses.shape[1])] if classes else []
    nothing = np.zeros((responses.shape[1], classes))
    columns = [np.stack([one[i] for one in found]) if found else nothing for i in range(3)]
    return Detectors(*columns)


def _best(r: Array, member: Array) -> tuple[Array, Array, Array]:
    """Threshold, side and accuracy (C,) each of one direction's responses (n,)."""
    order = np.argsort(r, kind="stable")
    values, inside = r[order], member[order]
    n, of_class = len(r), member.sum(0)
    below = np.concatenate([np.zeros((1, member.shape[1]), np.int64), np.cumsum(inside, 0)])  # (n + 1, C) of the class
    cut = np.concatenate([[True], values[1:] > values[:-1], [True]])  # between i - 1 and i
    places = np.flatnonzero(cut)
    right = (of_class - below[places] + places[:, None] - below[places]) / n  # class above, others below
    accuracies = np.stack([right, 1 - right])  # (2, cuts, C)
    flat = accuracies.reshape(-1, member.shape[1])
    best = flat.argmax(0)
    where = places[best % len(places)]
    ends = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    return ends[where], np.where(best < len(places), 1, -1), flat.max(0)


def detected(responses: Array, detectors: Detectors, direction: Array, kind: Array) -> Array:
    """What chosen detectors say: (n, c) bool.

    Args:
        responses: (n, D).
        detectors: of all directions and classes.
        direction: (c,) numbers of directions.
        kind: (c,) numbers of classes.
    """
    threshold, side = detectors.threshold[direction, kind], detectors.side[direction, kind]
    said: Array = np.where(side > 0, responses[:, direction] > threshold, responses[:, direction] < threshold)
    return said


def accuracy(responses: Array, member: Array, detectors: Detectors) -> Array:
    """The accuracy (D, C) of all detectors on images with responses (n, D)."""
    found = np.empty(detectors.threshold.shape)
    for d in range(responses.shape[1]):
        r = responses[:, d, None]
        said = np.where(detectors.side[d] > 0, r > detectors.threshold[d], r < detectors.threshold[d])
        found[d] = (said == member).mean(0)
    return found


def areas(responses: Array, member: Array) -> Array:
    """The area (D, C) under the ROC curve of each direction for each class; NaN for a class without images."""
    from scipy.stats import rankdata

    ranks = rankdata(responses, axis=0)  # (n, D)
    inside = member.sum(0).astype(np.float64)  # (C,)
    outside = len(member) - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = (ranks.T @ member - inside * (inside + 1) / 2) / (inside * outside)
    return found


def majority(member: Array) -> Array:
    """The accuracy (C,) of who always says the same, on images (n, C)."""
    share = member.mean(0)
    greater: Array = np.maximum(share, 1 - share)
    return greater
