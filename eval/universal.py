"""Perturbations that are one for all images: made for a network on some images, judged on others and by all networks.

    fooling rate = share of images x with  argmax z(x + v) != argmax z(x),   x + v clipped to the box

It counts changes of the prediction, on images too that are misclassified unperturbed.

What a random v does stands beside: signs or a Gaussian direction of the same size, and many directions of the whole
space and of two small subspaces, that of the greatest right singular vectors of

    N = (n_1 ... n_m)',   n_i = r_i / |r_i|,   r_i DeepFool's perturbation of the i-th image,

in which the paper sees why universal perturbations exist, and that of as many principal components of the images.

Source: Moosavi-Dezfooli, Fawzi, Fawzi and Frossard, "Universal adversarial perturbations", CVPR 2017 (arXiv
1610.08401), for the rates, for the normals of the boundaries and for their subspace.
Departures: judged images are clipped to the box; the same without it stands beside, for the paper's numbers.
Cost: that of the makers, and of DeepFool on all images that perturbations are made on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from attacks.deepfool import deepfool
from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps, quantize
from attacks.universal import Shared, at_once, predictions, random_like, scaled, shifted
from eval.data import Samples, balanced
from eval.trial import Arrays, Probe
from models.classifier import Classifier

_CLASSES = 10  # that DeepFool looks at for the normals
_SHARE = 8  # the subspace has at most this part of the dimensions that there are
_MANY = 1000  # images, on no more of which directions of the subspaces are judged: it is they that are many


def _all(samples: Samples, device: torch.device) -> Tensor:
    return samples.batch(np.arange(len(samples))).to(device)


def _numbers(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return values.to(torch.int32).cpu().numpy()


def _judged(
    classifier: Classifier,
    samples: Samples,
    batch_size: int,
    device: torch.device,
    change: Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Predictions (n,) of the changed images."""
    found = []
    for start in range(0, len(samples), batch_size):
        x = samples.batch(np.arange(start, min(start + batch_size, len(samples)))).to(device)
        found.append(predictions(classifier, x if change is None else change(x), batch_size))
    return _numbers(torch.cat(found))


