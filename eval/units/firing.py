"""What a layer's units say of perturbed images: somebody who watches a search and looks at its results.

Beside each perturbed image stands the image itself and Gaussian noise of the perturbation's RMS on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.rng import Rng
from eval.album import Album
from eval.data import Samples
from eval.derived import SameSizeNoise
from eval.meter import Meter
from eval.units.bases import Array
from eval.units.observe import chosen_layer
from models.classifier import Classifier
from models.features import responses

STAGES = ("before", "after", "noise")


@dataclass(frozen=True)
class Watch:
    """Who watches each search.

    Attributes:
        layer: name or alias; None for the last hidden layer.
        at: `mean` or `max` over places.
        seed: of the noise.
    """

    layer: str | None
    at: str
    seed: int

    def __call__(self, album: Album, network: str, search: str) -> Firing:
        """A watcher of the search of that name on that network."""
        return Firing(self, network, search)


@dataclass
class Firing:
    """Watches one search.

    Attributes:
        watch: what it looks at.
        network: name of the one that is searched.
        search: name of the attack.
    """

    watch: Watch
    network: str
    search: str
    _found: dict[str, list[Array]] = field(default_factory=dict)

    def begin(self, meter: Meter, x: Tensor, goal: Goal) -> Logits:
        """The network as it is."""
        return meter

    @torch.no_grad()
    def end(self, classifier: Classifier, x_adv: Tensor, samples: Samples) -> None:
        """Look at the layer's responses to the samples, to the candidates (B, C, H, W), and to noise."""
        x = samples.batch(np.arange(len(samples))).to(x_adv.device)
        streams = Rng.of(self.watch.seed, ["units", self.network, self.search], samples.ids.tolist(), x.device)
        noise = SameSizeNoise()(x, x_adv, streams, classifier.bounds)
        layer = chosen_layer(classifier, x[:1], self.watch.layer).name
        for stage, images in zip(STAGES, (x, x_adv, noise), strict=True):
            self._keep(stage, responses(classifier, layer, images, at=self.watch.at).float().cpu().numpy())
            self._keep(f"said_{stage}", classifier(images).argmax(1).cpu().numpy())
        self._keep("label", samples.labels)
        self._keep("sample", samples.ids)
        self._keep("moved", (x_adv != x).flatten(1).any(1).cpu().numpy())

    def _keep(self, name: str, values: Any) -> None:
        self._found.setdefault(name, []).append(np.asarray(values))

    def arrays(self) -> dict[str, Array]:
        """What was seen of n images.

        Returns:
            `sample` (n,) ids, `label` (n,), `moved` (n,) bool; `before`, `after` and `noise` (n, U), and `said_` with
            each of these (n,), what the network takes it for. Nothing if no image was searched for.
        """
        return {name: np.concatenate(parts) for name, parts in self._found.items()}
