"""CUDA graphs of a network, and of a step of a search: what is done on the GPU is noted once, and launched as one.

A graph reads and writes the same memory each time. What it holds is fixed: shapes, the way through the network, and no
question of the host to the device.

Source: PyTorch's notes on CUDA graphs (docs.pytorch.org, "CUDA semantics", "CUDA Graphs").
Cost: memory for the activations of a forward and a backward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

_WARM = 3  # forwards and backwards before a capture, which let libraries choose their kernels and get their memory

Network = Callable[[Tensor], Tensor]


class Static(Protocol):
    """A network for one batch size, on memory that is always the same.

    Attributes:
        images: (N, C, H, W), written to before `forward`.
        logits: (N, K), read after it.
        cotangent: (N, K), written to before `backward`.
        gradient: (N, C, H, W), read after it.
    """

    images: Tensor
    logits: Tensor
    cotangent: Tensor
    gradient: Tensor

    def forward(self) -> None:
        """Write the logits of the images."""

    def backward(self) -> None:
        """Write the gradient, of the last `forward`; any number of times."""


Capture = Callable[[Network, Tensor], Static]
"""(network, images of the size) -> that."""
State = Mapping[str, Tensor]
Step = Callable[[Network, State], None]
"""Asks the network and writes to the state, whose tensors stay where they are."""
Film = Callable[[Network, Step, State], Callable[[], None]]
"""(network, step, state) -> the same step on the same memory, to be called again and again."""


class Captured:
    """Two CUDA graphs; the activations between them stay where they are, so that the backward can be replayed again.

    Args:
        network: images (N, C, H, W) -> logits (N, K).
        x: images (N, C, H, W) of the size, on the device.

    Raises:
        RuntimeError: the network does what no graph can hold, such as to ask the device; or memory has run out.
    """

    def __init__(self, network: Network, x: Tensor) -> None:
        leaf = x.detach().clone().requires_grad_()
        kept = torch.cuda.current_stream(x.device)
        with torch.cuda.device(x.device), torch.random.fork_rng([x.device]), torch.enable_grad():
            side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(kept)
            with torch.cuda.stream(side):
                for _ in range(_WARM):
                    out = network(leaf)
                    torch.autograd.grad(out, leaf, torch.zeros_like(out))
                    del out
            kept.wait_stream(side)
            self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with torch.cuda.stream(kept):  # which is the current one again even where a capture fails
                with torch.cuda.graph(self._forward, stream=side, capture_error_mode="thread_local"):
                    self._out = network(leaf)
                self.cotangent = torch.zeros_like(self._out)
                pool = self._forward.pool()
                with torch.cuda.graph(self._backward, pool=pool, stream=side, capture_error_mode="thread_local"):
                    (gradient,) = torch.autograd.grad(self._out, leaf, self.cotangent, retain_graph=True)
        self.images, self.logits, self.gradient = leaf.detach(), self._out.detach(), gradient.detach()

    def forward(self) -> None:
        """Write the logits of the images."""
        self._forward.replay()

    def backward(self) -> None:
        """Write the gradient, of the last `forward`."""
        self._backward.replay()


def filmed(network: Network, step: Step, state: State) -> Callable[[], None]:
    """A step as one CUDA graph, to be called again and again on the memory of `state`, whose values it spoils.

    Raises:
        RuntimeError: the step does what no graph can hold; or memory has run out.
    """
    device = next(iter(state.values())).device
    kept = torch.cuda.current_stream(device)
    with torch.cuda.device(device), torch.random.fork_rng([device]):
        side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(kept)
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                step(network, state)
        kept.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(kept), torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            step(network, state)
    return graph.replay
