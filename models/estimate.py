"""The course of a fit of which gradients had no part: what was computed from the samples, measured once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.errors import ModelError
from models.history import Epoch, History
from models.recipe import TrainConfig
from models.source import Source
from models.spec import Network

_BATCH = 1024


def estimated(
    network: Network,
    config: TrainConfig,
    source: Source,
    index: np.ndarray[Any, Any],
    held_out: np.ndarray[Any, Any],
    device: torch.device,
) -> History:
    """Measure a network that was computed from the samples `index` on these and on those held out: one epoch.

    Raises:
        ModelError: there is nothing that could be learnt, and the recipe or the network needs that.
    """
    if network.estimate is None:
        raise ModelError(f"train: {network.description} must have a parameter to learn, it has none")
    if config.method != "standard":
        raise ModelError(f"train={config.method}: must have something to learn, {network.description} has nothing")
    start = time.perf_counter()
    _, *shape = source.batch(index[:1]).shape
    view = network.bare("training", (shape[0], shape[1], shape[2])).to(device)
    loss, accuracy = _measured(view, source, index, device)
    val_loss, val_accuracy = _measured(view, source, held_out, device) if len(held_out) else (None, None)
    only = Epoch(0, loss, accuracy, val_loss, val_accuracy, 0.0, time.perf_counter() - start)
    return History([only], best=0, samples=len(index), held_out=len(held_out))


@torch.no_grad()
def _measured(
    view: nn.Module, source: Source, index: np.ndarray[Any, Any], device: torch.device
) -> tuple[float, float]:
    """Mean loss and accuracy of a network on the samples `index` (n,)."""
    labels = np.asarray(source.labels)
    loss = right = 0.0
    for start in range(0, len(index), _BATCH):
        part = index[start : start + _BATCH]
        y = torch.from_numpy(labels[part].copy()).to(device)
        logits = view(source.batch(part).to(device))
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
        right += float((logits.argmax(1) == y).sum())
    return loss / len(index), right / len(index)
