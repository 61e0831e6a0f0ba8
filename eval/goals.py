"""What the attacks of a run aim at: away from the label, or at a class chosen for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.rng import Rng
from eval.data.classes import class_number

RULES = ("untargeted", "least_likely", "random", "next")


def fixed_class(rule: str, classes: Sequence[str]) -> int | None:
    """The class that every sample is to be taken for, by number or name; None for a rule of `RULES`.

    Raises:
        InputError: there is neither such a rule nor such a class.
    """
    if rule in RULES:
        return None
    return class_number(rule, classes, "goal", RULES)


def eligible(rule: str, labels: np.ndarray[Any, Any], classes: Sequence[str]) -> np.ndarray[Any, Any]:
    """Indices of the samples that the goal makes sense for: not those that already are of the wanted class."""
    fixed = fixed_class(rule, classes)
    return np.arange(len(labels)) if fixed is None else np.flatnonzero(labels != fixed)


def make(rule: str, labels: Tensor, least_likely: Tensor, classes: Sequence[str], rng: Rng) -> Goal:
    """The goals of a batch.

    Args:
        rule: `untargeted`; `least_likely` class of the source; `random`, another class drawn per sample; `next`,
            the label plus one; or one class for all.
        labels: (B,).
        least_likely: class (B,) with the source's smallest logit.
        classes: names.
        rng: streams of the samples.
    """
    if rule == "untargeted":
        return Goal(labels)
    count = len(classes)
    fixed = fixed_class(rule, classes)
    if fixed is not None:
        return Goal(labels, torch.full_like(labels, fixed))
    if rule == "least_likely":
        # where the network is so wrong that the label itself is the least likely, take the next class
        return Goal(labels, torch.where(least_likely == labels, (labels + 1) % count, least_likely))
    step = torch.ones_like(labels) if rule == "next" else rng.integers(count - 1) + 1
    return Goal(labels, (labels + step) % count)
