"""The best point per sample, of images in any precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.apgd import APGD
from attacks.best import Best
from attacks.fab import FAB
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel, unlimited

ATTACKS: dict[str, Any] = {
    "apgd": APGD(steps=20),
    "apgd targeted": APGD(steps=20, loss="dlr", targets=3),
    "fab": FAB(minimal=False, steps=10),
    "fab minimal": FAB(steps=10, restarts=2),
    "square": Square(queries=60),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ATTACKS)
def test_images_keep_their_precision(
    mlp: nn.Sequential,
    images: Callable[..., Tensor],
    streams: Callable[[int], Rng],
    own_labels: Callable[[nn.Module, Tensor], Goal],
    name: str,
    norm: str,
    dtype: torch.dtype,
) -> None:
    attack, x = ATTACKS[name], images(12)
    goal = own_labels(mlp, x)
    threat = unlimited(norm) if attack.minimal else ThreatModel(norm, {"linf": 0.2, "l2": 1.0, "l1": 4.0}[norm])
    if norm not in attack.norms:
        pytest.skip(f"{name} has no {norm}")
    x = x.to(dtype)
    found = attack(mlp.to(dtype), x, goal, threat, rng=streams(12))
    assert found.dtype == dtype
    assert bool(goal.reached(mlp(found)).any())
    assert bool((threat.size(found, x) <= threat.eps * (1 + 1e-5)).all())


@pytest.mark.parametrize("owner", [[0, 1, 2, 3], [1, 3]], ids=["all", "some"])
def test_one_row_a_sample_is_kept_as_several_are(owner: list[int]) -> None:
    draw = torch.Generator().manual_seed(0)
    threat = ThreatModel("linf", 0.1)
    goal = Goal(torch.zeros(len(owner), dtype=torch.int64))
    one, several = (Best(torch.zeros(4, 1, 1, 2), threat, leave=True) for _ in range(2))
    several.alone = False
    for _ in range(20):
        for best in (one, several):
            best.owner = torch.tensor(owner)
        score = torch.randn(len(owner), generator=draw)
        score[0] = torch.where(score[0] < -0.5, -torch.inf, score[0])
        points = torch.rand(len(owner), 1, 1, 2, generator=draw)
        hit = torch.zeros(len(owner), dtype=torch.bool)
        for best in (one, several):
            assert best.offer(score, hit, points, goal, lambda x: x) is None
        assert torch.equal(one.point, several.point)
        assert torch.equal(one.score, several.score)
