"""Several searches of a sample in one batch: its restarts, and its target classes one by one.

The first search runs alone, since most samples that fall at all fall to it; the others follow in groups of fixed size,
on the samples that are left. So no outcome depends on the batch. A sample that leaves takes all its searches along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.rng import Rng

_GROUP = 4  # searches of a sample in one batch


@dataclass(frozen=True)
class Searches:
    """R searches that share a batch.

    Attributes:
        owner: sample (R,) of each.
        aim: what each tries to reach: the goal, or one of the classes that reach it.
        rng: their streams.
        again: rows (R,), bool, that repeat an earlier search of the same sample and aim.
        alone: whether each sample has one.
    """

    owner: Tensor
    aim: Goal
    rng: Rng
    again: Tensor
    alone: bool


def likeliest(logits: Logits, x: Tensor, goal: Goal, count: int) -> Tensor:
    """The `count` likeliest classes (B, T) of the images besides their labels, or as many as there are; one forward."""
    with torch.no_grad():
        z = logits(x)
    others = z.scatter(1, goal.labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return others[:, : min(count, z.shape[1] - 1)]


def searches(
    logits: Logits, x: Tensor, goal: Goal, rng: Rng, left: Callable[[], Tensor], *, restarts: int, targets: int
) -> Iterator[Searches]:
    """All searches of the samples that are left, group by group: first to every target class, then the restarts.

    Args:
        logits: the network, asked once where there are target classes.
        x: images (B, C, H, W).
        goal: of the same samples. One with a target has its class.
        rng: a stream per sample.
        left: tells the samples (b,) that go on; asked before each group.
        restarts: of each search.
        targets: classes, 0 to follow the goal itself.
    """
    wanted = likeliest(logits, x, goal, targets) if targets > 0 and goal.targets is None else None
    each = 1 if wanted is None else wanted.shape[1]
    start, total = 0, restarts * each
    while start < total and len(samples := left()) > 0:
        runs = range(start, min(start + (_GROUP if start > 0 else 1), total))
        owner = samples.repeat(len(runs))
        aim = goal[owner]
        if wanted is not None:
            aim = aim.towards(torch.cat([wanted[samples, run % each] for run in runs]))
        streams = Rng(torch.cat([rng[samples].fold(run).keys for run in runs]))
        again = torch.tensor([run >= each for run in runs], device=owner.device).repeat_interleave(len(samples))
        yield Searches(owner, aim, streams, again, len(runs) == 1)
        start = runs.stop
