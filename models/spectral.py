"""How far a network can carry a small change: a bound of its Lipschitz constant in L2, layer by layer.

    ||f(x) - f(y)|| <= L ||x - y||,    L the product of the layers' gains, their sum where branches are added

Gains: a dense layer's is its largest singular value; that of an activation its steepest slope; that of a max-pool
the root of the number of windows that a pixel can win; that of a mean the root of its largest row sum times its largest
column sum (Schur). A convolution of maps of N pixels, cyclic, of stride S, kernel w and its transform w^ is block
diagonal in the frequencies: at each of the N / S coarse frequencies xi

    A(xi) = S^-1 (w^(xi + l N / S))_l = 0..S-1    per axis,  (outputs, inputs * S)

and its norm is the largest singular value of all A(xi). A convolution with zero padding is a part of the cyclic one on
the padded image (its inputs and outputs are some of those), so that its norm is at most that. Where the layer is small
it is written out as a matrix in place of that, and its norm is exact. Both are bounds from above, never estimates
from below such as a power iteration gives: a radius is proved by them.

With the lead of class y over k, less what rounding can take of it (`models.rounding`), a sample is proved up to

    r = min_k (z_y - z_k) / (L' ||w_y - w_k||),    L' of all that comes before a last dense layer with rows w,

and r = min_k (z_y - z_k) / (sqrt(2) L) without one. In L1 the same radius holds, in Linf that over sqrt(D).

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3;
Sedghi, Gupta and Long, "The singular values of convolutional layers", ICLR 2019 (arXiv 1805.10408), for cyclic maps;
Tsuzuku, Sato and Sugiyama, "Lipschitz-margin training", NeurIPS 2018 (arXiv 1802.04034), for the radius.
Departures: the paper prints S^-2 per axis, which is S times too small; and takes every max-pool for contractive, which
those with overlapping windows are not.
Cost: none of the network's forwards; a singular value decomposition a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.rounding import rounding
from models.steps import AVERAGE, SCALE, Graph, NoBoundError, Step

_ROUNDING = 1 + 1e-9  # of norms in float64
_WRITTEN_OUT = 1024  # inputs or outputs of a convolution up to which it is made a matrix


@dataclass(frozen=True)
class Gain:
    """What a step can do to the length of a change.

    Attributes:
        name: of the step.
        kind: what it is.
        gain: of the step alone.
        total: of everything from the image to it.
    """

    name: str
    kind: str
    gain: float
    total: float


def largest_singular_value(matrix: Tensor) -> float:
    """The norm of a matrix (..., m, n), the largest of them if there are several, from its smaller Gram matrix."""
    m, n = matrix.shape[-2:]
    gram = matrix @ matrix.mH if m <= n else matrix.mH @ matrix
    return math.sqrt(max(float(torch.linalg.eigvalsh(gram)[..., -1].max()), 0.0))


def unrolled(conv: nn.Conv2d, shape: tuple[int, ...]) -> Tensor:
    """The matrix (outputs, inputs) of a convolution of maps of that shape (C, H, W), without its bias."""
    eye = torch.eye(math.prod(shape), dtype=conv.weight.dtype).view(-1, *shape)
    return _linear(conv, eye).flatten(1).T


def _linear(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


def cyclic_norm(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int], groups: int = 1) -> float:
    """The exact norm of the cyclic convolution with a kernel (outputs, inputs / groups, h, w) of maps of that size.

    Each side of `size` must be a multiple of the stride, and no smaller than the kernel's, dilated already.
    """
    outputs, inputs = kernel.shape[:2]
    (high, wide), (down, across) = size, stride
    rows, columns = high // down, wide // across  # of the coarse grid
    transform = torch.fft.fft2(kernel, s=size).view(outputs, inputs, down, rows, across, columns)
    half = transform[..., : columns // 2 + 1]  # the other half is its conjugate
    blocks = half.permute(3, 5, 0, 1, 2, 4).reshape(-1, groups, outputs // groups, inputs * down * across)
    return largest_singular_value(blocks) / math.sqrt(down * across)


def _small(inputs: int, outputs: int) -> bool:
    """Whether a convolution is written out as a matrix."""
    return min(inputs, outputs) <= _WRITTEN_OUT and inputs * outputs <= 4e7


def convolution_norm(conv: nn.Conv2d, shape: tuple[int, ...]) -> float:
    """A bound from above of the norm of a convolution with zero padding of maps of that shape (C, H, W).

    It is exact where inputs or outputs are at most 1,024; else it is that of the cyclic convolution on the padded map.
    """
    with torch.no_grad():
        if _small(math.prod(shape), _linear(conv, torch.zeros(1, *shape, dtype=conv.weight.dtype)).numel()):
            return largest_singular_value(unrolled(conv, shape))
        return padded_norm(conv, shape)


@torch.no_grad()
def padded_norm(conv: nn.Conv2d, shape: tuple[int, ...]) -> float:
    """The norm of the cyclic convolution that one with zero padding is a part of; maps (C, H, W)."""
    stride = (conv.stride[0], conv.stride[1])
    sides = []
    for axis in (0, 1):
        around = conv._reversed_padding_repeated_twice[2 - 2 * axis : 4 - 2 * axis]
        sides.append(-(-(shape[1 + axis] + sum(around)) // stride[axis]) * stride[axis])
    weight, (down, across) = conv.weight, conv.dilation
    high, wide = down * (weight.shape[2] - 1) + 1, across * (weight.shape[3] - 1) + 1
    kernel = weight.new_zeros(*weight.shape[:2], high, wide)
    kernel[:, :, ::down, ::across] = weight
    return cyclic_norm(kernel, (sides[0], sides[1]), stride, conv.groups)


def _pool_gain(pool: nn.MaxPool2d) -> float:
    def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else (value[0], value[1])

    sides, strides, spread = pair(pool.kernel_size), pair(pool.stride), pair(pool.dilation)
    windows = [k if d > 1 else -(-k // s) for k, s, d in zip(sides, strides, spread, strict=True)]
    return math.sqrt(math.prod(windows))


def _mean_gain(step: Step, shape: tuple[int, ...]) -> float:
    """Of a linear map without negative entries: the root of the largest row sum times the largest column sum."""
    with torch.enable_grad():
        ones = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
        rows = step.module(ones)
        (columns,) = torch.autograd.grad(rows, ones, torch.ones_like(rows))
    return math.sqrt(float(rows.detach().max()) * float(columns.max()))


def gain(step: Step, shape: tuple[int, ...]) -> float:
    """A bound from above of how much longer a step can make a change of its input, whose shape is given."""
    module = step.module
    if isinstance(module, nn.Linear):
        found = largest_singular_value(module.weight)
    elif isinstance(module, nn.Conv2d):
        found = convolution_norm(module, shape)
    elif isinstance(module, nn.MaxPool2d):
        found = _pool_gain(module)
    elif step.kind == AVERAGE:
        found = _mean_gain(step, shape)
    elif step.kind == SCALE:
        found = float(torch.as_tensor(module.factor).abs().max())
    else:
        return 0.25 if isinstance(module, nn.Sigmoid) else 1.0
    return found * _ROUNDING


def _work(step: Step, shape: tuple[int, ...]) -> float:
    """Multiplications that the norm of a step takes, about."""
    module = step.module
    if isinstance(module, nn.Linear):
        blocks, m, n = 1, module.out_features, module.in_features
    elif isinstance(module, nn.Conv2d) and _small(math.prod(shape), math.prod(step.shape)):
        blocks, m, n = 1, math.prod(step.shape), math.prod(shape)
    elif isinstance(module, nn.Conv2d):
        strides = math.prod(module.stride)
        blocks = math.prod(shape[1:]) // strides * module.groups // 2 + 1
        m, n = module.out_channels // module.groups, module.in_channels // module.groups * strides
    else:
        return 0.0
    least = min(m, n)
    return float(blocks * (m * n * least + 10 * least**3))


def gains(graph: Graph, work: float = math.inf) -> list[Gain]:
    """Of each step, and of everything from the image to it.

    Raises:
        NoBoundError: the norms would take more multiplications than `work`.
    """
    wanted = sum(_work(step, graph.shape_of(step.inputs[0])) for step in graph.steps)
    if wanted > work:
        raise NoBoundError(f"the norms of its layers take {wanted:.1e} multiplications, more than the work allowed")
    totals = [1.0]
    found = []
    for step in graph.steps:
        own = gain(step, graph.shape_of(step.inputs[0]))
        totals.append(own * sum(totals[i] for i in step.inputs))
        found.append(Gain(step.name, step.kind, own, totals[-1]))
    return found


@torch.no_grad()
def radii(graph: Graph, found: list[Gain], x: Tensor, labels: Tensor, norm: str) -> Tensor:
    """How far each image is proved to keep its class, by the gains of the steps.

    Args:
        graph: of the network.
        found: what `gains` says of it.
        x: images (B, C, H, W), float64.
        labels: classes (B,) to be kept, int64.
        norm: `l1`, `l2` or `linf`.

    Returns:
        (B,), in box units; 0 where the class is not that one now.
    """
    values = graph.forward(x)
    logits = values[-1]
    lead = logits.gather(1, labels[:, None]) - logits  # (B, K)
    apart = _apart(graph, found, logits.shape[1])[labels] * _ROUNDING  # (B, K)

    def far(by: Tensor) -> Tensor:
        reach = by / apart.clamp(min=1e-300)
        return reach.scatter(1, labels[:, None], torch.inf).amin(1).nan_to_num(0.0, posinf=torch.inf).clamp(min=0.0)

    most = far(lead)  # (B,), and no farther need float32 be known
    within = []
    for value, total in zip(values, [1.0, *(step.total for step in found)], strict=True):
        reach = (total * most).view(-1, *[1] * (value.ndim - 1))
        within.append((value - reach, value + reach))
    off = rounding(graph, within, [step.gain for step in found])
    proved = far(lead - off - off.gather(1, labels[:, None]))
    return proved / (math.sqrt(math.prod(graph.shape)) if norm == "linf" else 1.0)


def _apart(graph: Graph, found: list[Gain], classes: int) -> Tensor:
    """How fast one logit can come nearer to another, at most: (K, K)."""
    last = graph.steps[-1]
    if not isinstance(last.module, nn.Linear):
        return torch.full((classes, classes), math.sqrt(2) * found[-1].total, dtype=torch.float64)
    before = found[last.inputs[0] - 1].total if last.inputs[0] else 1.0
    weight = last.module.weight
    return before * torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
