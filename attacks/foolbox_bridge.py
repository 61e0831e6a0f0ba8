"""A network and our random streams, as Foolbox wants them.

Foolbox computes through EagerPy, whose results have the type of the first operand. A tensor class of our own, made for
one call, therefore takes part in the whole attack: its draws come from one stream per sample instead of PyTorch's
global generator, and its gradients are those of the image alone, so that no weight is left with a gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from eagerpy.tensor.pytorch import PyTorchTensor
from torch import Tensor

from attacks.base import Logits
from attacks.foolbox_catalogue import library
from attacks.rng import Rng


class StreamTensor(PyTorchTensor):
    """EagerPy's tensor for PyTorch, with draws from `rng` and gradients for the image alone.

    Attributes:
        rng: a stream for each of the B samples.
        calls: numbers the draws.
    """

    __slots__ = ()
    rng: ClassVar[Rng]
    calls: ClassVar[Iterator[int]]

    def _draw(self, draw: Callable[..., Tensor], shape: int | tuple[int, ...]) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        streams = self.rng.fold(next(self.calls))
        if shape[0] == len(streams):
            return draw(streams, *shape[1:]).to(self.raw)
        return draw(Rng(streams.keys[:1]), *shape)[0].to(self.raw)  # one draw that the batch shares

    def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0) -> Any:
        """Uniform on [low, high)."""
        return type(self)(self._draw(Rng.uniform, shape) * (high - low) + low)

    def normal(self, shape: Any, mean: float = 0.0, stddev: float = 1.0) -> Any:
        """Normal, of the given mean and standard deviation."""
        return type(self)(self._draw(Rng.normal, shape) * stddev + mean)

    def _value_and_grad_fn(self, f: Callable[..., Any], has_aux: bool = False) -> Any:
        wrap = type(self)

        def detach(value: Any) -> Any:
            return wrap(value.raw.detach()) if isinstance(value, PyTorchTensor) else value

        def value_and_grad(x: StreamTensor, *args: Any) -> tuple[Any, ...]:
            leaf = x.raw.detach().clone().requires_grad_()
            out = f(wrap(leaf), *args)
            loss, aux = out if has_aux else (out, None)
            gradient = wrap(torch.autograd.grad(loss.raw, leaf)[0])
            if not has_aux:
                return detach(loss), gradient
            return detach(loss), tuple(map(detach, aux)) if isinstance(aux, tuple) else detach(aux), gradient

        return value_and_grad


def stream_tensor(rng: Rng) -> type[StreamTensor]:
    """A class of tensors that draw from `rng`."""
    return type("StreamTensor", (StreamTensor,), {"__slots__": (), "rng": rng, "calls": itertools.count()})


def to_unit(x: Tensor, box: tuple[float, float]) -> Tensor:
    """Images in `box`, scaled to 0..1."""
    return ((x - box[0]) / (box[1] - box[0])).clamp(0.0, 1.0)


def from_unit(unit: Tensor, box: tuple[float, float]) -> Tensor:
    """Images in 0..1, scaled to `box`."""
    return box[0] + (box[1] - box[0]) * unit


class UnitModel:
    """What Foolbox asks of a model, for a network whose images are scaled to 0..1."""

    data_format = "channels_first"

    def __init__(self, logits: Logits, box: tuple[float, float], tensor: type[StreamTensor]) -> None:
        self.bounds = library().types.Bounds(0.0, 1.0)
        self._logits = logits
        self._box = box
        self._tensor = tensor

    def __call__(self, inputs: StreamTensor) -> StreamTensor:
        """Logits (B, K) of images (B, C, H, W) in 0..1."""
        with torch.set_grad_enabled(inputs.raw.requires_grad):
            return self._tensor(self._logits(from_unit(inputs.raw, self._box)))
