"""How a gradient search goes: its loss step by step, and whether it reaches its goal where nothing can prevent that.

The search is the plain PGD of `attacks.pgd`, watched from outside: every point that it asks the network about is one of
its path. Beside the budget it is run where only the box limits it (any image can become any other one, so that it must
always succeed), and at half the width of the box in Linf (any image can become grey, so that no more than chance
remains).

Sources: Carlini et al., "On evaluating adversarial robustness" (arXiv 1902.06705), section 5; Athalye, Carlini and
Wagner, ICML 2018 (arXiv 1802.00420), section 3.1; Pintor et al., NeurIPS 2022 (arXiv 2106.09947), I3 to I6; Tramer et
al., NeurIPS 2020 (arXiv 2002.08347), on losses that are not consistent with success.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.losses import loss_named
from attacks.pgd import PGD
from attacks.threat import ThreatModel, parse_eps
from eval.data import Samples
from eval.diagnosis.batches import Batch, batches
from eval.diagnosis.rows import stacked
from eval.trial import Arrays
from models.classifier import Classifier


class Recorder:
    """A network that writes down the loss and the success of every point that a search asks about.

    Attributes:
        losses: cross-entropy (b,) of each forward.
        reached: success (b,) of each forward.
    """

    def __init__(self, network: Logits, goal: Goal) -> None:
        self.losses: list[Tensor] = []
        self.reached: list[Tensor] = []
        self._network, self._goal = network, goal

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (b, K) of all b images."""
        z = self._network(x)
        seen = z.detach()
        self.losses.append(loss_named("ce").value(seen, self._goal))
        self.reached.append(self._goal.reached(seen))
        return z


@dataclass(frozen=True)
class Paths:
    """Follows a search that does not leave early.

    Attributes:
        norm: of the budget.
        eps: text of the budget.
        images: correctly classified samples, at most.
        steps: of the search.
    """

    norm: str = "linf"
    eps: str = "8/255"
    images: int = 24
    steps: int = 20

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was seen.

        Returns:
            `loss` (n, steps + 1) and `reached` (n, steps + 1) bool along the path, from the image on; `last` (n,) bool,
            whether the last point reaches the goal; `unbounded` and `grey` (n,) bool, whether the searches without a
            budget and at half the width of the box succeed; `num_classes` ().
        """
        threat = ThreatModel(self.norm, parse_eps(self.eps), classifier.bounds)
        low, high = classifier.bounds
        rows: dict[str, list[Tensor]] = {name: [] for name in ("loss", "reached", "last", "unbounded", "grey")}
        for batch in batches(classifier, samples, self.images, batch_size, device, seed, "paths"):
            recorder = Recorder(classifier, batch.goal)
            PGD(steps=self.steps, random_start=False, early_stop=False)(
                recorder, batch.x, batch.goal, threat, rng=batch.rng
            )
            rows["loss"].append(torch.stack(recorder.losses, 1))
            rows["reached"].append(torch.stack(recorder.reached, 1))
            rows["last"].append(recorder.reached[-1])
            rows["unbounded"].append(self._found(classifier, batch, high - low))
            rows["grey"].append(self._found(classifier, batch, (high - low) / 2))
        return stacked(rows)

    def _found(self, classifier: Classifier, batch: Batch, eps: float) -> Tensor:
        far = ThreatModel("linf", eps, classifier.bounds)
        attack = PGD(steps=self.steps, random_start=False, loss="margin")
        x_adv = attack(classifier, batch.x, batch.goal, far, rng=batch.rng.fold(1))
        with torch.no_grad():
            return batch.goal.reached(classifier(x_adv))
