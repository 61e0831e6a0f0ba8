"""What training needs of a data set, and the samples that it holds out."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from models.errors import ModelError
from models.spec import derive


class Source(Protocol):
    """Labelled images, read when they are needed."""

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Class of each sample, (n,)."""

    def __len__(self) -> int:
        """Number of samples n."""

    def batch(self, index: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        """The images of the samples `index` (b,): (b, C, H, W) float32 in box units."""


def split(labels: np.ndarray[Any, Any], fraction: float, seed: int) -> tuple[Any, Any]:
    """Indices to train and to validate on: `fraction` of each class is held out."""
    order = np.random.default_rng(derive(seed, "validation")).permutation(len(labels))
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held[members[: round(fraction * len(members))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_labels(labels: np.ndarray[Any, Any], num_classes: int) -> None:
    """Refuse labels (n,) that nothing can be learnt from.

    Raises:
        ModelError: there are fewer than two, or one is of no class.
    """
    if len(labels) < 2:
        raise ModelError(f"train: there must be at least 2 training samples, got {len(labels)}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ModelError(f"train: labels must be in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}")
