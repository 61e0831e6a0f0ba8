"""Whether other searches find what a gradient search misses: the signs that gradients are masked.

A plain PGD runs first, on the cross-entropy and then on the margin; then more of the same: twice the steps, another
start, one class after the other. What all of that leaves standing is tried by searches that should not be stronger: one
gradient step, half of the budget, points drawn at random, a search by scores alone. Each of these that breaks a sample
proves that the gradient searches were misled there.

Sources: Carlini et al., "On evaluating adversarial robustness" (arXiv 1902.06705), section 5; Athalye, Carlini and
Wagner, "Obfuscated gradients give a false sense of security", ICML 2018 (arXiv 1802.00420), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from attacks.apgd import APGD
from attacks.base import Attack
from attacks.fgsm import FGSM
from attacks.pgd import PGD
from attacks.square import Square
from attacks.threat import ThreatModel, parse_eps
from eval.data import Samples
from eval.diagnosis.batches import Batch, batches
from eval.diagnosis.rows import stacked
from eval.trial import Arrays
from models.classifier import Classifier

_TARGETS = 9  # likeliest other classes


@dataclass(frozen=True)
class Searches:
    """Tries on the survivors of a gradient search what should not be stronger than it, and more of the same.

    Attributes:
        norm: of the budget.
        eps: text of the budget.
        images: correctly classified samples, at most.
        steps: of the first search.
        draws: random points for each survivor.
        queries: of the search by scores, for each survivor; none for norms that it does not support.
    """

    norm: str = "linf"
    eps: str = "8/255"
    images: int = 64
    steps: int = 20
    draws: int = 100
    queries: int = 300

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was found.

        Returns:
            Per image (n,) bool: `pgd`, broken by the first search; of what it left, `longer`, `again` and `targeted`;
            and of what these left, `step`, `half`, `noise` and `scores`: broken by that. `sample` (n,) ids.
        """
        rows: dict[str, list[Tensor]] = {}
        ids: list[str] = []
        for batch in batches(classifier, samples, self.images, batch_size, device, seed, "searches"):
            for name, broken in self._tried(classifier, batch).items():
                rows.setdefault(name, []).append(broken)
            ids += batch.ids
        return stacked(rows) | {"sample": np.array(ids, dtype=str)}

    def _tried(self, classifier: Classifier, batch: Batch) -> dict[str, Tensor]:
        threat = ThreatModel(self.norm, parse_eps(self.eps), classifier.bounds)
        smaller = ThreatModel(self.norm, threat.eps / 2, threat.box)
        pgd = PGD(steps=self.steps, random_start=False)
        first = torch.zeros(len(batch.x), dtype=torch.bool, device=batch.x.device)
        for loss in ("ce", "margin"):
            left = torch.nonzero(~first)[:, 0]
            first[left] = self._broken(replace(pgd, loss=loss), classifier, batch, left, threat, 0)
        found = {"pgd": first}
        standing = ~first

        def tried(number: int, name: str, attack: Attack, budget: ThreatModel) -> None:
            left = torch.nonzero(standing)[:, 0]
            found[name] = torch.zeros_like(first)
            found[name][left] = self._broken(attack, classifier, batch, left, budget, number)

        tried(1, "longer", replace(pgd, steps=2 * self.steps, loss="margin"), threat)
        tried(2, "again", PGD(steps=self.steps, loss="margin"), threat)
        tried(3, "targeted", APGD(steps=self.steps, loss="dlr", targets=_TARGETS, early_stop=True), threat)
        standing = standing & ~found["longer"] & ~found["again"] & ~found["targeted"]
        tried(4, "step", FGSM(), threat)
        tried(5, "half", replace(pgd, loss="margin"), smaller)
        if self.norm in Square.norms and self.queries > 0:
            tried(6, "scores", Square(queries=self.queries), threat)
        left = torch.nonzero(standing)[:, 0]
        found["noise"] = torch.zeros_like(first)
        found["noise"][left] = self._drawn(classifier, batch, left, threat)
        return found

    def _broken(
        self, attack: Attack, classifier: Classifier, batch: Batch, index: Tensor, threat: ThreatModel, number: int
    ) -> Tensor:
        """Which of the samples `index` (b,) the attack breaks."""
        if len(index) == 0:
            return index.bool()
        goal = batch.goal[index]
        x_adv = attack(classifier, batch.x[index], goal, threat, rng=batch.rng[index].fold(number))
        with torch.no_grad():
            return goal.reached(classifier(x_adv)) & threat.within(x_adv, batch.x[index])

    @torch.no_grad()
    def _drawn(self, classifier: Classifier, batch: Batch, index: Tensor, threat: ThreatModel) -> Tensor:
        """Which of them some random point of the budget's surface or inside breaks."""
        broken = torch.zeros(len(index), dtype=torch.bool, device=index.device)
        if len(index) == 0:
            return broken
        x, goal, rng = batch.x[index], batch.goal[index], batch.rng[index].fold(-1)
        for draw in range(self.draws):
            point = threat.random_start(x, rng.fold(draw))
            if draw % 2:
                point = threat.steepest(x, point - x)  # as far as it may go
            broken |= goal.reached(classifier(point))
        return broken
