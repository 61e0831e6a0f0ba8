"""What stands for CUDA graphs on a CPU: memory that stays where it is, and activations of the last question alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.captured import Network, State, Step


class Same:
    """Stands for the graphs of a network."""

    def __init__(self, network: Network, x: Tensor) -> None:
        assert not x.requires_grad
        self.network, self.images = network, x.clone()
        with torch.no_grad():
            self.logits = torch.full_like(network(x), torch.nan)
        self.cotangent = torch.full_like(self.logits, torch.nan)
        self.gradient = torch.full_like(x, torch.nan)

    def forward(self) -> None:
        with torch.enable_grad():
            self._leaf = self.images.clone().requires_grad_()
            self._out = self.network(self._leaf)
        self.logits.copy_(self._out.detach())

    def backward(self) -> None:
        (found,) = torch.autograd.grad(self._out, self._leaf, self.cotangent, retain_graph=True)
        self.gradient.copy_(found)


class Noted(list[int]):
    """Makes them, and keeps the sizes it was asked for."""

    def __call__(self, network: Network, x: Tensor) -> Same:
        self.append(len(x))
        return Same(network, x)


class Films:
    """Stands for the graph of a step, whose state is spoilt by being recorded."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.replays = 0

    def __call__(self, network: Network, step: Step, state: State) -> Callable[[], None]:
        self.sizes.append(next(len(tensor) for tensor in state.values() if tensor.ndim))
        places = {name: tensor.data_ptr() for name, tensor in state.items()}
        for tensor in state.values():
            if tensor.is_floating_point():
                tensor.fill_(0.5)

        def replay() -> None:
            self.replays += 1
            assert {name: tensor.data_ptr() for name, tensor in state.items()} == places
            step(network, state)

        return replay
