"""Many small pictures on one sheet. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.studies.reading import Pictures

Array = np.ndarray[Any, Any]


def sheet(images: Array, columns: int | None = None, gap: int = 1) -> Array:
    """Images (n, C, H, W) in rows, white between them: (C, rows, columns) of pixels; as near to a square as can be."""
    n, channels, height, width = images.shape
    across = columns or max(1, round((n * height / width) ** 0.5))
    down = -(-n // across)
    page = np.ones((channels, down * (height + gap) - gap, across * (width + gap) - gap), np.float32)
    for i, image in enumerate(images):
        top, left = (i // across) * (height + gap), (i % across) * (width + gap)
        page[:, top : top + height, left : left + width] = image
    return page


def around_grey(weights: Array) -> Array:
    """Weights (n, ...) as values in 0..1, zero as 0.5; each of the n as strong as its largest weight allows."""
    peak = np.abs(weights).reshape(len(weights), -1).max(axis=1, initial=1e-12)
    relative: Array = weights / peak.reshape(-1, *[1] * (weights.ndim - 1))
    return 0.5 + 0.5 * relative


def filters(measured: Mapping[str, Mapping[str, Array]], labels: Mapping[str, str]) -> tuple[Pictures, ...]:
    """The sheets of what the probe `eval.filters.Filters` measured, one a network; none if it measured none."""
    sheets = []
    for name in [*(n for n in labels if n in measured), *(n for n in measured if n not in labels)]:
        weights = measured[name].get("weights")
        if weights is None:
            continue
        units = int(measured[name]["units"])
        shown = f"{len(weights)} of {units} units" if len(weights) < units else f"{units} units"
        image = sheet(around_grey(weights))
        if image.shape[0] not in (1, 3):
            image = image.mean(axis=0, keepdims=True)
        sheets.append((f"{labels.get(name, name)}, {shown}", image))
    if not sheets:
        return ()
    note = "The weights of each unit of the first layer, zero in grey, each as strong as its largest weight allows."
    return (Pictures("filters", "Learned filters", note, tuple(sheets)),)
