"""What a network looks at: occlusion maps, whether they know which pixels matter, and whether an attack moves them.

Of images that a network classifies correctly, as they are, attacked, and under noise as large as the perturbation:
the occlusion map of the class that is predicted, deletion and insertion in its order, in that of the gradient, and in
that of random maps, both pixel by pixel and of the occlusion map's own grain.

Source: `models.occlusion` and `models.deletion`; A. Ghorbani, A. Abid and J. Zou, "Interpretation of neural networks is
fragile", AAAI 2019 (arXiv 1710.10547), for maps under perturbations, and for rank correlation as the measure.
Cost: per image and state (1 + 2 per attack of them) a forward for each place of the square, and 8 curves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.base import Attack
from attacks.goal import Goal
from attacks.noise import gaussian_of_rms
from attacks.norms import rms
from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps
from eval.data import Samples
from eval.diagnosis.batches import batches
from eval.inside.another import another, in_common
from eval.inside.layer import at_once, chosen
from eval.inside.maximised import eight_bits
from eval.inside.ranks import rank_correlation
from eval.nodes import settled, unbounded
from eval.studies.inside_names import MAPS
from eval.trial import Arrays
from models.classifier import Classifier
from models.deletion import area, deletion, gradient_map, insertion, order
from models.occlusion import Occluded, Squares, occlusion
from models.spec import derive

MAPPED = "mapped"
"""Name of the probe in a run's folder."""
SHOWN = 6
"""Images whose maps are kept."""
_MOVED = ("size", "label_attacked", "label_noise", "said_attacked", "said_clean", "gradient_attacked", "gradient_noise")


@dataclass(frozen=True)
class Square:
    """The grey square.

    Attributes:
        side: as a part of the image's shorter side.
        stride: the same; at least a pixel.
        fill: its value, as a part of the box; one half is grey.
    """

    side: float = 0.25
    stride: float = 0.0625
    fill: float = 0.5

    def over(self, height: int, width: int) -> Squares:
        """Its places on an image."""
        short = min(height, width)
        side = max(1, round(self.side * short))
        return Squares.over(height, width, side, min(side, max(1, round(self.stride * short))))

    def value(self, bounds: tuple[float, float]) -> float:
        """Of its pixels in box units."""
        return bounds[0] + self.fill * (bounds[1] - bounds[0])


@dataclass(frozen=True)
class Mapped:
    """Maps images.

    Attributes:
        layer: whose strongest feature map is watched; None for the last convolution.
        images: that the network classifies correctly, at most.
        square: what occludes.
        steps: of the deletion and insertion curves.
        attacks: searches that try to move the maps, by name.
        norm: of their budget.
        eps: text of their budget, in box units.
    """

    layer: str | None = None
    images: int = 60
    square: Square = field(default_factory=Square)
    steps: int = 16
    attacks: Mapping[str, Attack] = field(default_factory=dict)
    norm: str = "linf"
    eps: str = "0.1"

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """The maps and what they are worth.

        Returns:
            `attack` (a,) and `state` (1 + 2 a,) names: the images as they are, then of each attack they attacked and
            under noise. Of n images: `sample` (n,) ids, `label` (n,); `drop` (n, R, S), what the square takes from the
            log-probability of the label; `likeliest` (n, R, S); `strongest` (n, R, S), activation of the layer's
            strongest map; of the states and of `MAPS` the areas `deletion` and `insertion` (n, 1 + 2 a, 4), NaN where
            the attack failed; `size` (n, a) RMS of the perturbation; rank correlations (n, a) with the maps of the
            image as it is: of the label's map `label_attacked` and `label_noise`, of the predicted class's
            `said_attacked` and, before the attack, `said_clean`, of gradients `gradient_attacked` and
            `gradient_noise`; and `another` (n,), with the map of the `partner` (n,), the number of an image of another
            class where there is one, NaN where there is no other. Of the first images `x` (m, C, H, W) uint8
            and `map` (m, H, W), and of the first attack that succeeded `x_attacked` and `map_attacked`, else of zeros.
            Means over all images as they are: `deletion_curve` and `insertion_curve` (4, steps + 1). Names and states
            alone where no image is classified correctly.
        """
        rows: dict[str, list[Any]] = {}
        layer, count = None, 0
        for batch in batches(classifier, samples, self.images, batch_size, device, seed, MAPPED):
            layer = layer or chosen(classifier, batch.x, self.layer).name
            moved = [
                self._perturbed(classifier, name, attack, batch.x, batch.goal, batch.rng)
                for name, attack in self.attacks.items()
            ]
            for i, sample in enumerate(batch.ids):
                looker = _Looker(self, classifier, layer, at_once(classifier, batch_size), derive(seed, "maps", sample))
                states = [(x_adv[i], x_noise[i]) for x_adv, x_noise in moved]
                row = looker.row(batch.x[i], int(batch.goal.labels[i]), states, shown=count < SHOWN)
                for name, value in {"sample": sample, **row}.items():
                    rows.setdefault(name, []).append(np.asarray(value))
                count += 1
        found = {name: np.stack(values) for name, values in rows.items()}
        for name in ("deletion_curve", "insertion_curve"):
            if name in found:
                found[name] = found[name].mean(0)
        if count:
            found["partner"] = another(found["label"])
            found["another"] = in_common(torch.from_numpy(found["drop"]), found["partner"])
        states_of = [f"{name}:{what}" for name in self.attacks for what in ("attacked", "noise")]
        return found | {"attack": np.array(list(self.attacks), np.str_), "state": np.array(["clean", *states_of])}

    def _perturbed(
        self, classifier: Classifier, name: str, attack: Attack, x: Tensor, goal: Goal, rng: Rng
    ) -> tuple[Tensor, Tensor]:
        """Attacked images, NaN where the goal is not reached, and noise as large as the perturbation of each."""
        box, own = classifier.bounds, rng.fold(*name.encode())
        budget = ThreatModel(self.norm, parse_eps(self.eps), box)
        threat = unbounded(attack, self.norm, box) if attack.minimal else budget
        x_adv = settled(attack, False)(classifier, x, goal, threat, rng=own)
        with torch.no_grad():
            reached = goal.reached(classifier(x_adv)) & threat.inside_box(x_adv) & threat.within(x_adv, x)
        noisy = gaussian_of_rms(x, rms((x_adv - x).flatten(1)).nan_to_num(0.0), own.fold(1), box)
        return torch.where(reached.view(-1, 1, 1, 1), x_adv, torch.nan), noisy


