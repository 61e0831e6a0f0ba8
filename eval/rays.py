"""Logits along the ray of the gradient's sign, and how far a network is from linear there.

    z(e) = logits(x + e * sign(grad_x J(x, y))),   e from -reach to reach

The linear explanation of adversarial examples says that each logit is close to a straight line in e, that the lead of
the most dangerous class over the label grows by nearly eps * ||w||_1, where w is the gradient of that lead, and that
the network is wrong over a wide stretch of e, not in small pockets.

Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015 (arXiv 1412.6572),
section 3 and figure 4.
Departures: the paper shows one sample; here are as many as one likes. As there, no point is clipped to the box.
Cost: per sample, 2 backwards and `points` + 2 forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.losses import lead, logits_and_gradient, loss_named
from eval.data import Samples
from eval.errors import InputError
from eval.trial import Arrays
from models.classifier import Classifier

RAYS = "rays"
"""Name of the probe in a run's folder."""
_KEPT = ("logits", "x", "direction", "weights")  # of a few samples alone
_FLAT = 1e-6  # of a logit's range, beside its size: what rounding alone can do


def straightness(e: Tensor, z: Tensor) -> Tensor:
    """R^2 of the least-squares line through each logit z (S, K) as a function of e (S,), (K,).

    NaN for a logit that is constant up to rounding, to which any line of no slope is a perfect fit and R^2 is 0 / 0.
    """
    e, z = e.double(), z.double()
    centred, dev = e - e.mean(), z - z.mean(0)  # (S,), (S, K)
    total = dev.square().sum(0)
    explained = (centred @ dev).square() / centred.square().sum()
    flat = z.amax(0) - z.amin(0) <= _FLAT * (1.0 + z.abs().amax(0))
    return torch.where(flat, torch.nan, explained / total)


@dataclass(frozen=True)
class Rays:
    """Traces samples.

    Attributes:
        eps: at which the rise of the lead is measured, in box units.
        straight: the lines are fitted for |e| <= straight.
        reach: the ray ends at -reach and reach.
        points: of the ray, an odd number, so that e = 0 is among them.
        shown: samples whose logits are kept, from the first one.
    """

    eps: float = 0.25
    straight: float = 0.5
    reach: float = 1.0
    points: int = 161
    shown: int = 6

    def __post_init__(self) -> None:
        if not (self.points >= 3 and self.points % 2 == 1):
            raise InputError(f"points: must be an odd number of at least 3, got {self.points}")
        if not 0 < self.straight <= self.reach:
            raise InputError(f"reach: must be at least {self.straight:g}, where lines are fitted, got {self.reach:g}")

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What the rays of the samples say.

        Returns:
            `sample` (n,) ids; `label` (n,); `e` (S,); `prediction` (n, S); `r2` (n, K), NaN for constant logits;
            `predicted` (n,), eps * ||w||_1, and `measured` (n,), the rise of the lead of the class that is next to the
            label, or that is predicted in its place, between e = 0 and eps; of the first samples `logits` (m, S, K),
            `x` (m, C, H, W), `direction` (m, C, H, W), the gradient's sign, and `weights` (m, C, H, W), w.
        """
        e = torch.linspace(-self.reach, self.reach, self.points, device=device)
        e[self.points // 2] = 0.0
        rows: dict[str, list[np.ndarray[Any, Any]]] = {}
        for start in range(0, len(samples), batch_size):
            index = np.arange(start, min(start + batch_size, len(samples)))
            x = samples.batch(index).to(device)
            goal = Goal(torch.as_tensor(samples.labels[index], device=device))
            for name, values in self._trace(classifier, x, goal, e, batch_size).items():
                most = max(0, self.shown - start) if name in _KEPT else len(index)
                rows.setdefault(name, []).append(values[:most].cpu().numpy())
        found = {name: np.concatenate(parts) for name, parts in rows.items()}
        return found | {"sample": samples.ids, "label": samples.labels, "e": e.cpu().numpy()}

    def _trace(self, classifier: Classifier, x: Tensor, goal: Goal, e: Tensor, batch_size: int) -> dict[str, Tensor]:
        before, gradient = logits_and_gradient(classifier, x, loss_named("ce"), goal)
        direction = gradient.sign()
        rival = before.scatter(1, goal.labels[:, None], -torch.inf).argmax(1)  # (B,)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            ahead, _ = lead(classifier(leaf), rival, goal.labels)
        (w,) = torch.autograd.grad(ahead.sum(), leaf)
        with torch.no_grad():
            after, _ = lead(classifier(x + self.eps * direction), rival, goal.labels)
            z = torch.stack(
                [
                    torch.cat([classifier(a + s.view(-1, 1, 1, 1) * d) for s in torch.split(e, batch_size)])
                    for a, d in zip(x, direction, strict=True)
                ]
            )  # (B, S, K)
        near = e.abs() <= self.straight * (1 + 1e-6)
        return {
            "prediction": z.argmax(2).to(torch.int32),
            "r2": torch.stack([straightness(e[near], one[near]) for one in z]),
            "predicted": self.eps * w.flatten(1).abs().sum(1),
            "measured": (after - ahead).detach(),
            "logits": z,
            "x": x,
            "direction": direction,
            "weights": w,
        }
