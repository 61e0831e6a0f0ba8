"""Rank correlation: whether two maps order their places alike, whatever their scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Ranks (n,) of `values` (n,), float64, from 0; those that are the same share the mean of theirs.

    >>> ranks(torch.tensor([3.0, 1.0, 3.0]))
    tensor([1.5000, 0.0000, 1.5000], dtype=torch.float64)
    """
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    shared: Tensor = last - (counts.double() + 1) / 2
    return shared[inverse]


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of two maps of the same shape; NaN where one is constant."""
    a, b = (ranks(values.detach().cpu().flatten()) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a.square().sum()) * float(b.square().sum()))
    return float((a * b).sum()) / size if size > 0 else math.nan
