"""Measured values of batches, put together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from eval.trial import Arrays


def stacked(rows: Mapping[str, list[Tensor]]) -> Arrays:
    """One array a name, from the tensors of the batches; empty where there were none."""
    return {name: torch.cat(parts).cpu().numpy() if parts else np.zeros(0) for name, parts in rows.items()}
