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


@pytest.mark.parametrize("held", [1, 200, 1 << 20], ids=["each", "some", "all"])
def test_margins_that_nobody_asks_for_are_looked_at_later_with_the_same_end(
    monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr("attacks.best._HELD", held)
    draw = torch.Generator().manual_seed(1)
    goal = Goal(torch.randint(0, 3, (6,), generator=draw))
    images = torch.rand(6, 1, 1, 2, generator=draw)
    best = Best(images, ThreatModel("linf", 0.1), leave=False)
    point, score = images.clone(), torch.full((6,), -torch.inf)
    for step in range(30):
        z = torch.randint(-4, 4, (6, 3), generator=draw).float()  # whole numbers, so that many margins are equal
        z[step % 6] = torch.nan
        z[(step + 1) % 6, step % 3] = -torch.inf
        points = torch.rand(6, 1, 1, 2, generator=draw)
        if step == 17:
            assert torch.equal(best.score, score)
        if step % 5 == 4:  # scores of another kind between them
            margin = torch.randn(6, generator=draw)
            hit = torch.zeros(6, dtype=torch.bool)
            assert best.offer(margin, hit, points, goal, lambda x: x) is None
        else:
            margin = goal.margin(z).nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # infinity says that a sample left
            assert best.update(z, points, goal, lambda x: x) is None
        for i in range(6):
            if margin[i] > score[i]:
                point[i], score[i] = points[i], margin[i]
    assert len(best.unbroken()) == 6
    assert torch.equal(best.point, point)
    assert torch.equal(best.score, score)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_point_until_a_sample_leaves_is_kept_whoever_left_before(seed: int) -> None:
    """Beside a loop over samples and steps."""

    def network(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    draw = torch.Generator().manual_seed(seed)
    steps, n = 12, 6
    levels = torch.randint(0, 256, (steps, n, 1, 2, 2), generator=draw) / 255  # which rounding leaves as they are
    levels[:, :, :, 0, 0] = (levels[:, :, :, 0, 0] + 0.6).clamp(max=1)  # few hit
    asks = torch.rand(steps, generator=draw) < 0.5
    goal = Goal(torch.zeros(n, dtype=torch.int64))
    best = Best(torch.full((n, 1, 2, 2), 0.5), ThreatModel("linf", 0.5), leave=True)
    rows, here = torch.arange(n), goal
    for t in range(steps):
        x = levels[t][rows]
        going = best.update(network(x), x, here, network, rough=False, asks=bool(asks[t]))
        if going is not None:
            rows = rows[going]
            here = goal[rows]
        assert torch.equal(rows, best.owner)
    for i in range(n):
        point, most = None, -torch.inf
        for t in range(steps):
            margin = float(goal[torch.tensor([i])].margin(network(levels[t, i : i + 1])))
            left = asks[t] and margin >= 0 and bool(goal[torch.tensor([i])].reached(network(levels[t, i : i + 1])))
            if margin > most or left:
                point, most = levels[t, i], margin
            if left:
                break
        assert torch.equal(best.point[i], point)
