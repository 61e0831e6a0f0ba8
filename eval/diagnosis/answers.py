"""What a network's answers are like: whether they repeat, whether they are logits, and what happens inside forward.

Sources: the automatic flags of AutoAttack (Croce and Hein, ICML 2020, arXiv 2003.01690): randomised answers are those
whose logits, divided by their L2 norm, differ by more than 1e-4 between repeated forwards; probabilities those in
[0, 1] that sum to 1; dynamic networks those that call autograd in their forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.data import Samples
from eval.diagnosis.batches import batches
from eval.diagnosis.rows import stacked
from eval.trial import Arrays
from models.classifier import Classifier

_REPEATS = 12
_ALONE = 8  # images that are shown alone


@contextmanager
def autograd_calls() -> Iterator[list[str]]:
    """Notes who calls for gradients while it is open."""
    calls: list[str] = []
    engine: Any = torch.autograd  # all ways lead through this one, `torch.func` and names imported elsewhere too
    run = engine._engine_run_backward

    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append("backward")
        return run(*args, **kwargs)

    engine._engine_run_backward = noted
    try:
        yield calls
    finally:
        engine._engine_run_backward = run


def _unit(z: Tensor) -> Tensor:
    unit: Tensor = z / z.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return unit


@dataclass(frozen=True)
class Answers:
    """Shows the same images again and again, alone and together.

    Attributes:
        images: correctly classified samples, at most.
    """

    images: int = 16

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was seen.

        Returns:
            `images` (), how many were looked at; of each image `repeat` (n,), the largest difference of its
            normalised logits between two forwards, `turned` (n,) bool, whether its class changed, `levels` (n,), how
            many different values its logits have; `alone` (m,), the difference between alone and in a batch;
            `probabilities` () bool; `autograd` (), how often forward called for gradients; `num_classes` ().
        """
        size = min(batch_size, self.images)
        repeat, turned, levels, probabilities, alone = [], [], [], [], []
        dynamic = 0
        for batch in batches(classifier, samples, self.images, size, device, seed, "answers"):
            with torch.no_grad():
                z = torch.stack([classifier(batch.x) for _ in range(_REPEATS)])  # (R, b, K)
                single = torch.cat([classifier(x[None]) for x in batch.x[:_ALONE]])
            with autograd_calls() as calls:
                classifier(batch.x)
            dynamic += len(calls)
            unit = torch.stack([_unit(one) for one in z])
            repeat.append((unit - unit[0]).abs().amax((0, 2)))
            turned.append((z.argmax(2) != z[0].argmax(1)).any(0))
            levels.append(torch.tensor([len(row.unique()) for row in z[0]]))
            inside = ((z[0] >= -1e-5) & (z[0] <= 1 + 1e-5)).all(1)
            probabilities.append(inside & ((z[0].sum(1) - 1).abs() < 1e-5 * z.shape[2]))
            alone.append((_unit(single) - _unit(z[0][: len(single)])).abs().amax(1))
        columns = {"repeat": repeat, "turned": turned, "levels": levels, "alone": alone}
        found = stacked(columns)
        return found | {
            "images": np.array(len(found["repeat"])),
            "probabilities": np.array(bool(probabilities) and bool(torch.cat(probabilities).all())),
            "autograd": np.array(dynamic),
            "num_classes": np.array(classifier.num_classes),
        }
