"""A network whose first layer starts from weights of a given size, and whose layers learn alike at any image size.

The weights of the first layer are drawn normal, with deviation scale * sqrt(2 / inputs) (He et al. for scale = 1), or
are 0. Training by gradients moves them within the span of the images alone: what the start has in other directions
stays, and whoever may leave that span can make use of it. All else that does not depend on the images' size starts as
in a network for images of the reference's size.

A layer whose inputs become n times as many, as when each pixel is replicated n times, makes n times as large a step in
its outputs by the same step of each weight. With a learning rate of `reference inputs / inputs` times that of the
recipe it makes the same step, for Adam and plain gradients alike: of a linear network, trained from 0 on replicated
pixels, each weight is 1/n of that of the network on the pixels themselves, after every step. Weights decay as the
recipe says, which is not slowed down, and by no penalty of the base.

Source: K. He et al., "Delving deep into rectifiers", ICCV 2015 (arXiv 1502.01852), for the deviation; for learning
rates that go with the inverse of the number of inputs, G. Yang and E. Hu, "Feature learning in infinite-width neural
networks", ICML 2021 (arXiv 2011.14522).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from models.errors import ModelError
from models.spec import Network, Spec


@dataclass(frozen=True)
class Initial:
    """Another spec's networks, with a first layer of given size to begin with.

    Attributes:
        base: whose networks they are.
        scale: of the first layer's weights, as a part of He's; 0 for none.
        reference: (C, H, W) of images on which every layer learns at the recipe's own rate.
    """

    base: Spec
    scale: float
    reference: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ModelError(f"Initial.scale: must be >= 0, got {self.scale:g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """The networks of the base."""
        usual = self.base.build(name, self.reference, num_classes)  # the first to draw, so that it does so alike
        found = self.base.build(name, input_shape, num_classes)
        for own, network in found.items():
            if network.ready:
                raise ModelError(f"model.{own}: must be a network to train here, got one that came with its weights")
            if network.penalty is not None:
                network.penalty = None
                network.description += ", its penalty left out"
            first = first_layer(network.module)
            inputs = first.weight[0].numel()
            then = dict(usual[own].module.named_parameters())
            with torch.no_grad():
                first.weight.normal_(0.0, self.scale * (2 / inputs) ** 0.5)
                for key, p in network.module.named_parameters():
                    if p.shape != then[key].shape:
                        network.paces[key] = then[key][0].numel() / p[0].numel()
                    elif p is not first.weight:
                        p.copy_(then[key])
            network.description += f", first layer from {self.scale:g} of He's weights"
        return found


def first_layer(module: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer that comes first among those that have weights for their inputs.

    Raises:
        ModelError: it is no dense and no convolutional layer, or there is none.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            return part
        if next(part.parameters(recurse=False), None) is not None:
            break
    raise ModelError("model: the first layer with weights must be dense or convolutional")
