"""Some correctly classified samples, batch by batch: what the probes of the diagnosis, and others, work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.rng import Rng
from eval.data import Samples, in_turn
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
    """Samples that are classified correctly, at most `images` of them, whose classes take turns.

    Networks that classify much the same samples correctly get much the same of them.

    Cost: a forward of each, and of those that would have been among them and are not classified correctly.
    """
    chosen = _chosen(classifier, samples, images, batch_size, device, seed)
    for part in _parts(len(chosen), batch_size):
        index = chosen[part]
        ids = samples.ids[index].tolist()
        labels = torch.as_tensor(samples.labels[index], device=device)
        rng = Rng.of(seed, ["diagnosis", name], ids, device)
        yield Batch(ids, samples.batch(index).to(device), Goal(labels), rng)


def _chosen(
    classifier: Classifier, samples: Samples, images: int, batch_size: int, device: torch.device, seed: int
) -> npt.NDArray[np.int64]:
    """The first of `in_turn` among all that are classified correctly; what was not asked of yet is taken for right."""
    hopeful = np.ones(len(samples), dtype=np.bool_)
    asked = ~hopeful
    while True:
        chosen = in_turn(samples.labels, seed, hopeful)[:images]
        open_ = chosen[~asked[chosen]]
        if not len(open_):
            return chosen
        for part in _parts(len(open_), batch_size):
            index = open_[part]
            hopeful[index] = _right(classifier, samples, index, device)
        asked[open_] = True


def _parts(n: int, size: int) -> list[npt.NDArray[np.int64]]:
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


@torch.no_grad()
def _right(
    classifier: Classifier, samples: Samples, index: npt.NDArray[np.int64], device: torch.device
) -> npt.NDArray[np.bool_]:
    said = classifier(samples.batch(index).to(device)).argmax(1).cpu().numpy()
    found: npt.NDArray[np.bool_] = said == samples.labels[index]
    return found
