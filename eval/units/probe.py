"""The probe of single units: what directions of five bases respond to, detect, and are needed for.

All that is told of a direction is measured on one half of the samples, balanced by class; the other half, and no
label that is told, decides what components, rotations and thresholds are. For what each measure is see `tops`,
`detectors` and, of the ablation, `observe.without`: a direction is taken out beside a random one along which the
activations vary as much.

Source: the questions are those of Szegedy et al., "Intriguing properties of neural networks", ICLR 2014
(arXiv 1312.6199v4), section 3.
Cost: `5 * 2 * ablated` forwards of `ablated_images` samples from the layer on; the rest is a few forwards of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eval.data import Samples, in_turn
from eval.errors import InputError
from eval.trial import Arrays
from eval.units import detectors, tops
from eval.units.bases import BASES, Array, bases, live, tilted
from eval.units.observe import AT, batched, chosen_layer, halves, respond, spread, without
from eval.units.remembered import remembered
from models.classifier import Classifier

UNITS = "units"
"""Name of the probe in a run's folder."""
_SIDE = 64  # pixels of a picture that is kept, at most
_REMEMBERED = 1_200_000  # values of the images whose forward pass is remembered at a time
_FEWEST = 4  # images of a class in each half, of which detectors and purities are told


def told_classes(labels: Array, fitted: Array) -> Array:
    """The classes (c,) with images enough in both halves."""
    count = int(labels.max()) + 1
    fewest = np.minimum(np.bincount(labels[fitted], minlength=count), np.bincount(labels[~fitted], minlength=count))
    return np.flatnonzero(fewest >= _FEWEST)


