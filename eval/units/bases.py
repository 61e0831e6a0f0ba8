"""Directions in the space of a layer's responses: five bases of it. Free of torch.

A direction v (U,) responds to an image by <phi(x), v>, where phi(x) (U,) has one response a unit.

    natural    e_i, the units themselves, those that are live: they do not respond alike to all images
    random     v ~ N(0, I), of length 1
    sparse     random and not negative, on a tenth of the live units: one-sided as the units of a ReLU layer are
    rotated    q W, q the rows of random rotations, W the whitening of the centred responses
    pca        principal components, of random sign

Source: C. Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 3, for the
first two; the others are theirs who ask whether a difference is one of scale, of correlation or of sign.
Departures: whitening and components are those that carry 99% of the variance: the rest of it is noise of the images
that they were taken from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BASES = ("natural", "random", "sparse", "rotated", "pca")
_KEPT = 0.99  # of the variance
_SPARSE = 0.1  # of the units
_STILL = 1e-6  # of the greatest deviation: a unit below it responds alike to all images


def live(responses: Array) -> Array:
    """Which units (k,) do not respond alike to all images.

    Args:
        responses: (n, U).
    """
    deviation = responses.astype(np.float64).std(0)
    return np.flatnonzero(deviation > _STILL * max(float(deviation.max(initial=0.0)), 1e-30))


def bases(
    responses: Array, count: int, most: int, seed: int, lead: int | None = None, among: Array | None = None
) -> dict[str, Array]:
    """Directions (D, U) of length 1 by basis.

    Args:
        responses: (n, U) to images that are used for nothing else but to know the features.
        count: directions of `random`, `sparse` and `rotated`, or as many as there are units, if more.
        most: directions of each basis, at most; a random choice of the units where there are more.
        seed: of what is drawn.
        lead: a unit that comes first, if it is live; the others follow in a random order.
        among: the units (k,) that are live; None: as these responses have it.

    Returns:
        By the names in `BASES`; without directions where no unit is live.
    """
    rng = np.random.default_rng([seed, 0x756E6974])
    units = responses.shape[1]
    lively = live(responses) if among is None else among
    if not len(lively):
        return {name: np.zeros((0, units)) for name in BASES}
    order = rng.permutation(lively)
    natural = np.concatenate([order[order == lead], order[order != lead]])[:most]
    number = min(max(count, len(lively)), most)
    found = {
        "natural": np.eye(units)[natural],
        "random": rng.standard_normal((number, units)),
        "sparse": _sparse(number, lively, units, rng),
    }
    centred = responses - responses.mean(0, dtype=np.float64)
    _, deviations, axes = np.linalg.svd(centred, full_matrices=False)
    power = np.cumsum(deviations**2) / max(float((deviations**2).sum()), 1e-300)
    rank = int(np.searchsorted(power, _KEPT)) + 1
    axes, deviations = axes[:rank], deviations[:rank]
    rotations = [_rotation(rank, rng) for _ in range(-(-number // rank))]
    found["rotated"] = (np.concatenate(rotations)[:number] / deviations) @ axes
    found["pca"] = axes[:most] * rng.choice([-1.0, 1.0], size=(min(rank, most), 1))
    return {name: found[name] / np.linalg.norm(found[name], axis=1, keepdims=True) for name in BASES}


def _sparse(number: int, lively: Array, units: int, rng: np.random.Generator) -> Array:
    """Directions (number, units) whose few values other than 0 are positive, on live units."""
    few = min(len(lively), max(2, round(_SPARSE * len(lively))))
    chosen = lively[np.argsort(rng.random((number, len(lively))), axis=1)[:, :few]]
    found = np.zeros((number, units))
    np.put_along_axis(found, chosen, np.abs(rng.standard_normal((number, few))), axis=1)
    return found


def _rotation(size: int, rng: np.random.Generator) -> Array:
    """A random orthogonal matrix, of Haar's distribution."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    turned: Array = q * np.sign(np.diag(r))
    return turned


def tilted(components: tuple[Array, Array], variance: float, rng: np.random.Generator) -> Array:
    """A random direction (U,) of length 1 along which responses vary by that much.

    In the basis of the components, v = lambda^t z with z ~ N(0, I): the variance along it grows with t, from that of
    the least component to that of the greatest, and t is bisected.

    Args:
        components: variances (U,) and axes (U, U) of the principal components, as `numpy.linalg.eigh` has them.
        variance: wanted; what cannot be had is replaced by the nearest that can.
        rng: drawn from.
    """
    values, vectors = components[0].clip(0.0), components[1]
    logs = np.log(np.maximum(values, 1e-9 * max(float(values.max()), 1e-30)))
    z = rng.standard_normal(len(values))
    low, high = -50.0, 50.0
    for _ in range(60):
        t = (low + high) / 2
        if float(values @ _weights(logs, z, t)) < variance:
            low = t
        else:
            high = t
    return np.asarray(vectors @ (np.sqrt(_weights(logs, z, (low + high) / 2)) * np.sign(z)))


def _weights(logs: Array, z: Array, t: float) -> Array:
    """The squared coordinates of the direction, which sum to 1."""
    exponents = 2 * t * logs + 2 * np.log(np.abs(z).clip(1e-30))
    powers = np.exp(exponents - exponents.max())
    weights: Array = powers / powers.sum()
    return weights
