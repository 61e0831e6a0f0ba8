"""The norm of a convolution from both sides: how much longer it can make a change of its input.

A cyclic convolution with kernel w (dilated taps at the places t), of maps of n places per axis, every S-th output kept,
is block diagonal in the frequencies. At each of the n / S coarse ones, xi,

    A(xi) = S^-1 (w^(xi + l n / S))_l = 0..S-1 per axis,    w^(xi) = sum_t w_t exp(-2 pi i xi t / n),

a matrix (outputs, inputs * S) in two dimensions (inputs * S * S), and the norm is the largest singular value of them
all. Other paddings are parts of a cyclic one, or go through a map P that repeats pixels, |P|^2 = the most often that
one is repeated:

    zeros       the part of the cyclic one on n + reach - 1 places or more, a multiple of S, that reads the map
    circular    that of n itself: exact where all its outputs are there once; else at most sqrt(times) of it
    reflect, replicate    |W| <= |cyclic on the padded map| |P|

From below it is held by Lanczos' bidiagonalisation, which starts at the wave that the Fourier form says is the longest,
and whose values never exceed the norm. Where inputs or outputs are few, the layer is written out: both are equal.

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3; Sedghi,
Gupta and Long, ICLR 2019 (arXiv 1805.10408); Golub and Kahan, SIAM J. Numer. Anal. 2 (1965), for the bidiagonal form.
Departures: the paper prints S^-2 in place of S^-1, which is S times too small.
Cost: from above a Hermitian eigenvalue problem of min(outputs, inputs S^2) a frequency, half of which are looked at;
from below a forward and a backward of the layer each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]

_AT_ONCE = 1 << 22  # complex numbers of the blocks that are held
_FINE = 1 - 1e-10  # what rounding may add to Lanczos' values
MODES = ("zeros", "circular", "reflect", "replicate")


@dataclass(frozen=True)
class Scan:
    """The singular values of a cyclic convolution.

    Attributes:
        size: of its maps.
        stride: of it.
        values: (rows, columns, groups, values), ascending along the last axis; of the columns about half.
    """

    size: Pair
    stride: Pair
    values: Tensor

    @property
    def longest(self) -> float:
        """The greatest of them."""
        return float(self.values.max())

    def all(self) -> Tensor:
        """Those of the other columns too, (n,), in no order."""
        columns = self.size[1] // self.stride[1]
        return torch.cat([self.values, self.values[:, 1 : (columns + 1) // 2]], 1).flatten()


@dataclass(frozen=True)
class Convolution:
    """A convolution of maps of one shape, without its bias.

    Attributes:
        kernel: (outputs, inputs / groups, h, w), float64.
        shape: (C, H, W) of its input.
        stride: per axis.
        around: pixels added before and after, per axis.
        dilation: per axis.
        groups: of channels.
        mode: what is added: one of `MODES`.
    """

    kernel: Tensor
    shape: tuple[int, int, int]
    stride: Pair = (1, 1)
    around: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    mode: str = "zeros"

    @classmethod
    def of(cls, conv: nn.Conv2d, shape: tuple[int, ...]) -> Convolution:
        """That of a layer."""
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        channels, high, wide = shape
        return cls(
            conv.weight.detach().double(), (channels, high, wide), _pair(conv.stride), ((top, bottom), (left, right)),
            _pair(conv.dilation), conv.groups, conv.padding_mode,
        )  # fmt: skip

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W), float64, to (B, outputs, ...)."""
        (top, bottom), (left, right) = self.around
        if any((top, bottom, left, right)):
            x = F.pad(x, (left, right, top, bottom), "constant" if self.mode == "zeros" else self.mode)
        return F.conv2d(x, self.kernel, None, self.stride, 0, self.dilation, self.groups)

    def reach(self, axis: int) -> int:
        """Places from the first to the last tap."""
        return int(self.dilation[axis] * (self.kernel.shape[2 + axis] - 1) + 1)

    def places(self, axis: int) -> int:
        """Of the output."""
        return (self.shape[1 + axis] + sum(self.around[axis]) - self.reach(axis)) // self.stride[axis] + 1

    @property
    def sizes(self) -> Pair:
        """How many numbers go in and come out."""
        return math.prod(self.shape), len(self.kernel) * self.places(0) * self.places(1)

    def matrix(self) -> Tensor:
        """Written out: (outputs, inputs)."""
        eye = torch.eye(math.prod(self.shape), dtype=self.kernel.dtype).view(-1, *self.shape)
        return self(eye).flatten(1).T

    def repeats(self, axis: int) -> int:
        """How often the padding repeats one pixel, at most, itself included."""
        if self.mode == "zeros" or not any(self.around[axis]):
            return 1
        numbers = torch.arange(self.shape[1 + axis], dtype=torch.float64)[None, None, None]
        padded = F.pad(numbers, (*self.around[axis], 0, 0), self.mode)
        return int(padded.long().flatten().bincount().max())

    @property
    def whole(self) -> bool:
        """Whether the Fourier form is the norm itself: the cyclic convolution, or pixel by pixel without padding."""
        if self.reach(0) == self.reach(1) == 1 and not any(map(sum, self.around)):
            return True
        return self.mode == "circular" and all(self.places(a) * self.stride[a] == self.shape[1 + a] for a in (0, 1))

    def grids(self) -> list[tuple[Pair, Pair, float]]:
        """Sizes and strides of cyclic convolutions that bound this one, each with the factor by which it does."""
        if self.reach(0) == self.reach(1) == 1:
            return [((1, 1), (1, 1), math.sqrt(self.repeats(0) * self.repeats(1)))]
        padded = []
        for a in (0, 1):
            most = self.shape[1 + a] + sum(self.around[a])
            if self.mode == "zeros":
                most = min(most, self.shape[1 + a] + self.reach(a) - 1)
            padded.append(-(-most // self.stride[a]) * self.stride[a])
        found = [((padded[0], padded[1]), self.stride, math.sqrt(self.repeats(0) * self.repeats(1)))]
        if self.mode == "circular":
            strides, times = [], 1
            for a, (n, s) in enumerate(zip(self.shape[1:], self.stride, strict=True)):
                strides.append(s if n % s == 0 else 1)
                times *= int((torch.arange(self.places(a)) * s % n).bincount().max())
            own = ((self.shape[1], self.shape[2]), (strides[0], strides[1]), math.sqrt(times))
            found = [own] if times == 1 else [own, *found]
        return found

    def above(self) -> float:
        """A bound from above, by the Fourier form; the norm itself where `whole`."""
        return min(factor * self.scan(size, stride).longest for size, stride, factor in self.grids())

    def scan(self, size: Pair, stride: Pair) -> Scan:
        """All singular values of a cyclic convolution with this kernel."""
        values = [
            torch.linalg.eigvalsh(_gram(blocks)).clamp(min=0.0).sqrt() for _, blocks in self._blocks(size, stride)
        ]
        return Scan(size, stride, torch.cat(values))

    def _blocks(self, size: Pair, stride: Pair) -> Iterator[tuple[int, Tensor]]:
        """A(xi) as (rows, columns, groups, outputs / groups, inputs / groups * S * S), for some coarse rows at once.

        Each comes with the number of its first row; of the columns half are given, the others are their conjugates.
        """
        waves = [_waves(size[a], stride[a], self.dilation[a], int(self.kernel.shape[2 + a])) for a in (0, 1)]
        high, wide = waves[0], waves[1][: size[1] // stride[1] // 2 + 1]  # (rows, S, h), (columns, S, w)
        outputs, inputs = self.kernel.shape[:2]
        own = self.kernel.view(self.groups, outputs // self.groups, inputs, *self.kernel.shape[2:])
        across = torch.einsum("goihw,bew->goihbe", own.to(wide.dtype), wide) / math.sqrt(math.prod(stride))
        held = self.kernel[:, :, 0, 0].numel() * len(wide) * math.prod(stride)
        step = max(1, _AT_ONCE // held)
        for first in range(0, len(high), step):
            some = torch.einsum("goihbe,adh->abgoide", across, high[first : first + step])
            yield first, some.flatten(4)

    def longest_wave(self, scan: Scan) -> Tensor:
        """A map (C, H, W) near the one that is lengthened most: the longest wave, fading towards the borders."""
        stride, top = scan.stride, scan.values[..., -1]
        size = (self.shape[1], self.shape[2]) if scan.size == (1, 1) else scan.size
        where = [int(i) for i in torch.unravel_index(top.argmax(), top.shape)]
        found = next(b[where[0] - first] for first, b in self._blocks(scan.size, stride) if where[0] < first + len(b))
        found = found[where[1], where[2]]
        across = torch.linalg.svd(found, full_matrices=False).Vh[0]  # its conjugate is the right vector; a correlation
        inputs, coarse = self.kernel.shape[1], (size[0] // stride[0], size[1] // stride[1])
        spectrum = torch.zeros(self.shape[0], *size, dtype=across.dtype)
        own = slice(where[2] * inputs, (where[2] + 1) * inputs)
        spectrum[own, where[0] :: coarse[0], where[1] :: coarse[1]] = across.view(inputs, stride[0], stride[1])
        wave = torch.fft.ifft2(spectrum).real
        wave = wave.roll((-self.around[0][0], -self.around[1][0]), (1, 2))[:, : self.shape[1], : self.shape[2]]
        if self.mode == "zeros":
            fade = [torch.sin(math.pi * (torch.arange(n).double() + 1) / (n + 1)) for n in self.shape[1:]]
            wave = wave * fade[0][:, None] * fade[1]
        longest: Tensor = wave / torch.linalg.vector_norm(wave).clamp(min=1e-300)
        return longest

    def below(self, scan: Scan, steps: int = 60, accuracy: float = 1e-6) -> float:
        """A value that is attained, so that the norm is no smaller; `scan` is of the first of `grids`."""
        g = torch.Generator().manual_seed(0)
        start = self.longest_wave(scan) + 0.1 * _unit(torch.randn(self.shape, generator=g, dtype=torch.float64))
        return lanczos(self, start, steps, accuracy)


def lanczos(linear: Callable[[Tensor], Tensor], start: Tensor, steps: int, accuracy: float) -> float:
    """A value of |W x| / |x| that a linear map attains, near its norm: from below.

    Args:
        linear: (1, ...) -> (1, ...).
        start: an input without the batch, not 0.
        steps: at most.
        accuracy: it ends when three steps together have gained less, relative to the value.
    """
    v, beta, before = _unit(start), 0.0, None
    alphas: list[float] = []
    betas: list[float] = []
    values: list[float] = []
    for _ in range(min(steps, v.numel())):
        with torch.enable_grad():
            leaf = v[None].detach().requires_grad_()
            out = linear(leaf)
        u = out.detach() if before is None else out.detach() - beta * before
        alphas.append(float(u.norm()))
        bidiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
        bidiagonal += torch.diag(torch.tensor(betas, dtype=torch.float64), 1)
        values.append(float(torch.linalg.svdvals(bidiagonal)[0]))
        if alphas[-1] <= 1e-12 * values[-1] or (len(values) > 3 and values[-1] <= values[-4] * (1 + accuracy)):
            break
        before = u / alphas[-1]
        (back,) = torch.autograd.grad(out, leaf, before)
        back = back[0] - alphas[-1] * v
        beta = float(back.norm())
        if beta <= 1e-12 * values[-1]:
            break
        v = back / beta
        betas.append(beta)
    return values[-1] * _FINE


def _unit(x: Tensor) -> Tensor:
    one: Tensor = x / torch.linalg.vector_norm(x)
    return one


def _gram(blocks: Tensor) -> Tensor:
    return blocks @ blocks.mH if blocks.shape[-2] <= blocks.shape[-1] else blocks.mH @ blocks


def _waves(size: int, stride: int, dilation: int, taps: int) -> Tensor:
    """exp(-2 pi i f t / size) at the taps t, for the frequencies f of each coarse one: (coarse, stride, taps)."""
    frequencies = torch.arange(size).view(stride, size // stride).T  # (coarse, stride)
    turns = frequencies[..., None] * (dilation * torch.arange(taps)) % size
    return torch.exp(-2j * math.pi * turns.double() / size)


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
