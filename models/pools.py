"""Training on pools of adversarial examples that are renewed all the time: of the input, or of a layer's outputs.

For each chosen layer k a pool holds points h' with their labels; with F_k the layers above k, a step minimises

    CE(F(x), y) + weight * mean over k of CE(F_k(h'), y')

over a batch (x, y) of the training samples and a random batch (h', y') of each pool. Now and then the activations
h = layer k of (x) of the last training samples are given to a search, which perturbs them inside the range of the layer
until the layers above, as they are then, go wrong; what it finds takes the places of random points of the pool. Layers
at and below k learn nothing from the pool of layer k.

Source: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow and Fergus, "Intriguing properties of neural networks",
ICLR 2014 (arXiv 1312.6199v4), section 4.2.
Departures: the paper says neither how large its pools were, how often they were renewed, nor how they were weighed. It
alternates between pools and training set; here each step uses all of them. Samples that are misclassified without
perturbation enter no pool.
A pool that is empty after so many renewals as are given is an error: the network would have been trained without it.
Cost: a forward and a backward of `batch` points a pool and step, and the search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.classifier import Classifier
from models.errors import ModelError
from models.spec import derive

Logits = Callable[[Tensor], Tensor]
Search = Callable[[Logits, Tensor, Tensor, tuple[float, float], int], tuple[Tensor, Tensor]]
"""(points -> logits, points (B, ...), labels (B,), their range, number of the call) -> points, which to keep (B,)."""

_RANGES: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
}
"""Activations that a search can be kept in the range of."""
_ACTIVATIONS = nn.modules.activation.__name__
RENEWALS = 10
"""After so many a pool must hold something, unless it is said."""


@dataclass(frozen=True)
class PoolConfig:
    """A recipe of pools.

    Attributes:
        layers: that have a pool: 0 is the input, k the output of the k-th activation.
        size: points that a pool holds.
        fresh: training samples whose activations are perturbed at a time, for each pool.
        every: steps from one time to the next.
        batch: points of each pool that a step trains on.
        weight: of the pools' mean loss, beside that of the training samples.
        search: what perturbs, as the run understands it.
    """

    layers: list[int]
    size: int = 5120
    fresh: int = 512
    every: int = 50
    batch: int = 128
    weight: float = 1.0
    search: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers) or min(self.layers) < 0:
            raise ModelError(f"pools.layers: must be different layers from 0, the input, on; got {list(self.layers)}")
        for key in ("size", "fresh", "every", "batch"):
            if getattr(self, key) < 1:
                raise ModelError(f"pools.{key}: must be >= 1, got {getattr(self, key)}")
        if self.fresh > self.size:
            raise ModelError(f"pools.fresh: must be at most size, {self.size}, got {self.fresh}")
        if not self.weight > 0:
            raise ModelError(f"pools.weight: must be > 0, got {self.weight:g}")


@dataclass(frozen=True)
class Cut:
    """A network in two.

    Attributes:
        below: images in box units -> activations (B, ...).
        above: activations -> logits (B, K).
        range: least and greatest value of an activation.
    """

    below: Callable[[Tensor], Tensor]
    above: Callable[[Tensor], Tensor]
    range: tuple[float, float]


def cut(view: Classifier, layers: Sequence[int]) -> list[Cut]:
    """The network cut at each of some layers: 0 is the input, k the output of the k-th activation.

    Raises:
        ModelError: it has no such layer, or it cannot be cut there.
    """
    parts = view.network
    if not isinstance(parts, nn.Sequential):
        raise ModelError(
            f"pools: the network must be a torch.nn.Sequential, to be cut at its layers, got {type(parts).__name__}; "
            "choose model=paper/fc100_100"
        )
    places = [i for i, part in enumerate(parts) if type(part).__module__ == _ACTIVATIONS]
    return [_cut(view, parts, places, layer) for layer in layers]


def _cut(view: Classifier, parts: nn.Sequential, places: Sequence[int], layer: int) -> Cut:
    if not 0 <= layer <= len(places):
        raise ModelError(f"pools.layers: must be in 0..{len(places)} for this network, got {layer}")
    if layer == 0:
        return Cut(lambda x: x, view, view.bounds)
    place = places[layer - 1]
    low_high = _RANGES.get(type(parts[place]))
    if low_high is None:
        raise ModelError(
            f"pools.layers: the activation of layer {layer} must be bounded, such as a sigmoid, "
            f"got {type(parts[place]).__name__}"
        )
    below, above = parts[: place + 1], parts[place + 1 :]
    return Cut(lambda x: below(view.normalised(x)), above, low_high)


@dataclass
class Pool:
    """Points with their labels, of which random ones give way to new ones once there are `size`.

    Attributes:
        size: most points.
        points: (n, ...).
        labels: (n,).
    """

    size: int
    points: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.labels is None else len(self.labels)

    def renew(self, points: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Take in points (b, ...) with their labels (b,)."""
        if self.points is None or self.labels is None:
            self.points, self.labels = points[:0], labels[:0]
        free = min(self.size - len(self), len(labels))
        self.points = torch.cat([self.points, points[:free]])
        self.labels = torch.cat([self.labels, labels[:free]])
        if free < len(labels):
            out = torch.randperm(self.size, generator=generator)[: len(labels) - free].to(labels.device)
            self.points[out], self.labels[out] = points[free:], labels[free:]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` random points and their labels, with repeats."""
        assert self.points is not None
        assert self.labels is not None
        index = torch.randint(len(self), (count,), generator=generator).to(self.labels.device)
        return self.points[index], self.labels[index]


@dataclass
class Pooling:
    """The pools of a fit. Whatever is random is seeded by the number of the step, so that its state is its contents.

    Attributes:
        config: the recipe.
        cuts: of the network, one for each pool.
        pools: one for each layer.
        search: what perturbs.
        seed: of all that is random.
        renewals: after so many, a pool that is empty is an error.
        seen: images and labels of the training batches since the pools were last renewed.
    """

    config: PoolConfig
    cuts: list[Cut]
    pools: list[Pool]
    search: Search
    seed: int
    renewals: int = RENEWALS
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def renews(self, x: Tensor, y: Tensor, step: int) -> bool:
        """Remember the batch of a step; whether the pools are to be renewed now."""
        self.seen = [*self.seen, (x.detach(), y)]
        most = -(-self.config.fresh // max(1, min(len(labels) for _, labels in self.seen)))
        self.seen = self.seen[-most:]
        return (step + 1) % self.config.every == 0

    def renew(self, step: int) -> None:
        """Renew all pools from the training samples seen last; the network must be frozen, in evaluation mode.

        Raises:
            ModelError: a pool stayed empty.
        """
        x = torch.cat([images for images, _ in self.seen])[-self.config.fresh :]
        y = torch.cat([labels for _, labels in self.seen])[-self.config.fresh :]
        self.seen = []
        for layer, part, pool in zip(self.config.layers, self.cuts, self.pools, strict=True):
            with torch.no_grad():
                start = part.below(x)
                right = part.above(start).argmax(1) == y
            start, labels = start[right], y[right]
            if len(labels):
                call = derive(self.seed, "search", layer, step)
                points, keep = self.search(part.above, start, labels, part.range, call)
                pool.renew(points[keep].detach(), labels[keep], self._generator("renew", layer, step))
            if len(pool) == 0 and (step + 1) // self.config.every >= self.renewals:
                raise ModelError(
                    f"pools.layers: the pool of layer {layer} stayed empty in {self.renewals} renewals: no sample was "
                    "classified correctly and then fooled; train longer, or give the search more evaluations"
                )

    def loss(self, step: int) -> Tensor:
        """The pools' mean loss (), with its weight, at random points of them; 0 while all are empty."""
        losses = []
        for layer, part, pool in zip(self.config.layers, self.cuts, self.pools, strict=True):
            if len(pool):
                points, labels = pool.draw(self.config.batch, self._generator("draw", layer, step))
                losses.append(F.cross_entropy(part.above(points), labels))
        return self.config.weight * torch.stack(losses).mean() if losses else torch.zeros(())

    def _generator(self, use: str, layer: int, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive(self.seed, "pool", use, layer, step))

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, beside the network."""
        return {"pools": [(pool.points, pool.labels) for pool in self.pools], "seen": self.seen}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what `state` told."""
        for pool, (points, labels) in zip(self.pools, state["pools"], strict=True):
            if points is not None:
                pool.points, pool.labels = points.to(device), labels.to(device)
        self.seen = [(x.to(device), y.to(device)) for x, y in state["seen"]]


@dataclass(frozen=True)
class Pools:
    """Pools to train with: the recipe, what perturbs, and the renewals after which no pool may be empty."""

    config: PoolConfig
    search: Search
    renewals: int = RENEWALS

    def start(self, view: Classifier, seed: int) -> Pooling:
        """Empty pools for a network.

        Raises:
            ModelError: as `cut` does.
        """
        layers, pools = self.config.layers, [Pool(self.config.size) for _ in self.config.layers]
        return Pooling(self.config, cut(view, layers), pools, self.search, seed, self.renewals)

    def about(self) -> dict[str, Any]:
        """The recipe, as JSON knows it."""
        return asdict(self.config)