@dataclass(frozen=True)
class _Look:
    """What is to be seen of an image and a class: its maps, and areas and curves (4, 2) of deletion and insertion."""

    occluded: Occluded
    gradient: Tensor
    curves: Tensor

    @property
    def areas(self) -> Tensor:
        """(4, 2)."""
        return area(self.curves)


@dataclass(frozen=True)
class _Looker:
    """Looks at one image."""

    probe: Mapped
    classifier: Classifier
    layer: str
    batch_size: int
    seed: int

    def row(self, x: Tensor, label: int, states: Sequence[tuple[Tensor, Tensor]], *, shown: bool) -> dict[str, Any]:
        """What is measured of an image, as it is and perturbed."""
        bounds = self.classifier.bounds
        clean = self.look(x, label)
        drop, areas = clean.occluded.drop(label), [clean.areas]
        pairs: dict[str, list[float]] = {name: [] for name in _MOVED}
        seen = {"x_attacked": torch.zeros_like(x), "map_attacked": torch.zeros_like(x[0])}
        for x_adv, x_noise in states:
            if bool(x_adv.isnan().any()):
                areas += [torch.full_like(areas[0], math.nan)] * 2
                for name in _MOVED:
                    pairs[name].append(math.nan)
                continue
            with torch.no_grad():
                said = int(self.classifier(x_adv[None]).argmax())
            attacked, noisy = self.look(x_adv, said), self.look(x_noise, label)
            areas += [attacked.areas, noisy.areas]
            values = (
                float(rms((x_adv - x).flatten()[None])[0]),
                rank_correlation(drop, attacked.occluded.drop(label)),
                rank_correlation(drop, noisy.occluded.drop(label)),
                rank_correlation(drop, attacked.occluded.drop(said)),
                rank_correlation(drop, clean.occluded.drop(said)),
                rank_correlation(clean.gradient, self.gradient(x_adv, label)),
                rank_correlation(clean.gradient, noisy.gradient),
            )
            for name, value in zip(_MOVED, values, strict=True):
                pairs[name].append(value)
            if not bool(seen["x_attacked"].any()):
                seen = {"x_attacked": x_adv, "map_attacked": attacked.occluded.importance(said)}
        row = {
            "label": label,
            "drop": drop.float().cpu(),
            "likeliest": clean.occluded.likeliest.to(torch.int16).cpu(),
            "strongest": clean.occluded.strongest.float().cpu(),
            "deletion": torch.stack(areas)[..., 0].cpu(),
            "insertion": torch.stack(areas)[..., 1].cpu(),
            "deletion_curve": clean.curves[:, 0].cpu(),
            "insertion_curve": clean.curves[:, 1].cpu(),
            **pairs,
        }
        if shown:
            maps = {"map": clean.occluded.importance(label), "map_attacked": seen["map_attacked"]}
            row |= {name: values.float().cpu() for name, values in maps.items()}
            row |= {"x": eight_bits(x, bounds), "x_attacked": eight_bits(seen["x_attacked"], bounds)}
        return row

    def look(self, x: Tensor, label: int) -> _Look:
        """The maps of a class, and the curves in their order."""
        square, bounds = self.probe.square, self.classifier.bounds
        places, fill = square.over(*x.shape[1:]), square.value(bounds)
        seen = occlusion(self.classifier, x, places, fill, self.batch_size, self.layer)
        gradient = self.gradient(x, label)
        draw = torch.Generator().manual_seed(self.seed)
        grains, pixels = torch.rand(places.shape, generator=draw), torch.rand(x.shape[1:], generator=draw)
        curves = []
        maps = (seen.importance(label), gradient, places.spread(grains), pixels)
        for _, values in zip(MAPS, maps, strict=True):
            ranked = order(values, self.seed).to(x.device)
            down = deletion(self.classifier, x, label, ranked, fill, self.probe.steps, self.batch_size)
            up = insertion(self.classifier, x, label, ranked, self.probe.steps, self.batch_size)
            curves.append(torch.stack([down, up]))
        return _Look(seen, gradient, torch.stack(curves))

    def gradient(self, x: Tensor, label: int) -> Tensor:
        """Of the logit of a class, (H, W)."""
        return gradient_map(self.classifier, x[None], torch.tensor([label], device=x.device))[0]
