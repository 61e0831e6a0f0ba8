"""What lies below and above a step whose inputs are known to lie in an interval: two lines for each entry.

ReLU and leaky ReLU: the chord above; below, of the two lines through 0, the one that leaves out less. Sigmoid and
tanh: tangent and chord where the curve bends one way alone, else two parallel lines of the smallest slope. Max-pool:
below, the entry with the largest lower bound; above, the same entry if it always wins, else the largest upper bound.

Source: Zhang et al., "Efficient neural network robustness certification with general activation functions" (CROWN),
NeurIPS 2018 (arXiv 1811.00866); Singh et al., "An abstract domain for certifying neural networks" (DeepPoly), POPL
2019, for the parallel lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Lines:
    """below_slope z + below <= step(z) <= above_slope z + above, each (B, ...), for z in the interval."""

    below_slope: Tensor
    below: Tensor
    above_slope: Tensor
    above: Tensor


def lines(module: nn.Module, low: Tensor, high: Tensor) -> Lines:
    """Of an activation whose inputs lie in [low, high], each (B, ...)."""
    if isinstance(module, nn.Sigmoid | nn.Tanh):
        return _curved(module, low, high)
    slope = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
    at_low, at_high = torch.where(low > 0, low, slope * low), torch.where(high > 0, high, slope * high)
    chord = torch.where(low >= 0, 1.0, torch.where(high <= 0, slope, (at_high - at_low) / (high - low)))
    lower = torch.where(low >= 0, 1.0, torch.where(high <= 0, slope, torch.where(high > -low, 1.0, slope)))
    return Lines(lower, torch.zeros_like(low), chord, at_low - chord * low)


def _curved(module: nn.Module, low: Tensor, high: Tensor) -> Lines:
    def slope(z: Tensor) -> Tensor:
        y: Tensor = module(z)
        return y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y * y

    at_low, at_high = module(low), module(high)
    least = torch.minimum(slope(low), slope(high))  # slopes rise up to 0 and fall from there
    wide = high - low > 1e-6
    chord = torch.where(wide, (at_high - at_low) / torch.where(wide, high - low, 1.0), least)
    middle = (low + high) / 2
    tangent, touched = slope(middle), module(middle)
    convex, concave = wide & (high <= 0), wide & (low >= 0)
    below_slope = torch.where(convex, tangent, torch.where(concave, chord, least))
    above_slope = torch.where(concave, tangent, torch.where(convex, chord, least))
    below = torch.where(convex, touched - tangent * middle, at_low - below_slope * low)
    above = torch.where(concave, touched - tangent * middle, at_high - above_slope * high)
    return Lines(below_slope, below, above_slope, above)


@dataclass(frozen=True)
class Choice:
    """Of each window of a max-pool.

    Attributes:
        entry: number (B, C, windows) of the entry of its channel that is a bound from below.
        wins: whether that entry is the largest whatever happens (B, C, windows).
        most: the largest upper bound (B, C, windows).
    """

    entry: Tensor
    wins: Tensor
    most: Tensor


def choice(pool: nn.MaxPool2d, low: Tensor, high: Tensor) -> Choice:
    """Of a max-pool whose inputs lie in [low, high], each (B, C, H, W)."""
    _, entry = F.max_pool2d(
        low, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    most = pool(high).flatten(2)
    entry = entry.flatten(2)
    # the upper bounds without the entry itself: it wins where none of the others can exceed its lower bound
    own = low.flatten(2).gather(2, entry)
    rivals = _second(pool, high, entry)
    return Choice(entry, own >= rivals, most)


def _second(pool: nn.MaxPool2d, high: Tensor, entry: Tensor) -> Tensor:
    """The largest upper bound (B, C, windows) among the entries of each window but `entry`."""
    number = torch.arange(high.shape[2] * high.shape[3], dtype=high.dtype).view(1, 1, *high.shape[2:])
    windows, places = _unfolded(pool, high, -torch.inf), _unfolded(pool, number, -1.0)
    mine = places == entry[:, :, None]  # (B, C, cells, windows)
    return windows.masked_fill(mine, -torch.inf).amax(2)


def _unfolded(pool: nn.MaxPool2d, x: Tensor, outside: float) -> Tensor:
    """The entries (B, C, cells, windows) of each window of x (B, C, H, W), `outside` beyond the map."""
    sides = [_pair(v) for v in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)]
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = sides
    rows, columns = pool(x).shape[2:]
    down = (rows - 1) * sh + dh * (kh - 1) + 1 - x.shape[2] - ph  # as far as the last window reaches
    across = (columns - 1) * sw + dw * (kw - 1) + 1 - x.shape[3] - pw
    padded = F.pad(x, (pw, max(across, 0), ph, max(down, 0)), value=outside)
    cells = [
        padded[:, :, i * dh : i * dh + (rows - 1) * sh + 1 : sh, j * dw : j * dw + (columns - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    return torch.stack([cell.flatten(2) for cell in cells], 2)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