@dataclass(frozen=True)
class Making:
    """Makes a perturbation for a network, on more and fewer images, and shows it to all networks of the trial.

    Attributes:
        maker: what makes it.
        norm: of the budget.
        eps: its text, in box units.
        counts: numbers of images that it is made on; the first one is judged by the other networks too.
        images: what it is made on.
        others: the other networks, by name.
        data: fingerprint of the images.
    """

    maker: Shared
    norm: str
    eps: str
    counts: tuple[int, ...]
    images: Samples = field(repr=False)
    others: Mapping[str, Classifier] = field(default_factory=dict, repr=False)
    data: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", self.images.fingerprint)

    def beside(self, others: Mapping[str, Classifier]) -> Probe:
        """The probe of a network, given all others."""
        return replace(self, others=others)

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was made, and what it does.

        Returns:
            For each of the V counts `images` (V,), `v` (V, C, H, W), `seconds` (V,) and predictions `own` (V, n). Of
            the first one: `made` (N,), whether the images that it was made on are fooled; predictions `free` (n,)
            without the box, `rounded` (n,) to 8 bits, and `other` (M, n) of the `names` (M,) of other networks; and
            unperturbed `clean` (n,), `other_clean` (M, n); `label` (n,).
        """
        threat = ThreatModel(self.norm, parse_eps(self.eps), classifier.bounds)
        box, arrays = threat.box, dict[str, list[object]]()
        made: list[Tensor] = []
        for count in self.counts:
            some = self.images.select(balanced(self.images.labels, count, seed))
            rng = Rng.of(seed, ["universal", self.norm, str(count)], some.ids.tolist(), device)
            start = time.perf_counter()
            v = self.maker(classifier, _all(some, device), threat, rng=rng)
            arrays.setdefault("seconds", []).append(time.perf_counter() - start)
            arrays.setdefault("own", []).append(
                _judged(classifier, samples, batch_size, device, partial(shifted, v=v, box=box))
            )
            made.append(v)
        moved = partial(shifted, v=made[0], box=box)
        whole = self.images.select(balanced(self.images.labels, self.counts[0], seed))
        before = _judged(classifier, whole, batch_size, device)
        names = list(self.others)
        by = [self.others[name] for name in names]
        none = np.zeros((0, len(samples)), np.int32)
        return {
            "images": np.array(self.counts),
            "v": torch.stack(made).cpu().numpy(),
            "seconds": np.array(arrays["seconds"]),
            "own": np.array(arrays["own"]),
            "made": _judged(classifier, whole, batch_size, device, moved) != before,
            "free": _judged(classifier, samples, batch_size, device, partial(shifted, v=made[0], box=None)),
            "rounded": _judged(classifier, samples, batch_size, device, lambda x: quantize(moved(x), box)),
            "names": np.array(names, dtype=np.str_),
            "other": np.array([_judged(c, samples, batch_size, device, moved) for c in by] or none),
            "clean": _judged(classifier, samples, batch_size, device),
            "other_clean": np.array([_judged(c, samples, batch_size, device) for c in by] or none),
            "label": samples.labels,
        }


@dataclass(frozen=True)
class Directions:
    """Judges random perturbations, and measures how few directions the normals of the boundaries share.

    Attributes:
        linf: text of that budget.
        l2: text of that budget.
        draws: random perturbations of each norm.
        directions: of the whole space and of each subspace.
        span: dimensions of the subspaces, at most.
        images: whose normals these are.
        data: fingerprint of the images.
    """

    linf: str
    l2: str
    draws: int
    directions: int
    span: int
    images: Samples = field(repr=False)
    data: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", self.images.fingerprint)

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What random directions do, and which ones the normals have.

        Returns:
            `linf` and `l2` (draws, n): predictions under random perturbations; `clean` (n,); `whole`, `span` and
            `components` (directions, k) under ones of the L2 budget, in the whole space and in the subspaces, on the
            images of which `among` (k,) are the places; `singular` (m,) values of the normals' matrix, and `chance`
            (m,) of one of random directions; `dimensions` () of the subspaces; `pixels` () of an image; `budget` () in
            L2.
        """
        x = _all(self.images, device)
        names, many = ([str(draw) for draw in range(number)] for number in (self.draws, self.directions))
        unit = normals(classifier, x, max(1, min(batch_size, at_once(x)) // _CLASSES))
        dim = x[0].numel()
        chance = scaled(Rng.of(seed, ["normals"], map(str, range(len(unit))), device).normal(dim), 1.0)
        _, singular, right = torch.linalg.svd(unit, full_matrices=False)  # (m,), (m, D)
        flat = x.flatten(1)
        _, _, principal = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        dimensions = max(1, min(self.span, len(right) // _SHARE))
        l2 = ThreatModel("l2", parse_eps(self.l2), classifier.bounds)
        drawn = {
            "linf": random_like(
                x, ThreatModel("linf", parse_eps(self.linf), classifier.bounds), Rng.of(seed, ["linf"], names, device)
            ),
            "l2": random_like(x, l2, Rng.of(seed, ["l2"], names, device)),
        }
        inside = {
            "whole": random_like(x, l2, Rng.of(seed, ["whole"], many, device)),
            "span": _inside(right[:dimensions], l2.eps, Rng.of(seed, ["span"], many, device)),
            "components": _inside(principal[:dimensions], l2.eps, Rng.of(seed, ["components"], many, device)),
        }
        among = balanced(samples.labels, min(_MANY, len(samples)), seed)
        some = samples.select(among)

        def judged(of: Samples, vectors: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
            change = (partial(shifted, v=v.view(of.shape), box=classifier.bounds) for v in vectors)
            return np.stack([_judged(classifier, of, batch_size, device, one) for one in change])

        found: Arrays = {kind: judged(samples, vectors) for kind, vectors in drawn.items()}
        found |= {kind: judged(some, vectors) for kind, vectors in inside.items()}
        return found | {
            "clean": _judged(classifier, samples, batch_size, device),
            "among": among,
            "singular": singular.cpu().numpy(),
            "chance": torch.linalg.svdvals(chance).cpu().numpy(),
            "budget": np.array(l2.eps),
            "dimensions": np.array(dimensions),
            "pixels": np.array(dim),
        }


def normals(classifier: Classifier, x: Tensor, chunk: int) -> Tensor:
    """Unit vectors (m, D) towards the boundaries of the images (N, C, H, W), of those that DeepFool fools."""
    rows = []
    for part in torch.split(x, chunk):
        r, fooled = deepfool(classifier, part, classes=_CLASSES, iterations=50)
        rows.append(r[fooled].flatten(1))
    return scaled(torch.cat(rows), 1.0)


def _inside(basis: Tensor, length: float, rng: Rng) -> Tensor:
    """Random vectors (draws, D) of that length in the span of the rows of an orthonormal basis (d, D)."""
    return scaled(rng.normal(len(basis)) @ basis, length)
