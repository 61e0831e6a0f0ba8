"""How much longer a layer can make a change of its input: bounds from both sides, for the layers of image classifiers.

    dense layer                    its largest singular value
    convolution                    `models.convolution`; a transposed one has the norm of the one it is the adjoint of
    max-pool                       sqrt of the windows that one pixel is in: each can follow that pixel, no other does
    mean                           the root of Perron's value of A^T A, held from both sides by any v > 0
    batch norm, affine             the largest factor
    elementwise activation         the steepest slope
    softmax                        1/2, the norm of diag(p) - p p^T at p = (1/2, 1/2)
    layer, group, instance norm    max |gamma| / sqrt(eps): what they do to an input without contrast
    local response norm            k^-beta (1 + 2 sqrt(n) (beta / (1 + beta))^(1 + beta)), for n channels in a window
    padding, nearest upsampling    sqrt of how often one pixel is repeated

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3.
Departures: the paper takes every max-pool for contractive; with overlapping windows none is. It bounds contrast
normalisation x / (eps + |x|^2)^gamma by eps^-gamma; where windows overlap, more is possible, and is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from models.convolution import Convolution

_WRITTEN_OUT = 1024  # inputs or outputs of a layer up to which it is made a matrix
_ENTRIES = 4e7  # of that matrix
DRAWN = 256
"""Singular values that are kept of a layer, at most."""
_ROUNDING = 1 + 1e-9
_POWERS = 60  # of a mean
_SLOPES: dict[type[nn.Module], float] = {
    nn.ReLU: 1.0, nn.ReLU6: 1.0, nn.Tanh: 1.0, nn.Sigmoid: 0.25, nn.Hardtanh: 1.0, nn.Softplus: 1.0, nn.Softsign: 1.0,
    nn.LogSigmoid: 1.0, nn.Hardsigmoid: 1 / 6, nn.Hardswish: 1.5, nn.GELU: 1.1290, nn.SiLU: 1.0999, nn.Mish: 1.0885,
    nn.SELU: 1.7581, nn.CELU: 1.0, nn.Tanhshrink: 1.0, nn.Softshrink: 1.0,
}  # fmt: skip
_MOVING = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Flatten,
    nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.ZeroPad2d, nn.ConstantPad2d,
)  # fmt: skip
_PADS = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate", nn.CircularPad2d: "circular"}


@dataclass(frozen=True)
class Norm:
    """What a layer can do to the length of a change, between two bounds.

    Attributes:
        low: that much is attained, or nearly; 0 where nothing is known from below.
        high: no more is possible.
        how: how that is known.
        singular: some of its singular values, descending, evenly by their rank, the largest among them; or none.
        printed: a strided convolution's Fourier form as the paper prints it, with S^-2; NaN for other layers.
    """

    low: float
    high: float
    how: str
    singular: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    printed: float = math.nan


def layer_norm(module: nn.Module, shape: tuple[int, ...]) -> Norm | None:
    """That of a layer in evaluation mode whose input has that shape, without the batch; None where nothing is known.

    Its parameters are read in float64; a subclass with a `forward` of its own is not known.
    """
    for kind, known in _KNOWN:
        if isinstance(module, kind):
            same = type(module).forward is kind.forward and "forward" not in vars(module)
            with torch.no_grad():
                return known(module, shape) if same else None
    if isinstance(module, nn.CELU) and not module.alpha > 0:
        return None  # its slope grows without bound on one side
    if type(module) in _SLOPES:
        return _exact(_SLOPES[type(module)], "steepest slope")
    return _exact(1.0, "moves entries") if type(module) in _MOVING else None


def written_out(matrix: Tensor, how: str = "decomposition", printed: float = math.nan) -> Norm:
    """That of a matrix (m, n)."""
    m, n = matrix.shape
    gram = matrix @ matrix.T if m <= n else matrix.T @ matrix
    values = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt()
    top = float(values[-1]) if len(values) else 0.0
    return Norm(top, top * _ROUNDING, how, thinned(values), printed)


def thinned(values: Tensor) -> Tensor:
    """At most 256 of some singular values (n,), descending, evenly by their rank, the first and the last among them."""
    ordered = values.sort(descending=True).values
    places = torch.linspace(0, len(ordered) - 1, min(DRAWN, len(ordered))).round().long()
    return ordered[places]


def convolved(conv: Convolution) -> Norm:
    """That of a convolution."""
    inputs, outputs = conv.sizes
    size, stride, factor = conv.grids()[0]
    plain = math.prod(conv.stride)
    if min(inputs, outputs) <= _WRITTEN_OUT and inputs * outputs <= _ENTRIES:
        printed = conv.above() / math.sqrt(plain) if plain > 1 else math.nan
        return written_out(conv.matrix(), printed=printed)
    scan = conv.scan(size, stride)
    high = min([factor * scan.longest, *(f * conv.scan(s, t).longest for s, t, f in conv.grids()[1:])])
    printed = high / math.sqrt(plain) if plain > 1 else math.nan
    kept = thinned(scan.all())
    if conv.whole:
        return Norm(high, high * _ROUNDING, "Fourier form", kept, printed)
    return Norm(conv.below(scan), high * _ROUNDING, "Fourier form above, Lanczos below", kept, printed)


def _exact(value: float, how: str) -> Norm:
    return Norm(value, value * _ROUNDING, how)


def _dense(module: Any, shape: tuple[int, ...]) -> Norm:
    return written_out(module.weight.detach().double())


def _conv(module: Any, shape: tuple[int, ...]) -> Norm:
    return convolved(Convolution.of(module, shape))


def _conv_1d(module: Any, shape: tuple[int, ...]) -> Norm:
    around = tuple(module._reversed_padding_repeated_twice)
    kernel = module.weight.detach().double()[:, :, None]
    pads, stride, dilation = ((0, 0), (around[0], around[1])), (1, module.stride[0]), (1, module.dilation[0])
    seen = (shape[0], 1, shape[1])
    return convolved(Convolution(kernel, seen, stride, pads, dilation, module.groups, module.padding_mode))


def _conv_transposed(module: Any, shape: tuple[int, ...]) -> Norm:
    kernel = module.weight.detach().double()  # (inputs, outputs / groups, h, w), as the other one has it
    out = F.conv_transpose2d(
        torch.zeros(1, *shape, dtype=torch.float64), kernel, None, module.stride, module.padding,
        module.output_padding, module.groups, module.dilation,
    ).shape[1:]  # fmt: skip
    pads = [(p, p) for p in module.padding]
    adjoint = Convolution(
        kernel, (out[0], out[1], out[2]), module.stride, (pads[0], pads[1]), module.dilation, module.groups
    )
    return convolved(adjoint)


def _batch_norm(module: Any, shape: tuple[int, ...]) -> Norm | None:
    if module.training or module.running_mean is None:
        return None
    factor = (module.running_var.double() + module.eps).rsqrt()
    return _exact(float((factor if module.weight is None else factor * module.weight.double()).abs().max()), "factor")


def _max_pool(module: Any, shape: tuple[int, ...]) -> Norm | None:
    """Counts the windows that each pixel is in."""
    if module.return_indices:
        return None
    kernel, stride, around, dilation = (
        _two(v) for v in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    places = module(torch.zeros(1, 1, *shape[-2:], dtype=torch.float64)).shape[-2:]
    times = 1
    for a in (0, 1):
        taps = torch.arange(kernel[a]) * dilation[a]
        read = (torch.arange(places[a])[:, None] * stride[a] - around[a] + taps).flatten()
        read = read[(read >= 0) & (read < shape[-2 + a])]
        times *= int(read.bincount().max())
    return _exact(math.sqrt(times), "windows of a pixel")


def _adaptive_max_pool(module: Any, shape: tuple[int, ...]) -> Norm | None:
    if module.return_indices:
        return None
    times = 1
    for n, wanted in zip(shape[-2:], _two(module.output_size), strict=True):
        out = n if wanted is None else wanted
        counts = torch.zeros(n)
        for i in range(out):
            counts[i * n // out : -(-(i + 1) * n // out)] += 1
        times *= int(counts.max())
    return _exact(math.sqrt(times), "windows of a pixel")


def _mean(module: Any, shape: tuple[int, ...]) -> Norm | None:
    """Of a linear map without negative entries that treats all channels alike."""
    if getattr(module, "divisor_override", None) is not None and module.divisor_override < 0:
        return None
    one = (1, *shape[1:]) if len(shape) == 3 else shape
    return nonnegative(module, one)


def nonnegative(linear: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Norm:
    """That of a linear map A without negative entries, from a power iteration: any v > 0 holds it from both sides.

    |A v| / |v| <= |A| <= max_j sqrt((A^T A v)_j / v_j), by Collatz and Wielandt.
    """
    v = torch.ones(1, *shape, dtype=torch.float64)
    low, high = 0.0, math.inf
    for _ in range(_POWERS):
        with torch.enable_grad():
            leaf = v.detach().requires_grad_()
            out = linear(leaf)
            (back,) = torch.autograd.grad(out, leaf, out.detach())
        read = back > 0
        low = max(low, float(torch.linalg.vector_norm(out.detach()) / torch.linalg.vector_norm(v)))
        high = min(high, float((back[read] / v[read]).max().sqrt()))
        v = back / back.max()  # 0 where no pixel is read
    return Norm(low, high * _ROUNDING, "power iteration")


def _upsampled(module: Any, shape: tuple[int, ...]) -> Norm | None:
    if module.mode not in ("nearest", "nearest-exact", "bilinear"):
        return None  # bicubic has negative entries
    return nonnegative(module, (1, *shape[1:]))


def _padded(module: Any, shape: tuple[int, ...]) -> Norm:
    left, right, top, bottom = module.padding
    mode = next(mode for kind, mode in _PADS.items() if isinstance(module, kind))
    pixel = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    map_ = Convolution(pixel, (1, shape[-2], shape[-1]), around=((top, bottom), (left, right)), mode=mode)
    return _exact(math.sqrt(map_.repeats(0) * map_.repeats(1)), "times that a pixel is repeated")


def _contrast(module: Any, shape: tuple[int, ...]) -> Norm | None:
    if (isinstance(module, nn.InstanceNorm2d) and module.track_running_stats) or not module.eps > 0:
        return None
    gamma = 1.0 if module.weight is None else float(module.weight.detach().double().abs().max())
    return Norm(0.0, gamma / math.sqrt(module.eps) * _ROUNDING, "input without contrast")


def _response(module: Any, shape: tuple[int, ...]) -> Norm | None:
    k, beta, n = float(module.k), float(module.beta), int(module.size)
    if not (k > 0 and beta >= 0 and module.alpha >= 0):
        return None
    more = 1 + 2 * math.sqrt(n) * (beta / (1 + beta)) ** (1 + beta)
    return Norm(k**-beta, k**-beta * more * _ROUNDING, "response norm: at 0 below, all windows above")


def _softmax(module: Any, shape: tuple[int, ...]) -> Norm:
    return _exact(0.5, "steepest slope")


def _leaky(module: Any, shape: tuple[int, ...]) -> Norm:
    slope = module.weight.detach() if isinstance(module, nn.PReLU) else torch.tensor(float(module.negative_slope))
    return _exact(max(1.0, float(slope.abs().max())), "steepest slope")


def _elu(module: Any, shape: tuple[int, ...]) -> Norm:
    return _exact(max(1.0, abs(float(module.alpha))), "steepest slope")


def _two(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, int) or value is None else (value[0], value[1])


_KNOWN: tuple[tuple[Any, Callable[[Any, tuple[int, ...]], Norm | None]], ...] = (
    (nn.Linear, _dense), (nn.Conv2d, _conv), (nn.Conv1d, _conv_1d), (nn.ConvTranspose2d, _conv_transposed),
    (nn.MaxPool2d, _max_pool), (nn.AdaptiveMaxPool2d, _adaptive_max_pool), (nn.AvgPool2d, _mean),
    (nn.AdaptiveAvgPool2d, _mean), (_BatchNorm, _batch_norm), (nn.Upsample, _upsampled), (nn.LayerNorm, _contrast),
    (nn.GroupNorm, _contrast), (nn.InstanceNorm2d, _contrast), (nn.LocalResponseNorm, _response),
    *((kind, _padded) for kind in _PADS), (nn.Softmax, _softmax), (nn.LeakyReLU, _leaky), (nn.PReLU, _leaky),
    (nn.ELU, _elu),
)  # fmt: skip
