"""A network that is replayed as CUDA graphs: launched once, and not layer by layer.

On a GPU the layers of a small network are done sooner than the host can launch them. A graph of a forward and one of
its backward are launched as one each; they hold for one batch size, so that batches are filled up to one of a few
sizes, each captured when it is first met. Larger batches go through the network itself.

Graphs read and write the same memory each time. What goes in and out is copied; and a backward whose forward is not the
last one that was replayed (one of several whose mean is followed, say) has its forward replayed again first.

A search may have a whole step of its own, network included, recorded in the same way (`Graphed.record`).

How graphs are made is for `models.captured`.

Cost: memory for the activations of each size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from models.captured import Capture, Captured, Film, Network, State, Static, Step, filmed

SIZES = (8, 16, 32, 64, 128, 256)
"""Batches that are captured."""
_NEAR = 1e-3  # by how much a replay may differ from the network, relative to its largest answer


class Steps:
    """A step that is replayed, on the rows of its state that are in use.

    Attributes:
        state: tensors of as many rows as the search has.
        replay: does the step.
    """

    def __init__(self, held: State, rows: int, replay: Callable[[], None]) -> None:
        self.state: State = {name: tensor[:rows] if tensor.ndim else tensor for name, tensor in held.items()}
        self.replay = replay


class _Replayed:
    """What is static of one size, and which question was its last."""

    def __init__(self, static: Static) -> None:
        self.static = static
        self.serial = 0

    def ask(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W), in fresh memory."""
        _fill(self.static.images, x)
        self.static.forward()
        self.serial += 1
        return self.static.logits[: len(x)].clone()

    def follow(self, cotangent: Tensor) -> Tensor:
        """The gradient (B, C, H, W) of the last question, in fresh memory."""
        count = len(cotangent)
        self.static.cotangent[:count].copy_(cotangent)
        self.static.backward()
        return self.static.gradient[:count].clone()


class _Question(torch.autograd.Function):
    """A question to a `_Replayed`, whose gradient is replayed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, replayed: _Replayed) -> Tensor:
        """Logits (B, K)."""
        answer = replayed.ask(x)
        ctx.replayed, ctx.serial = replayed, replayed.serial
        ctx.save_for_backward(x)
        return answer

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        """The gradient (B, C, H, W) by the images."""
        replayed: _Replayed = ctx.replayed
        if ctx.serial != replayed.serial:  # another question has taken the place of this one
            replayed.ask(*ctx.saved_tensors)
            ctx.serial = replayed.serial
        return replayed.follow(*cotangents), None


class Graphed(nn.Module):
    """A network that is replayed.

    Args:
        network: captured, and asked where the batch is larger; images (B, C, H, W) -> logits (B, K).
        capture: makes the graphs of it.
        device: the kind that images are replayed on.
        film: makes the graph of a step.

    Attributes:
        network: as it was given.
    """

    def __init__(
        self, network: nn.Module, capture: Capture = Captured, device: str = "cuda", film: Film = filmed
    ) -> None:
        super().__init__()
        self.network = network
        self._capture, self._device, self._film = capture, device, film
        self._replayed: dict[tuple[Any, ...], _Replayed] = {}
        self._steps: dict[tuple[Any, ...], tuple[State, Callable[[], None]]] = {}
        _ALL.add(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K); of fresh memory, as their gradients are."""
        size = next((s for s in SIZES if s >= len(x)), None)
        if x.device.type != self._device or size is None or len(x) == 0:
            answer: Tensor = self.network(x)
            return answer
        replayed = self._of(x, size)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return replayed.ask(x.detach())
        answered: Tensor = _Question.apply(x, replayed)
        return answered

    def stand_in(self) -> Network | None:
        """What the network offers to follow the gradients of in its place, if anything."""
        offered: Callable[[], Network | None] | None = getattr(self.network, "stand_in", None)
        return None if offered is None else offered()

    def forget(self) -> None:
        """Give back the memory of all graphs; each is captured again when it is next met."""
        self._replayed.clear()
        self._steps.clear()

    def record(self, step: Step, state: State) -> Steps | None:
        """A whole step of a search as one graph, and its state, a copy of this one; None for what is not replayed.

        Args:
            step: hashable; one that compares equal is not captured again.
            state: tensors (R, ...) of R rows, and such without rows, ().

        Raises:
            RuntimeError: the step cannot be captured; or memory has run out.
        """
        rows = next(len(tensor) for tensor in state.values() if tensor.ndim)
        size = next((s for s in SIZES if s >= rows), None)
        if size is None or rows == 0 or any(tensor.device.type != self._device for tensor in state.values()):
            return None
        kinds = tuple((name, tensor.shape[1:], tensor.dtype, tensor.device) for name, tensor in state.items())
        key = (step, size, kinds)
        if key not in self._steps:
            mine = {
                name: tensor.new_empty(size, *tensor.shape[1:]) if tensor.ndim else tensor.clone()
                for name, tensor in state.items()
            }
            for name, tensor in state.items():
                _fill(mine[name], tensor)
            self._steps[key] = mine, self._film(self.network, step, mine)
        held, replay = self._steps[key]
        for name, tensor in state.items():
            _fill(held[name], tensor)
        return Steps(held, rows, replay)

    def _of(self, x: Tensor, size: int) -> _Replayed:
        key = (size, *x.shape[1:], x.dtype, x.device)
        if key not in self._replayed:
            filled = x.new_empty(size, *x.shape[1:])
            _fill(filled, x.detach())
            self._replayed[key] = _Replayed(self._capture(self.network, filled))
        return self._replayed[key]


