"""The first correctly classified samples, batch by batch: what every probe of the diagnosis works on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.rng import Rng
from eval.data import Samples
from models.classifier import Classifier


@dataclass(frozen=True)
class Batch:
    """Some samples that the network classifies correctly.

    Attributes:
        ids: (b,) str.
        x: images (b, C, H, W), on the device.
        goal: away from their labels.
        rng: a stream for each.
    """

    ids: list[str]
    x: Tensor
    goal: Goal
    rng: Rng


def batches(
    classifier: Classifier,
    samples: Samples,
    images: int,
    batch_size: int,
    device: torch.device,
    seed: int,
    name: str,
) -> Iterator[Batch]:
    """The first `images` samples that are classified correctly, in order; fewer if there are not so many."""
    found = 0
    for start in range(0, len(samples), batch_size):
        index = np.arange(start, min(start + batch_size, len(samples)))
        x = samples.batch(index).to(device)
        labels = torch.as_tensor(samples.labels[index], device=device)
        with torch.no_grad():
            right = torch.nonzero(classifier(x).argmax(1) == labels)[:, 0][: images - found]
        if len(right) == 0:
            continue
        ids = samples.ids[index[right.cpu().numpy()]].tolist()
        rng = Rng.of(seed, ["diagnosis", name], ids, device)
        yield Batch(ids, x[right], Goal(labels[right]), rng)
        found += len(right)
        if found >= images:
            return
