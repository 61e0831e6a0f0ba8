"""The probe of optimal stimuli: what directions of a layer respond to most of all, and what other networks say to it.

For the first units and the first random directions of `eval.units.bases` images are searched for (`models.stimulus`)
within the mean distance of the samples from their mean image. They are shown to every network of the trial.

Source: Q. V. Le et al., "Building high-level features using large scale unsupervised learning", ICML 2012
(arXiv 1112.6209), section 4, on visualization; that another network should respond to them as well is the question of
Szegedy et al. (arXiv 1312.6199v4), section 4, put to units.
Cost: `steps` forwards and backwards of `2 * count` images, a forward of all samples, and a few more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.rng import Rng
from eval.data import Samples
from eval.errors import InputError
from eval.trial import Arrays
from eval.units.observe import batched, chosen_layer, halves, respond
from eval.units.probe import Units
from models.classifier import Classifier
from models.features import responses
from models.stimulus import stimulus

STIMULI = "stimuli"
"""Name of the probe in a run's folder."""
KINDS = ("natural", "random")
_NOISE = 0.01  # deviation of that which the ascent begins with, so that it is not stuck where a unit is silent


@dataclass(frozen=True)
class Stimuli:
    """Searches for optimal stimuli.

    Attributes:
        units: whose directions they are.
        count: units and random directions, so many each.
        steps: of the ascent.
    """

    units: Units
    count: int = 8
    steps: int = 100

    def __post_init__(self) -> None:
        if self.count < 1 or self.steps < 1:
            raise InputError(f"stimuli: count and steps must be at least 1, got {self.count} and {self.steps}")

    def beside(self, others: Mapping[str, Classifier]) -> _Shown:
        """The probe that shows its stimuli to these networks as well."""
        return _Shown(self, others)


@dataclass(frozen=True)
class _Shown:
    """The probe of one network, whose stimuli others are shown."""

    asked: Stimuli
    others: Mapping[str, Classifier]

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was found.

        Returns:
            `count` of units, the first images; `stimulus` (s, C, H, W), `centre` (C, H, W), `radius`; `on:NAME`
            (s, U), the responses of the layer of each network to the stimuli.
        """
        units, asked = self.asked.units, self.asked
        x = samples.batch(np.arange(2)).to(device)
        layer = chosen_layer(classifier, x, units.layer).name
        fitted = halves(samples, seed)
        seen = respond(classifier, layer, units.at, samples, batch_size, device)
        _, found = units.bases(seen, fitted, seed)
        v = np.concatenate([found[kind][: asked.count] for kind in KINDS])
        directions = torch.as_tensor(v, dtype=torch.float32, device=device)
        strongest = np.flatnonzero(fitted)[(seen[fitted] @ v.T).argmax(0)]  # a silent unit's ascent begins there
        centre, radius = _ball(samples, batch_size, device)
        ids = [f"{kind}{i}" for kind in KINDS for i in range(len(found[kind][: asked.count]))]
        noise = Rng.of(seed, ["stimulus"], ids, device).normal(*centre.shape)
        images = []
        for start in range(0, len(v), batch_size):
            some = slice(start, start + batch_size)

            def response(image: Tensor, some: slice = some) -> Tensor:
                return (responses(classifier, layer, image, at=units.at).float() * directions[some]).sum(1)

            begin, real = centre + _NOISE * noise[some], samples.batch(strongest[some]).to(device)
            images.append(stimulus(response, begin, centre, radius, classifier.bounds, asked.steps, real))
        best = torch.cat(images) if images else centre[None][:0]
        arrays: Arrays = {
            "count": np.array(len(found["natural"][: asked.count])),
            "stimulus": best.cpu().numpy(),
            "centre": centre.cpu().numpy(),
            "radius": np.array(radius),
        }
        for name, other in {classifier.name: classifier, **self.others}.items():
            theirs = chosen_layer(other, x, units.layer).name
            with torch.no_grad():
                said = [responses(other, theirs, part, at=units.at).float() for part in torch.split(best, batch_size)]
            arrays[f"on:{name}"] = torch.cat(said).cpu().numpy()
        return arrays


def _ball(samples: Samples, batch_size: int, device: torch.device) -> tuple[Tensor, float]:
    """The mean image (C, H, W) and the mean L2 distance of the samples from it, in box units."""
    total = torch.zeros(samples.shape, dtype=torch.float64, device=device)
    for x in batched(samples, batch_size, device):
        total += x.double().sum(0)
    centre = (total / len(samples)).float()
    distances = [(x - centre).flatten(1).norm(dim=1).double().sum() for x in batched(samples, batch_size, device)]
    return centre, float(torch.stack(distances).sum() / len(samples))
