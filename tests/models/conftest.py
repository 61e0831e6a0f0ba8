from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

torch.set_num_threads(1)


class Blobs:
    """Images of three classes, each brighter in a corner of its own."""

    def __init__(self, count: int = 90, side: int = 8, channels: int = 1) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(count, dtype=np.int64) % 3
        images = rng.random((count, channels, side, side), dtype=np.float32) * 0.6
        half = side // 2
        for i, label in enumerate(self.labels):
            top, left = divmod(int(label), 2)
            images[i, :, top * half : (top + 1) * half, left * half : (left + 1) * half] += 0.3
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        return self.images[torch.from_numpy(index)]


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()
