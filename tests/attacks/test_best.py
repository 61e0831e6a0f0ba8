"""The best point per sample, of images in any precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks import best as attacks_best
from attacks.apgd import APGD
from attacks.base import Attack, Pull
from attacks.best import Best
from attacks.fab import FAB
from attacks.goal import Goal
from attacks.pgd import PGD
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
            margin[(margin == 0) & goal.reached(z)] = 1e-30
            assert best.update(z, points, goal, lambda x: x) is None
        for i in range(6):
            if margin[i] > score[i]:
                point[i], score[i] = points[i], margin[i]
    assert torch.equal(best.point, point)
    assert len(best.unbroken()) == 6
    assert torch.allclose(best.score, score, atol=1e-29)


@pytest.mark.parametrize("held", [1, 400, 1 << 20], ids=["each", "some", "all"])
@pytest.mark.parametrize("seed", range(20))
def test_the_best_point_until_a_sample_leaves_is_kept_whoever_left_before(
    monkeypatch: pytest.MonkeyPatch, seed: int, held: int
) -> None:
    """Beside a loop over samples and steps."""
    monkeypatch.setattr("attacks.best._HELD", held)

    def network(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    draw = torch.Generator().manual_seed(seed)
    steps, n = 12, 6
    levels = torch.randint(0, 256, (steps, n, 1, 2, 2), generator=draw) / 255  # which rounding leaves as they are
    asks = torch.rand(steps, generator=draw) < 0.5
    goal = Goal(torch.randint(0, 3, (n,), generator=draw))
    for i, label in enumerate(goal.labels):
        levels[:, i].flatten(1)[:, label] = (levels[:, i].flatten(1)[:, label] + 0.6).clamp(max=1)  # few hit
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
            if margin == 0 and bool(goal[torch.tensor([i])].reached(network(levels[t, i : i + 1]))):
                margin = 1e-30
            if margin > most or left:
                point, most = levels[t, i], margin
            if left:
                break
        assert torch.equal(best.point[i], point)


class SameMemory:
    """A network that answers in the same memory each time, as those do that are replayed or bound to it."""

    offers_vjp = True

    def __init__(self, network: nn.Module, classes: int) -> None:
        self.network, self.answer = network, torch.empty(64, classes)

    def __call__(self, x: Tensor) -> Tensor:
        return self.answer[: len(x)].copy_(self.network(x))

    def vjp(self, x: Tensor) -> tuple[Tensor, Pull]:
        leaf = x.detach().requires_grad_()
        logits = self.network(leaf)
        with torch.no_grad():
            return self.answer[: len(x)].copy_(logits), lambda g: torch.autograd.grad(logits, leaf, g)[0]


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("attack", [PGD, APGD])
def test_answers_in_memory_that_is_used_again_stay_those_of_their_points(
    mlp: nn.Sequential,
    images: Callable[..., Tensor],
    streams: Callable[[int], Rng],
    own_labels: Callable[[nn.Module, Tensor], Goal],
    attack: Callable[..., Attack],
    early_stop: bool,
) -> None:
    x = images(40)
    goal, threat = own_labels(mlp, x), ThreatModel("linf", 0.05)
    search = attack(steps=20, loss="logit", early_stop=early_stop) if attack is PGD else attack(early_stop=early_stop)
    found = [search(network, x, goal, threat, rng=streams(40)) for network in (mlp, SameMemory(mlp, 5))]
    assert torch.equal(*found)


def test_what_waits_to_be_looked_through_takes_no_more_memory_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attacks.best._HELD", 1000)
    best = Best(torch.zeros(4, 1, 2, 2), ThreatModel("linf", 0.1), leave=False)
    goal = Goal(torch.zeros(4, dtype=torch.int64))
    most = 0
    for _ in range(40):
        wide = torch.rand(4, 5000)  # of which three columns are the answer
        assert best.update(wide[:, :3], torch.rand(4, 1, 2, 2), goal, lambda x: x) is None
        kept = {
            part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
            for some in best._unsettled
            for part in some.points + some.told
        }
        most = max(most, sum(kept.values()))
    assert 500 < most <= 1000


@pytest.mark.parametrize("attack", [PGD(steps=60), APGD(steps=60)], ids=["pgd", "apgd"])
def test_where_no_sample_leaves_points_are_looked_through_seldom(
    monkeypatch: pytest.MonkeyPatch,
    mlp: nn.Sequential,
    images: Callable[..., Tensor],
    streams: Callable[[int], Rng],
    own_labels: Callable[[nn.Module, Tensor], Goal],
    attack: Attack,
) -> None:
    looked = []
    scores = attacks_best.scores
    monkeypatch.setattr("attacks.best.scores", lambda *asked: looked.append(1) or scores(*asked))
    x = images(10)
    attack(mlp, x, own_labels(mlp, x), ThreatModel("linf", 1e-4), rng=streams(10))
    assert len(looked) == 1


def test_points_of_samples_that_left_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    scores = attacks_best.scores
    monkeypatch.setattr("attacks.best.scores", lambda *asked: looked.append(len(asked[1])) or scores(*asked))
    goal = Goal(torch.zeros(5, dtype=torch.int64))
    best = Best(torch.zeros(5, 1, 1, 2), ThreatModel("linf", 1.0), leave=True)
    rows = torch.arange(5)
    for step in range(4):  # of which each breaks one sample
        points = torch.zeros(5 - step, 1, 1, 2)
        points[0, ..., 1] = 1.0
        going = best.update(points.flatten(1), points, goal[rows], lambda x: x.flatten(1), rough=False)
        assert going is not None
        rows = rows[going]
    assert best.unbroken().tolist() == rows.tolist() == [4]
    assert looked == []
    assert best.point[:, 0, 0, 1].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert looked == [1, 1, 1, 1]  # of each step the sample that is left


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_of_ties_the_one_that_reaches_the_goal_is_kept(asks: bool, alone: bool) -> None:
    best = Best(torch.zeros(1, 1, 1, 3), ThreatModel("linf", 1.0), leave=False)
    best.alone = alone
    goal = Goal(torch.tensor([1]))
    points = [torch.tensor(z).view(1, 1, 1, 3) for z in ([-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0])]
    for point in points:
        best.update(point.flatten(1), point, goal, lambda x: x.flatten(1), asks=asks)
    assert torch.equal(best.point, points[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("alone", [False, True])
def test_no_margin_says_by_itself_that_a_sample_has_left(dtype: torch.dtype, alone: bool) -> None:
    best = Best(torch.zeros(1, 1, 1, 2, dtype=dtype), ThreatModel("linf", 1.0), leave=False)
    best.alone = alone
    for most in (1e30, torch.inf):
        z = torch.tensor([[0.0, most]], dtype=dtype)
        best.update(z, torch.ones(1, 1, 1, 2, dtype=dtype), Goal(torch.tensor([0])), lambda x: x)
        assert bool((best.score < torch.inf).all())
        assert best.unbroken().tolist() == [0]


def flat(x: Tensor) -> Tensor:
    """A network whose logits are the pixels."""
    return x.flatten(1)


def pixels(*values: list[float]) -> Tensor:
    return torch.tensor(values).view(len(values), 1, 1, -1)


def test_with_a_row_all_searches_of_its_sample_leave_and_of_equals_the_earlier_is_kept() -> None:
    best = Best(torch.zeros(2, 1, 1, 3), ThreatModel("linf", 1.0), leave=True)
    goal = Goal(torch.tensor([0, 0]))
    first = pixels([1.0, 0.0, 0.2], [1.0, 0.0, 0.6])  # margins of -0.8 and -0.4
    assert best.update(flat(first), first, goal, flat, rough=False) is None
    best.owner, best.alone = torch.tensor([0, 1, 0, 1]), False
    rows = pixels(
        [0.0, 1.0, 0.0], [1.0, 0.6, 0.0], [1.0, 0.0, 0.0], [1.0, 0.6, 0.1]
    )  # the first hits; ties of sample 1
    going = best.update(flat(rows), rows, goal[best.owner], flat, rough=False)
    assert going is not None
    assert going.tolist() == [False, True, False, True]
    assert best.owner.tolist() == [1, 1]
    assert best.unbroken().tolist() == [1]
    assert torch.equal(best.point, torch.cat([rows[:1], first[1:]]))


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "by a device"])
@pytest.mark.parametrize(
    ("hits", "leaves"),
    [
        (lambda off: off > 0, False),
        (lambda off: off == 0, False),
        (lambda off: off >= 0, True),
    ],
    ids=["not rounded", "not as it is", "both"],
)
def test_a_rough_hit_is_confirmed_as_it_is_and_rounded(
    monkeypatch: pytest.MonkeyPatch, waits: bool, hits: Callable[[Tensor], Tensor], leaves: bool
) -> None:
    monkeypatch.setattr("attacks.asking.waits", lambda x: waits)

    def network(x: Tensor) -> Tensor:
        off = (x * 255 - torch.round(x * 255)).abs().flatten(1).amax(1).round(decimals=3)  # from the nearest level
        return torch.stack([torch.zeros_like(off), hits(off).float() - 0.5], 1)

    best = Best(torch.zeros(1, 1, 1, 2), ThreatModel("linf", 1.0), leave=True)
    goal, point = Goal(torch.zeros(1, dtype=torch.int64)), pixels([0.3 / 255, 7 / 255])
    going = best.update(torch.tensor([[0.0, 1.0]]), point, goal, network, rough=True)
    assert going is not None
    assert going.tolist() == [not leaves]
    assert torch.equal(best.point, point if leaves else torch.zeros_like(point))
    assert best.unbroken().tolist() == ([] if leaves else [0])


def test_where_a_question_waits_for_the_device_nothing_is_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attacks.asking.waits", lambda x: True)
    best = Best(torch.zeros(2, 1, 1, 3), ThreatModel("linf", 1.0), leave=False)
    goal, points = Goal(torch.tensor([0, 0])), pixels([1.0, 0.0, 0.2], [1.0, 0.0, 0.6])
    best.update(flat(points), points, goal, flat)
    monkeypatch.setattr(Best, "_settle", lambda best: None)
    assert torch.equal(best.point, points)


def test_when_there_was_too_much_it_is_looked_through_as_seldom_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    goal, points = Goal(torch.tensor([0])), pixels([1.0, 0.0, 0.2])
    monkeypatch.setattr("attacks.best._HELD", 4 * 2 * points.nbytes)  # points and logits of four steps
    looked = []
    settle = Best._settle
    monkeypatch.setattr(Best, "_settle", lambda best: looked.append(1) or settle(best))
    best = Best(torch.zeros(1, 1, 1, 3), ThreatModel("linf", 1.0), leave=False)
    times = []
    for _ in range(12):
        best.update(flat(points), points, goal, flat)
        times.append(len(looked))
    assert times == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_margins_of_float64_are_held_as_others_are() -> None:
    best = Best(torch.zeros(1, 1, 1, 3, dtype=torch.float64), ThreatModel("linf", 1.0), leave=False)
    points = pixels([1.0, 0.0, 0.2]).double()
    best.hold(torch.tensor([-0.5], dtype=torch.float64), points)
    best.hold(torch.tensor([-0.75], dtype=torch.float64), torch.zeros_like(points))
    assert best.score.tolist() == [-0.5]
    assert torch.equal(best.point, points)
