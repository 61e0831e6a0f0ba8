"""Whether maps depend on what a network learnt: its layers are drawn again, and its maps compared with what they were.

Layers are drawn again one after the other from the top, those above staying so, and each alone. A map that does not
change tells nothing of the network; one that is of the image alone, such as its edges, never does.

Source: J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018 (arXiv 1810.03292), section 3, for both ways
and for rank correlations; edges as in its introduction and discussion.
Departures: of many layers some are looked at, the first and the last among them; in the cascade all above one are drawn
again. A part with parameters and without a `reset_parameters`, or one whose answer is no tensor, is left as it is, and
named.
Cost: per image, layer, way and draw a forward and a backward, and a forward for each place of the square.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from eval.data import Samples
from eval.diagnosis.batches import batches
from eval.errors import InputError
from eval.inside.another import another, in_common
from eval.inside.layer import at_once
from eval.inside.mapped import Square
from eval.inside.ranks import rank_correlation
from eval.trial import Arrays
from models.classifier import Classifier
from models.deletion import gradient_map
from models.features import layers
from models.occlusion import occlusion
from models.randomise import drawable, randomise
from models.spec import derive

RANDOMISED = "randomised"
"""Name of the probe in a run's folder."""


@dataclass(frozen=True)
class Randomised:
    """Compares maps before and after layers are drawn again.

    Attributes:
        images: that the network classifies correctly, at most.
        layers: that are looked at, at most; at least the first and the last.
        draws: of the weights; correlations are means over them.
        square: what occludes.
    """

    images: int = 24
    layers: int = 5
    draws: int = 3
    square: Square = field(default_factory=Square)

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """Rank correlations with the maps of the network as it is.

        Returns:
            `layer` (l,) names from the top; `left` (k,), parts with parameters that cannot be drawn again, and stay as
            they are; of n images `sample` (n,) ids, `occlusion_cascade` and `occlusion_alone` (n, l), and the same of
            `gradient`, the gradient's size; `occlusion_another` and `gradient_another` (n,), on the network as it is
            with the map of the `partner` (n,), the number of an image of another class where there is one, NaN where
            there is no other; `occlusion_edges` and `gradient_edges` (n,), of the map with the image's edges. `x`
            (C, H, W), the first image, with `first_gradient` (l + 1, H, W) in the cascade, as it is at first.
        """
        batch_size = at_once(classifier, batch_size)
        parts = list(batches(classifier, samples, self.images, batch_size, device, seed, RANDOMISED))
        if not parts:
            return {"layer": np.array([], np.str_)}
        x = torch.cat([part.x for part in parts])
        labels = torch.cat([part.goal.labels for part in parts])
        names, chosen, left = self._stages(classifier, x[:1])
        partner = another(labels.cpu().numpy())
        maps = self._maps(classifier, x, labels, batch_size)
        found: dict[str, list[Tensor]] = {f"{kind}_{way}": [] for kind in maps for way in ("cascade", "alone")}
        shown = [maps["gradient"][0]]
        for top in chosen:
            for way, drawn in (("cascade", names[: top + 1]), ("alone", names[top : top + 1])):
                after = []
                for draw in range(self.draws):
                    changed = copy.deepcopy(classifier)
                    for name in drawn:
                        randomise(changed.network, derive(seed, "randomised", draw, name), only=name)
                    after.append(self._maps(changed, x, labels, batch_size))
                for kind, values in maps.items():
                    each = torch.stack([_each(values, other[kind]) for other in after])  # (draws, n)
                    found[f"{kind}_{way}"].append(each.nanmean(0))
                if way == "cascade":
                    shown.append(after[0]["gradient"][0])
        spread = self.square.over(*x.shape[2:])
        edges = _edges(x)
        aliases = {layer.name: layer.alias or layer.name for layer in layers(classifier, x[:1], every=True)}
        return {
            "layer": np.array([aliases.get(names[top], names[top]) for top in chosen]),
            "left": np.array(left, np.str_),
            "sample": np.array([sample for part in parts for sample in part.ids]),
            "partner": partner,
            **{name: torch.stack(values, 1).numpy() for name, values in found.items()},
            **{f"{kind}_another": in_common(values, partner) for kind, values in maps.items()},
            "occlusion_edges": _each(torch.stack([spread.spread(m) for m in maps["occlusion"]]), edges).numpy(),
            "gradient_edges": _each(maps["gradient"], edges).numpy(),
            "x": x[0].cpu().numpy(),
            "first_gradient": torch.stack(shown).cpu().numpy().astype(np.float32),
        }

    def _stages(self, classifier: Classifier, x: Tensor) -> tuple[list[str], list[int], list[str]]:
        """The layers that can be drawn again, from the top, places of those that are looked at, and what is left."""
        known = [layer.name for layer in layers(classifier, x, every=True)]
        able = drawable(classifier.network)
        drawn = [name for name in reversed(known) if able.get(name)]
        if not drawn:
            raise InputError(f"model: {classifier.name} must have layers that can be drawn again, it has none")
        places = np.linspace(0, len(drawn) - 1, min(self.layers, len(drawn))).round().astype(int)
        return drawn, places.tolist(), [name or "the network itself" for name in able if name not in drawn]

    def _maps(self, classifier: Classifier, x: Tensor, labels: Tensor, batch_size: int) -> dict[str, Tensor]:
        """Of the labels: occlusion (n, R, S) and gradient (n, H, W)."""
        places, fill = self.square.over(*x.shape[2:]), self.square.value(classifier.bounds)
        pairs = zip(x, labels.tolist(), strict=True)
        drops = [occlusion(classifier, one, places, fill, batch_size).drop(label) for one, label in pairs]
        sizes = [
            gradient_map(classifier, some, own)
            for some, own in zip(torch.split(x, batch_size), torch.split(labels, batch_size), strict=True)
        ]
        return {"occlusion": torch.stack(drops), "gradient": torch.cat(sizes)}


def _each(one: Tensor, other: Tensor) -> Tensor:
    """Rank correlations (n,) of maps (n, ...), pair by pair."""
    return torch.tensor([rank_correlation(a, b) for a, b in zip(one, other, strict=True)], dtype=torch.float64)


def _edges(x: Tensor) -> Tensor:
    """The size (n, H, W) of the differences between neighbouring pixels of images, by Sobel's operator."""
    grey = x.mean(1, keepdim=True)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=x.device)
    kernels = torch.stack([across, across.T])[:, None]
    padded = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernels).square().sum(1).sqrt()
