"""A network whose gradients are replayed as CUDA graphs: launched once, and not layer by layer.

On a GPU the layers of a small network are done sooner than the host can launch them. A graph of a forward and its
backward is launched as one; it holds for one batch size, so that batches are filled up to one of a few sizes, each
captured when it is first met. Where no gradient is wanted, and for larger batches, the network itself is asked.

Source: PyTorch's documentation of `torch.cuda.make_graphed_callables`, which captures both.
Cost: memory for the activations of each size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

Network = Callable[[Tensor], Tensor]
Capture = Callable[[Network, Tensor], Network]
"""(network, images that want a gradient) -> the same for batches of that shape."""

SIZES = (8, 16, 32, 64, 128, 256)
"""Batches that are captured."""


def captured(network: Network, x: Tensor) -> Network:
    """The network as CUDA graphs for images of the shape of `x`."""
    found: Network = cast(Network, torch.cuda.make_graphed_callables(network, (x,)))
    return found


class Graphed(nn.Module):
    """A network that is replayed where a gradient is wanted.

    Attributes:
        network: asked for everything else, and captured; images (B, C, H, W) -> logits (B, K).
    """

    def __init__(self, network: nn.Module, capture: Capture = captured, device: str = "cuda") -> None:
        super().__init__()
        self.network = network
        self._capture, self._device = capture, device
        self._graphs: dict[tuple[int, ...], Network] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K); of fresh memory, as their gradients are."""
        size = next((s for s in SIZES if s >= len(x)), None)
        if x.device.type != self._device or size is None or not (torch.is_grad_enabled() and x.requires_grad):
            answer: Tensor = self.network(x)
            return answer
        # a graph writes to the same memory in each replay: what goes in and out is copied, both ways
        filled = torch.cat([x, x[:1].detach().expand(size - len(x), *x.shape[1:])]) * 1.0
        return self._graph(filled)(filled)[: len(x)] * 1.0

    def stand_in(self) -> Network | None:
        """What the network offers to follow the gradients of in its place, if anything."""
        offered: Callable[[], Network | None] | None = getattr(self.network, "stand_in", None)
        return None if offered is None else offered()

    def forget(self) -> None:
        """Give back the memory of all graphs; each is captured again when it is next met."""
        self._graphs.clear()

    def _graph(self, filled: Tensor) -> Network:
        key = tuple(filled.shape)
        if key not in self._graphs:
            sample = filled.detach().clone().requires_grad_()
            self._graphs[key] = self._capture(self.network, sample)
        return self._graphs[key]
