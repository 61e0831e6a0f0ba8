"""The network under test: normalisation inside, logits out, frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class _NoGradient(torch.autograd.Function):
    """What does not depend on the images as far as autograd knows: its derivative by them is 0."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        """The logits as they are."""
        ctx.save_for_backward(x)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Zeros."""
        (x,) = ctx.saved_tensors
        return None, torch.zeros_like(x)


def _without_gradient(logits: Tensor, x: Tensor) -> Tensor:
    out: Tensor = _NoGradient.apply(logits, x)
    return out


class Classifier(nn.Module):
    """A frozen classifier of images (B, C, H, W) in `bounds`, to logits (B, K).

    Normalisation is part of it, so that a perturbation of a given size means the same for every network.
    Construction puts the network in evaluation mode and freezes its parameters. A network that no gradient flows
    through has one here, of zeros, so that attacks that follow gradients get nowhere rather than crash;
    `models.check` warns of it. A network with a method `differentiable(x)`, which behaves as it does and has useful
    gradients, offers that as its stand-in.

    Attributes:
        network: normalised images -> logits.
        name: under which it stands in records and reports.
        input_shape: (C, H, W).
        num_classes: K.
        bounds: least and greatest value of a pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        input_shape: tuple[int, int, int],
        num_classes: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        channels = input_shape[0]
        for key, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"Classifier {name}: {key} must have 1 or {channels} values, one a channel, got {len(values)}"
                )
        if any(not s > 0 for s in std):
            raise ValueError(f"Classifier {name}: std must be > 0 in box units, got {list(std)}")
        self.network = network
        self.name = name
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.bounds = bounds
        self.identity = all(m == 0 for m in mean) and all(s == 1 for s in std)
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)
        self.eval()
        self.requires_grad_(False)

    def normalised(self, x: Tensor) -> Tensor:
        """The images (B, C, H, W) as the network takes them."""
        return x if self.identity else (x - self.mean) / self.std

    def pulled(self, gradient: Tensor) -> Tensor:
        """The gradient by the images, of one (B, C, H, W) by what `normalised` makes of them."""
        return gradient if self.identity else gradient / self.std

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units, of the images' dtype whatever the network computes in."""
        logits = self.bare(x)
        floats = isinstance(logits, Tensor) and logits.is_floating_point()
        lost = floats and torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad
        return _without_gradient(logits, x) if lost else logits

    def bare(self, x: Tensor) -> Tensor:
        """The same logits, with the gradient that the network itself gives, if any."""
        logits: Tensor = self.network(self.normalised(x))
        # what is no tensor, or of whole numbers, is for `models.check` to refuse
        return logits.to(x.dtype) if isinstance(logits, Tensor) and logits.is_floating_point() else logits

    def stand_in(self) -> Callable[[Tensor], Tensor] | None:
        """What to follow gradients of in place of this network, images in box units -> (B, K); None without any."""
        differentiable: Callable[[Tensor], Tensor] | None = getattr(self.network, "differentiable", None)
        if differentiable is None:
            return None
        return lambda x: differentiable(self.normalised(x)).to(x.dtype)
