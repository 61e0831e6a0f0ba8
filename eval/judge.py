"""Whether a candidate really is adversarial. Attacks propose, the judge decides: it alone writes `success`.

Every candidate goes through the target network again, in float32 and as it would come back from an 8-bit file; its
size is measured in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.norms import NORMS, rms
from attacks.threat import ThreatModel, quantize, widest

Columns = dict[str, Tensor]


@torch.no_grad()
def predict(network: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, K), predicted classes (B,), -1 where a logit is not finite, and their softmax probabilities (B,)."""
    logits = network(x)
    prediction = torch.where(logits.isfinite().all(dim=1), logits.argmax(dim=1), -1)
    return logits, prediction, logits.softmax(dim=1).amax(dim=1)


def rank(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes of `logits` (B, K) come before the label (B,): (B,); -1 where a logit is not finite.

    Of classes with the same logit the first comes first, as in a prediction: 0 exactly where the label is predicted.
    """
    own = logits.gather(1, labels[:, None])  # (B, 1)
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    before = ((logits > own) | ((logits == own) & earlier)).sum(dim=1)
    return torch.where(logits.isfinite().all(dim=1), before, -1)


@torch.no_grad()
def judge(network: Callable[[Tensor], Tensor], x: Tensor, x_adv: Tensor, goal: Goal, threat: ThreatModel) -> Columns:
    """What becomes of the candidates `x_adv` (B, C, H, W) for the images `x` on one network.

    Returns:
        Columns (B,) named as in `eval.records.COLUMNS`: `adv_pred`, `adv_conf`, `adv_rank`, `success`, `success_8bit`,
        `in_box`, `in_budget` and the sizes. A candidate with a NaN is outside the box, and no success; neither is one
        for which the network has no finite answer.
    """
    delta = (widest(x_adv) - widest(x)).flatten(1)  # (B, D)
    in_box = threat.inside_box(x_adv)
    in_budget = threat.within(x_adv, x)
    logits, prediction, confidence = predict(network, x_adv)
    rounded, rounded_prediction, _ = predict(network, quantize(x_adv, threat.box))
    legal = in_box & in_budget & (prediction >= 0)
    return {
        "adv_pred": prediction,
        "adv_conf": confidence,
        "adv_rank": rank(logits, goal.labels),
        "success": legal & goal.reached(logits),
        # box and budget are those before rounding, which is no choice of the attacker's
        "success_8bit": in_box & in_budget & (rounded_prediction >= 0) & goal.reached(rounded),
        "in_box": in_box,
        "in_budget": in_budget,
        **{name: norm.size(delta) for name, norm in NORMS.items()},
        "rms": rms(delta),
    }
