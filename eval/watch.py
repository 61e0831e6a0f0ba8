"""Somebody who watches a search: what the network is asked, and what comes of it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from eval.data import Samples
from eval.meter import Meter
from models.classifier import Classifier


class Watcher(Protocol):
    """Watches the batches of one unit of work, one after the other."""

    def begin(self, meter: Meter, x: Tensor, goal: Goal) -> Logits:
        """The network that the search is given in place of the meter, for the images `x` (B, C, H, W)."""

    def end(self, classifier: Classifier, x_adv: Tensor, samples: Samples) -> None:
        """Look at the candidates (B, C, H, W) for the samples, on the whole network."""

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """What was seen in all batches, as `numpy.savez` takes it; empty if nothing was."""