@dataclass(frozen=True)
class Units:
    """Measures the directions of a layer.

    Attributes:
        layer: name or alias; None for the last hidden layer.
        at: `mean` or `max` over the places of a feature map: the response of a unit.
        directions: of each basis that has as many; as many as there are units, if more.
        most: directions of each basis at most.
        best: images that a direction is judged by.
        ablated: directions of each basis that are taken out, 0 for none.
        ablated_images: on which, balanced by class.
        redraws: sets of random directions, as many in each as there are units, that the best detectors are taken of.
        shown: directions of each basis whose images are kept.
        lead: the unit that comes first; None for any.
    """

    layer: str | None = None
    at: str = "mean"
    directions: int = 100
    most: int = 512
    best: int = 9
    ablated: int = 32
    ablated_images: int = 500
    redraws: int = 20
    shown: int = 8
    lead: int | None = None

    def __post_init__(self) -> None:
        if self.at not in AT:
            raise InputError(f"at: must be one of {', '.join(AT)}, got {self.at!r}")
        for key, least in (("directions", 2), ("most", 2), ("best", 2), ("ablated", 0), ("shown", 0), ("redraws", 2)):
            if getattr(self, key) < least:
                raise InputError(f"{key}: must be at least {least}, got {getattr(self, key)}")

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What the directions say.

        Returns:
            `layer` and `alias`, its names; `shape` of its activations; `responses` (n, U); `live` (k,) units;
            `label` and `fitted` (n,); `classes` (c,) of which detectors are told; for each basis b `v_b` (D, U),
            `top_b` (D, k), numbers of samples, `purity_b`, `entropy_b`, `likeness_b` (D,), which `chance`
            in place of b has of images at random, `fitted_b` and
            `accuracy_b` (D, c) of detectors on the first and on the other half, `area_b` (D, c), `threshold_b` and
            `side_b` (D, c), `picture_b` (s, k, C, H, W); what `_ablate` and `_again` give.

        Raises:
            InputError: there are too few samples.
        """
        fitted = halves(samples, seed)
        told = np.flatnonzero(~fitted)
        if len(told) < 2 * self.best:
            raise InputError(
                f"data: must have at least {4 * self.best} test samples for the {self.best} strongest of a half, got "
                f"{len(samples)}"
            )
        layer = chosen_layer(classifier, samples.batch(np.arange(2)).to(device), self.layer)
        seen = respond(classifier, layer.name, self.at, samples, batch_size, device)
        lively, found = self.bases(seen, fitted, seed)
        classes = told_classes(samples.labels, fitted)
        member = samples.labels[:, None] == classes
        pixels = np.concatenate([x.cpu().numpy() for x in batched(samples.select(told), batch_size, device)])
        arrays: Arrays = {
            "layer": np.array(layer.name),
            "alias": np.array(layer.alias or layer.name),
            "shape": np.array(layer.shape),
            "responses": seen,
            "live": lively,
            "label": samples.labels,
            "fitted": fitted,
            "classes": classes,
        }
        for name in BASES:
            v = found[name].astype(np.float32)
            arrays |= {f"{key}_{name}": value for key, value in self._of(v, seen, arrays, member, pixels, seed).items()}
        arrays |= {
            f"{key}_{tops.CHANCE}": value for key, value in self._by_chance(samples.labels[told], pixels, seed).items()
        }
        arrays |= self._again(seen, fitted, member, len(found["natural"]), seed)
        if self.ablated and len(arrays["live"]):
            where = np.sort(in_turn(samples.labels, seed, ~fitted)[: self.ablated_images])
            arrays |= self._ablate(
                classifier, layer.name, found, samples, fitted, where, batch_size, device, seed
            )  # fmt: skip
        return arrays

    def bases(self, seen: Array, fitted: Array, seed: int) -> tuple[Array, dict[str, Array]]:
        """The units (k,) that are live on both halves, and the directions, as `eval.units.bases` draws them.

        Args:
            seen: responses (n, U).
            fitted: (n,) which samples the features are known by.
            seed: of what is drawn.

        Raises:
            InputError: there is no unit of the number that is to lead.
        """
        if self.lead is not None and self.lead >= seen.shape[1]:
            raise InputError(f"unit: must be below the {seen.shape[1]} of its layer, got {self.lead}")
        lively = np.intersect1d(live(seen[fitted]), live(seen[~fitted]))
        return lively, bases(seen[fitted], self.directions, self.most, seed, self.lead, lively)

    def _of(self, v: Array, seen: Array, arrays: Arrays, member: Array, pixels: Array, seed: int) -> Arrays:
        """The measures of the directions v (D, U) of one basis."""
        r = seen @ v.T  # (n, D)
        fitted = arrays["fitted"]
        told = np.flatnonzero(~fitted)
        chosen = tops.top(r[told], self.best, seed)  # among those told
        labels = arrays["label"][told][chosen]
        detector = detectors.fit(r[fitted], member[fitted])
        return {
            "v": v,
            "top": told[chosen],
            "purity": tops.purity(labels),
            "entropy": tops.entropy(labels),
            "likeness": tops.likeness(pixels, chosen),
            "fitted": detector.fitted.astype(np.float32),
            "threshold": detector.threshold,
            "side": detector.side.astype(np.int8),
            "accuracy": detectors.accuracy(r[told], member[told], detector).astype(np.float32),
            "area": detectors.areas(r[told], member[told]).astype(np.float32),
            "picture": _small(pixels[chosen[: self.shown]]),
        }

    def _again(self, seen: Array, fitted: Array, member: Array, count: int, seed: int) -> Arrays:
        """The best detectors among random directions that are drawn over and over.

        Returns:
            Of each draw `again_right` (r, n, c), whether the best one of `count` directions is right about an image
            that is told, and `again_area` (r, c), of its side.
        """
        rng = np.random.default_rng([seed, 0x616761696E])
        kinds, right, area = np.arange(member.shape[1]), [], []
        for _ in range(self.redraws if count else 0):
            v = rng.standard_normal((count, seen.shape[1]))
            r = seen @ (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32).T
            found = detectors.fit(r[fitted], member[fitted])
            chosen = found.fitted.argmax(0)
            right.append(detectors.detected(r[~fitted], found, chosen, kinds) == member[~fitted])
            over = np.diagonal(detectors.areas(r[~fitted][:, chosen], member[~fitted]))
            area.append(np.where(found.side[chosen, kinds] > 0, over, 1 - over))
        nothing = (0, int((~fitted).sum()), len(kinds))
        return {
            "again_right": np.stack(right) if right else np.zeros(nothing, bool),
            "again_area": np.stack(area) if area else np.zeros((0, len(kinds))),
        }

    def _by_chance(self, labels: Array, pixels: Array, seed: int) -> Arrays:
        """What images at random have in common."""
        drawn = tops.at_random(len(labels), self.best, seed)
        return {
            "purity": tops.purity(labels[drawn]),
            "entropy": tops.entropy(labels[drawn]),
            "likeness": tops.likeness(pixels, drawn),
        }

    def _ablate(
        self,
        classifier: Classifier,
        layer: str,
        found: dict[str, Array],
        samples: Samples,
        fitted: Array,
        where: Array,
        batch_size: int,
        device: torch.device,
        seed: int,
    ) -> Arrays:
        """What becomes of the samples `where` without a direction.

        Returns:
            `intact_right` and `intact_loss` (n,) with all of them; for each basis b `gone_right_b` and
            `gone_loss_b` (d, n) without one, `equal_right_b` and `equal_loss_b` (d, n) without the random one along
            which activations vary as much, `variance_b` (d, 2), the variances along both.
        """
        mean, covariance = spread(classifier, layer, samples.select(np.flatnonzero(fitted)), batch_size, device)
        components = np.linalg.eigh(covariance)
        rng = np.random.default_rng([seed, 0x61626C])
        arrays: Arrays = {}
        out: dict[str, Array] = {}
        for name in BASES:
            ours = found[name][: self.ablated]
            theirs = np.stack([tilted(components, float(v @ covariance @ v), rng) for v in ours])
            both = [np.einsum("du,uw,dw->d", some, covariance, some) for some in (ours, theirs)]
            arrays[f"variance_{name}"] = np.stack(both, axis=1)
            out |= {f"gone:{name}": ours, f"equal:{name}": theirs}
        directions = torch.as_tensor(np.concatenate(list(out.values())))
        few = max(1, min(batch_size, _REMEMBERED // int(np.prod(samples.shape))))
        parts = [
            _judge(classifier, layer, x, torch.as_tensor(samples.labels[index]), directions, torch.as_tensor(mean))
            for index, x in zip(
                np.split(where, range(few, len(where), few)), batched(samples.select(where), few, device), strict=True
            )
        ]
        right, loss = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))  # (1 + all, n)
        arrays |= {"intact_right": right[0], "intact_loss": loss[0]}
        first = 1
        for name, some in out.items():
            kind, _, basis = name.partition(":")
            arrays[f"{kind}_right_{basis}"] = right[first : first + len(some)]
            arrays[f"{kind}_loss_{basis}"] = loss[first : first + len(some)]
            first += len(some)
        return arrays


@torch.no_grad()
def _judge(
    classifier: Classifier, layer: str, x: Tensor, labels: Tensor, directions: Tensor, mean: Tensor
) -> tuple[Array, Array]:
    """Whether images (n, C, H, W) are recognised, and their cross-entropy, (1 + D, n) each: with all, and without each.

    Args:
        classifier: the network.
        layer: its name by `named_modules`.
        x: the images.
        labels: (n,) on the CPU.
        directions: (D, U) of length 1.
        mean: (U,) activations.
    """
    logits = [classifier.bare(x).float().cpu()]
    with remembered(classifier, layer, x):
        for v in directions:
            with without(classifier, layer, v, mean):
                logits.append(classifier.bare(x).float().cpu())
    loss = [F.cross_entropy(z, labels, reduction="none") for z in logits]
    return torch.stack([z.argmax(1) == labels for z in logits]).numpy(), torch.stack(loss).numpy()


def _small(pictures: Array) -> Array:
    """Images (..., C, H, W) of 8 bits, of at most so many pixels a side: every so-many-th of larger ones' means."""
    side = max(pictures.shape[-2:])
    factor = -(-side // _SIDE)
    if factor > 1:
        flat = torch.as_tensor(pictures).flatten(0, -4)
        small = F.avg_pool2d(flat, factor).numpy()
        pictures = small.reshape(*pictures.shape[:-3], *small.shape[1:])
    found: Array = np.rint(pictures.clip(0, 1) * 255).astype(np.uint8)
    return found
