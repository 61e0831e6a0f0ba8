"""Substitutes: networks that learn from another one's labels, which is all that they are told of it.

The oracle is asked for the labels of some samples, through `eval.blackbox`; a substitute learns them; at the points of
`attacks.substitute` the oracle is asked again; and so on. After each round the substitute takes part in the run: what
fools it may fool the oracle.

Source: Papernot et al., "Practical black-box attacks against machine learning", Asia CCS 2017 (arXiv 1602.02697).
Departures: the optimiser is Adam. Where fewer queries are left than a round would take, the points to go on from are
drawn at random, as by the paper's reservoir sampling.
Cost: seeds * 2^rounds queries in all, or the limit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.rng import Rng
from attacks.substitute import augmented
from eval.blackbox import Access, BlackBox
from eval.data import Samples
from eval.meter import Meter
from models.classifier import Classifier
from models.recipe import TrainConfig
from models.spec import Network, derive
from models.train import fit

_BATCH = 256  # points a forward
NAME = "{oracle}_substitute_{queries}"


@dataclass(frozen=True)
class Imitation:
    """How substitutes learn.

    Attributes:
        seeds: samples to begin with; their labels are not used.
        rounds: how often the points are doubled.
        step: length of the step to new points, in box units.
        recipe: of each training, which goes on from the weights of the one before.
        queries: of the oracle, at most; None for any number.
        period: rounds after which the step turns round, and again; None: never, as in the paper's algorithm 1.
    """

    seeds: Samples
    rounds: int
    step: float
    recipe: TrainConfig
    queries: int | None = None
    period: int | None = None

    def networks(
        self, oracle: Classifier, network: Network, seed: int, device: torch.device
    ) -> Iterator[tuple[str, Network, dict[str, Any]]]:
        """The substitute after each round: its name, the network, and what the header of a run says of its training.

        Args:
            oracle: asked for labels alone.
            network: the substitute, untrained.
            seed: of training, and of what is drawn where the queries run out.
            device: to train on.
        """
        network = replace(network, bounds=oracle.bounds)
        meter = Meter(oracle, 1, device)
        ask = BlackBox(meter, Access("labels", self.queries), 1, device)
        points, labels = _told(ask, self.seeds.batch(np.arange(len(self.seeds))).to(device))
        seconds = 0.0
        for step in range(self.rounds + 1):
            source = Samples.of(points.cpu().numpy(), labels.cpu().numpy(), self.seeds.classes, "substitute")
            history = fit(
                network, self.recipe, source, seed=derive(seed, oracle.name, "substitute", step), device=device
            )
            seconds += history.seconds
            asked = int(meter.forwards[0])
            trained = {
                "oracle": oracle.name,
                "queries": asked,
                "round": step,
                "epochs": len(history.epochs),
                "train_accuracy": history.epochs[-1].accuracy,
                "seconds": seconds,
                "samples": len(points),
                "method": "substitute",
            }
            yield NAME.format(oracle=oracle.name, queries=asked), copy.deepcopy(network), trained
            left = len(points) if self.queries is None else self.queries - asked
            if step == self.rounds or left < 1:
                return
            chosen = _some(len(points), left, seed, device)
            view = network.classifier("substitute", self.seeds.shape).to(device)
            parts = zip(torch.split(points[chosen], _BATCH), torch.split(labels[chosen], _BATCH), strict=True)
            new = [augmented(view, x, told, self._step(step), network.bounds) for x, told in parts]
            found = _told(ask, torch.cat(new))
            points, labels = torch.cat([points, found[0]]), torch.cat([labels, found[1]])

    def _step(self, number: int) -> float:
        """The step of round `number`."""
        turned = self.period is not None and (number // self.period) % 2 == 1
        return -self.step if turned else self.step


def _some(count: int, most: int, seed: int, device: torch.device) -> Tensor:
    """All of `count` points, or as many as may be asked about, drawn at random."""
    order = Rng.of(seed, ["substitute"], map(str, range(count)), device).uniform(1)[:, 0].argsort()
    return order[:most].sort().values


def _told(ask: BlackBox, x: Tensor) -> tuple[Tensor, Tensor]:
    """The points that got an answer, and the classes told."""
    same = torch.zeros(len(x), dtype=torch.int64, device=x.device)  # one budget for all
    z = torch.cat([ask.rows(same[: len(part)])(part) for part in torch.split(x, _BATCH)])
    answered = ~z.isnan().any(1)
    return x[answered], z[answered].argmax(1)