_ALL: WeakSet[Graphed] = WeakSet()


def forget() -> None:
    """Give back the memory of all graphs of this process."""
    for graphed in list(_ALL):
        graphed.forget()


def _fill(held: Tensor, x: Tensor) -> None:
    """Write rows (B, ...) into the first of (N, ...), and the first one of them into all others."""
    if x.ndim == 0 or len(x) == len(held):
        held.copy_(x)
        return
    held[: len(x)].copy_(x)
    held[len(x) :].copy_(x[:1].expand_as(held[len(x) :]))


@dataclass(frozen=True)
class _Trial:
    """A step like those of searches."""

    def __call__(self, network: Network, state: State) -> None:
        x = state["x"]
        x.copy_(torch.add(x, _both(network, x)[1].sign(), alpha=0.01))


def replays(graphed: Graphed, x: Tensor) -> bool:
    """Whether replays answer as the network does.

    They do not where it draws random numbers, decides by what it sees, or looks at a batch as a whole.

    Args:
        graphed: the network.
        x: images (B, C, H, W) to try it on, five at least; asked as they are, and fewer and darker, which a graph knows
            nothing of beforehand.

    Raises:
        RuntimeError: the network cannot be captured, as where it asks the device a question; or memory has run out.
    """
    few = x[:5] / 2
    for images in (x, few):
        ours, theirs = (_both(network, images) for network in (graphed, graphed.network))
        if not all(_near(mine, exact) for mine, exact in zip(ours, theirs, strict=True)):
            return False
    steps = graphed.record(_Trial(), {"x": few})
    exact = {"x": few.clone()}
    _Trial()(graphed.network, exact)
    if steps is None:
        return False
    steps.replay()
    return float((steps.state["x"] == exact["x"]).float().mean()) > 1 - _NEAR  # a sign may turn where there is none


def _near(mine: Tensor, exact: Tensor) -> bool:
    return bool((mine - exact).abs().max() <= _NEAR * exact.abs().max())


def _both(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K), and the gradient (B, C, H, W) of a sum in which each class counts otherwise."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        out = network(leaf)
    weights = torch.linspace(-1, 1, out.shape[1], device=out.device, dtype=out.dtype)
    return out.detach(), torch.autograd.grad(out, leaf, weights.expand_as(out))[0]
