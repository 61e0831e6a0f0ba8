"""What the networks of torchvision and timm have in common: a name there, and weights to choose from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A classifier that others published.

    Its input is normalised as they say. Where the weights have other classes than the data, the network gets a new
    last layer and is to be trained.

    Attributes:
        name: of the architecture.
        pretrained: whether to take the weights that were published with it, downloaded with progress.
        weights: path of a state dict to take in place of them.
    """

    name: str
    pretrained: bool = True
    weights: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the network comes with weights; for other classes than theirs it gets a new last layer to train."""
        return self.pretrained or self.weights is not None
