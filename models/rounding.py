"""How far float32 may carry the results of a network's steps from what they are: running error bounds.

A network is asked in float32, its steps are bounded in float64, and a radius must hold for what float32 answers. Let e
bound how far the inputs of a step are off, and s their size, e included. With u the unit roundoff, a sum of n
products, in whatever order it is computed, with fused operations or without, is off by at most

    |W| e + gamma_n (|W| s + |b|),    gamma_n = n u / (1 - n u),    n the fan-in, and one for the bias.

That holds wherever the sizes hold, which are those of the intervals of a ball. A ReLU that stays off forgets e. Where
gains of the steps are given, the length of e grows by no more than these, which in deep networks is far less.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. (SIAM 2002), sections 3.1 and 3.3.
Departures: lengths beside the entries. Convolutions by fast transforms (Winograd, FFT) and products rounded to fewer
bits than u says (TF32, which a run turns off) are not covered. Sigmoid and tanh are taken to be right to 16 units.
Cost: two forwards an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.steps import ADD, AVERAGE, SCALE, Graph, Step

Sizes = tuple[Tensor, Tensor]
"""Least and greatest values, or two of the same."""

_SCALING = 16  # roundings in a batch norm, a normalisation or a constant, and of what float32 makes of their numbers
_CURVED = 16  # units of the value of a sigmoid or tanh
_LEAKY = 2
_LEAST = 1e-30  # absolute: what is lost where a sum of numbers near 1e-38 underflows
_GREATEST = 3e38  # above, float32 may overflow
_SURE = 1.001  # for the rounding of float64, here and in the bounds: smaller by 5e8


def rounding(graph: Graph, within: Sequence[Sizes], gains: Sequence[float] = ()) -> Tensor:
    """How far the logits (B, K) can be off at most.

    Args:
        graph: of the network.
        within: where the image and the results of all steps lie, least and greatest (B, ...) of each.
        gains: bounds of how much longer each step makes a change; they tighten the result.

    Returns:
        (B, K), infinity or NaN where float32 may overflow.
    """
    off = [torch.zeros_like(within[0][0])]
    far = [off[0].flatten(1).sum(1)]  # (B,)
    for number, step in enumerate(graph.steps):
        inputs = [off[i] for i in step.inputs]
        sizes = [torch.maximum(-within[i][0], within[i][1]) + off[i] for i in step.inputs]
        carried, own = _of_step(step, inputs, sizes, graph.unit)
        error = carried + own
        if isinstance(step.module, nn.ReLU):
            error = error.minimum((within[step.inputs[0]][1] + inputs[0]).clamp(min=0))
        length = torch.linalg.vector_norm(error.flatten(1), dim=1)
        if gains:
            before = torch.stack([far[i] for i in step.inputs]).sum(0)
            length = length.minimum(gains[number] * before + torch.linalg.vector_norm(own.flatten(1), dim=1))
            error = error.minimum(length.view(-1, *[1] * (error.ndim - 1)))
        off.append(error)
        far.append(length)
    return _SURE * off[-1]


def _of_step(step: Step, off: list[Tensor], sizes: list[Tensor], unit: float) -> tuple[Tensor, Tensor]:
    """What the errors of the inputs (B, ...) of a step come to in its results, and what it adds itself."""
    module, (error, *_), (size, *_) = step.module, off, sizes
    if step.kind == ADD:
        both = sizes[0] + sizes[1]
        return off[0] + off[1], _gamma(1, unit) * both + _over(both)
    if isinstance(module, nn.Linear | nn.Conv2d):
        bias = None if module.bias is None else module.bias.abs()
        carried, total = (_absolute(module, e, b) for e, b in zip((error, size), (None, bias), strict=True))
        terms = module.weight[0].numel() + 1
    elif step.kind == SCALE:
        factor = torch.as_tensor(module.factor).abs()
        carried, total, terms = error * factor, size * factor + torch.as_tensor(module.size), _SCALING
    elif step.kind == AVERAGE:
        carried, total, terms = module(error), module(size), _window(module, error.shape[2:]) + 1
    elif isinstance(module, nn.Sigmoid):
        return error / 4, _CURVED * unit * module(size) + _LEAST
    elif isinstance(module, nn.Tanh):
        return error, _CURVED * unit * module(size) + _LEAST
    elif isinstance(module, nn.LeakyReLU):
        return error, _LEAKY * unit * module.negative_slope * size + _LEAST
    else:  # moves, chooses or drops, exactly
        carried = module(error)
        return carried, torch.zeros_like(carried)
    return carried, _gamma(terms, unit) * total + _LEAST + _over(total)


def _absolute(module: nn.Linear | nn.Conv2d, x: Tensor, bias: Tensor | None) -> Tensor:
    """A layer with the absolute values of its weights."""
    weight = module.weight.abs()
    if isinstance(module, nn.Linear):
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)


def _gamma(terms: int, unit: float) -> float:
    return terms * unit / (1 - terms * unit) if terms * unit < 0.5 else math.inf


def _over(total: Tensor) -> Tensor:
    """Infinity (B, ...) where sums of absolute values (B, ...) may be more than float32 holds, else 0."""
    return torch.where(total < _GREATEST, 0.0, torch.inf).to(total.dtype)


def _window(module: nn.Module, side: torch.Size) -> int:
    """Pixels that go into a mean, at most."""
    if isinstance(module, nn.AvgPool2d):
        kernel = module.kernel_size
        return kernel**2 if isinstance(kernel, int) else math.prod(kernel)
    return math.prod(side)
