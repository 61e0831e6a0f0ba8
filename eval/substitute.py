"""Substitutes: networks that learn from another one's labels, which is all that they are told of it.

The oracle is asked for the labels of some samples, through `eval.blackbox`; a substitute learns them; at the points of
`attacks.substitute` the oracle is asked again; and so on. After each round the substitute takes part in the run: what
fools it may fool the oracle.

Source: Papernot et al., "Practical black-box attacks against machine learning", Asia CCS 2017 (arXiv 1602.02697).
Departures: the optimiser is Adam. Where fewer queries are left than a round would take, the points to go on from are
drawn at random, as by the paper's reservoir sampling. Substitutes are kept with the other trained networks, under all
that they depend on, and are not trained again.
Cost: seeds * 2^rounds queries in all, or the limit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
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
from models.spec import Network, derive, plain
from models.store import SCHEMA, checkpoint, load_or_make, read_header
from models.train import fit
from models.weights import fingerprint, load_state, read_state

_BATCH = 256  # points a forward
_OWN = "stored substitute"
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
        self, oracle: Classifier, made_by: str, network: Network, seed: int, device: torch.device, root: Path
    ) -> Iterator[tuple[str, Network, dict[str, Any]]]:
        """The substitute after each round: its name, the network, and what the header of a run says of its training.

        Where all rounds are found, the oracle is not asked.

        Args:
            oracle: asked for labels alone.
            made_by: the oracle's fingerprint.
            network: the substitute, untrained.
            seed: of training, and of what is drawn where the queries run out.
            device: to train on.
            root: folder of the checkpoints.

        Raises:
            models.errors.ModelError: a stored substitute is damaged, or the folder cannot be written.
        """
        network = replace(network, bounds=oracle.bounds)
        content = self._produced_by(oracle.name, made_by, network, seed)
        found = self._found(content, root)
        if found:
            for path, header in found:
                learnt = copy.deepcopy(network)
                load_state(learnt.module, read_state(path, _OWN), _OWN)
                learnt.module.to(device).eval()
                yield _named(oracle.name, learnt, path, header)
            return
        meter = Meter(oracle, 1, device)
        ask = BlackBox(meter, Access("labels", self.queries), 1, device)
        points, labels = _told(ask, self.seeds.batch(np.arange(len(self.seeds))).to(device))
        seconds = 0.0
        for step in range(self.rounds + 1):
            source = Samples.of(points.cpu().numpy(), labels.cpu().numpy(), self.seeds.classes, "substitute")
            asked = int(meter.forwards[0])
            about = {"oracle": oracle.name, "queries": asked, "round": step, "samples": len(points)}
            drawn = derive(seed, oracle.name, "substitute", step)
            make = partial(self._learn, network, source, drawn, device, about, seconds)
            kept = {**content, "round": step}
            path, header, _ = load_or_make(network, kept, make, root=root, name=_OWN, device=device)
            seconds = header["trained"]["seconds"]
            yield _named(oracle.name, copy.deepcopy(network), path, header)
            left = len(points) if self.queries is None else self.queries - asked
            if step == self.rounds or left < 1:
                return
            chosen = _some(len(points), left, seed, device)
            view = network.classifier("substitute", self.seeds.shape).to(device)
            parts = zip(torch.split(points[chosen], _BATCH), torch.split(labels[chosen], _BATCH), strict=True)
            new = [augmented(view, x, told, self._step(step), network.bounds) for x, told in parts]
            others = _told(ask, torch.cat(new))
            points, labels = torch.cat([points, others[0]]), torch.cat([labels, others[1]])

    def _learn(
        self,
        network: Network,
        source: Samples,
        seed: int,
        device: torch.device,
        about: Mapping[str, Any],
        seconds: float,
        store: Path,
    ) -> dict[str, Any]:
        """Train a substitute further; what its checkpoint says, `seconds` of the rounds before included."""
        history = fit(network, self.recipe, source, seed=seed, device=device, store=store)
        last = history.epochs[-1]
        trained = {
            "epochs": len(history.epochs),
            "train_accuracy": last.accuracy,
            "seconds": seconds + history.seconds,
            "method": "substitute",
        }
        return {"trained": {**about, **trained}}

    def _produced_by(self, oracle: str, made_by: str, network: Network, seed: int) -> dict[str, Any]:
        """All that the substitutes depend on, but for the round."""
        return {
            "schema": SCHEMA,
            "substitute_of": [oracle, made_by],
            "layers": str(network.module),
            "begins_as": fingerprint(network.module),
            "origin": network.origin,
            "normalisation": plain([network.mean, network.std, network.bounds]),
            "seeds": self.seeds.fingerprint,
            "step": [self.step, self.period],
            "queries": self.queries,
            "train": plain(asdict(self.recipe)),
            "seed": seed,
        }

    def _found(self, content: Mapping[str, Any], root: Path) -> list[tuple[Path, dict[str, Any]]]:
        """The checkpoints of all rounds with their headers; none where one is not there.

        Raises:
            models.errors.ModelError: one is damaged.
        """
        found: list[tuple[Path, dict[str, Any]]] = []
        for step in range(self.rounds + 1):
            path = checkpoint(root, {**content, "round": step})
            if not path.exists():
                return []
            found.append((path, read_header(path)))
            if self.queries is not None and found[-1][1]["trained"]["queries"] >= self.queries:
                break
        return found

    def _step(self, number: int) -> float:
        """The step of round `number`."""
        turned = self.period is not None and (number // self.period) % 2 == 1
        return -self.step if turned else self.step


def _named(oracle: str, network: Network, path: Path, header: Mapping[str, Any]) -> tuple[str, Network, dict[str, Any]]:
    """What `Imitation.networks` yields, of a checkpoint."""
    trained = {**header["trained"], "checkpoint": path.name}
    return NAME.format(oracle=oracle, queries=trained["queries"]), network, trained


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
