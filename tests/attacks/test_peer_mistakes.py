"""Wrong results that libraries of the field have shipped silently; each of them must not happen here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.base import Attack
from attacks.fgsm import FGSM
from attacks.foolbox import Foolbox
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.noise import Noise
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited

Images = Callable[..., Tensor]
Streams = Callable[[int], Rng]
BUDGETED: dict[str, Attack] = {
    "fgsm": FGSM(),
    "pgd": PGD(steps=10, restarts=3, momentum=0.9),
    "noise": Noise(draws=5),
    "foolbox": Foolbox("pgd", {"steps": 10}),
}
EPS = {"l1": 1.5, "l2": 0.5, "linf": 0.1}


def labels_of(network: nn.Module, x: Tensor) -> Goal:
    return Goal(network(x).argmax(1))


def corridor(x: Tensor) -> Tensor:
    """By the mean m of the pixels: class 0 for m < 0.3, class 2 up to 0.6, class 1 beyond."""
    m = x.flatten(1).mean(1)
    return 20 * torch.stack([torch.zeros_like(m), 3 * m - 1.5, m - 0.3], dim=1)


def test_of_several_restarts_the_worst_counts_and_not_the_last(
    mlp: nn.Module, images: Images, streams: Streams
) -> None:
    """MadryLab robustness returned the last restart: `~mask` on uint8 is always true."""
    x, threat = images(60), ThreatModel("l2", 0.3)
    goal = labels_of(mlp, x)
    margins = torch.stack(
        [
            goal.margin(mlp(PGD(steps=2, restarts=r, early_stop=False)(mlp, x, goal, threat, rng=streams(60))))
            for r in range(1, 8)
        ]
    )
    assert (margins.diff(dim=0) >= -1e-5).all()
    assert (margins[-1] > margins[0] + 1e-4).float().mean() > 0.3  # restarts do make a difference here


def test_restarts_are_compared_sample_by_sample(mlp: nn.Module, images: Images, streams: Streams) -> None:
    """ART kept, for the whole batch, the restart with the best average."""
    x, threat, rng = images(40), ThreatModel("l2", 0.3), streams(40)
    goal, pgd = labels_of(mlp, x), PGD(steps=2, restarts=6, early_stop=False)
    whole = goal.margin(mlp(pgd(mlp, x, goal, threat, rng=rng)))
    for i in range(0, 40, 8):
        row = torch.tensor([i])
        alone = goal[row].margin(mlp(pgd(mlp, x[row], goal[row], threat, rng=rng[row])))
        torch.testing.assert_close(alone, whole[row], rtol=1e-4, atol=1e-4)


class Spy:
    """Remembers the largest margin that each sample has shown, and at which evaluation."""

    def __init__(self, network: nn.Module, goal: Goal) -> None:
        self.network, self.goal = network, goal
        self.margins: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        z: Tensor = self.network(x)
        self.margins.append(self.goal.margin(z.detach()))
        return z


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_best_point_is_a_copy_and_the_last_iterate_is_tested(
    mlp: nn.Module, images: Images, streams: Streams, momentum: float
) -> None:
    """adv-lib: a best loss aliased instead of cloned (APGD); the last iterate never tested (PGD, FMN)."""
    x, threat = images(80), ThreatModel("linf", 0.1)
    goal = labels_of(mlp, x)
    spy = Spy(mlp, goal)
    pgd = PGD(steps=12, step_size="0.02", momentum=momentum, early_stop=False)
    x_adv = pgd(spy, x, goal, threat, rng=streams(80))
    seen = torch.stack(spy.margins)
    assert len(seen) == 13  # 12 with a gradient, and the last iterate
    torch.testing.assert_close(goal.margin(mlp(x_adv)), seen.amax(0), rtol=1e-5, atol=1e-5)
    best_at = seen.argmax(0)
    assert (best_at == 12).any()  # for some sample the last iterate is the best,
    assert (best_at < 11).any()  # for another an early one


def test_a_single_step_is_not_lost(mlp: nn.Module, images: Images, streams: Streams) -> None:
    """adv-lib PGD: with one step, the only iterate that has moved is the last."""
    x, threat = images(20), ThreatModel("linf", 0.05)
    goal = labels_of(mlp, x)
    moved = PGD(steps=1, random_start=False, early_stop=False)(mlp, x, goal, threat, rng=streams(20))
    assert (goal.margin(mlp(moved)) > goal.margin(mlp(x))).all()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_projection_leaves_points_inside_alone_also_for_large_pixels(norm: str) -> None:
    """adv-lib FMN: `delta.mul_(eps / norm).clamp_(max=1)` clamps the perturbation instead of the ratio."""
    threat = ThreatModel(norm, 100.0, (0.0, 255.0))
    x = torch.full((1, 1, 2, 2), 100.0)
    inside = x + torch.tensor([3.0, -4.0, 20.0, 0.5]).view_as(x)
    assert torch.equal(threat.project(inside, x), inside)


@pytest.mark.parametrize(
    "attack",
    [PGD(steps=40), PGD(steps=40, restarts=4), Noise(draws=64), LBFGS(), Foolbox("ddn"), Foolbox("pgd")],
    ids=lambda a: type(a).__name__,
)
def test_targeted_search_is_content_with_the_target_alone(attack: Attack, streams: Streams) -> None:
    """adv-lib's minimal APGD tested the untargeted condition, and stopped at the first wrong class."""
    x, label = torch.full((4, 1, 1, 1), 0.1), torch.zeros(4, dtype=torch.int64)
    goal = Goal(label, label + 1)
    threat = unlimited("l2") if attack.minimal else ThreatModel("linf", 0.7)
    x_adv = attack(corridor, x, goal, threat, rng=streams(4))
    assert corridor(x_adv).argmax(1).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("eps", [8 / 255, 0.3, 0.1, 1 / 3, 2 / 255, 0.7])
@pytest.mark.parametrize("name", BUDGETED)
def test_no_success_is_lost_to_a_float_test_of_eps(
    mlp: nn.Module, images: Images, streams: Streams, name: str, eps: float
) -> None:
    """ART compared a norm computed in float32 with eps, and dropped what lay on the edge."""
    x, threat = images(50), ThreatModel("linf", eps)
    x_adv = BUDGETED[name](mlp, x, labels_of(mlp, x), threat, rng=streams(50))
    assert threat.within(x_adv, x).all()


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("name", BUDGETED)
def test_budget_is_kept(mlp: nn.Module, images: Images, streams: Streams, name: str, norm: str) -> None:
    """ART exceeded its eps."""
    x, eps = images(50), EPS[norm]
    order = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[norm]
    x_adv = BUDGETED[name](mlp, x, labels_of(mlp, x), ThreatModel(norm, eps), rng=streams(50))
    delta = (x_adv.double() - x.double()).flatten(1)
    assert torch.linalg.vector_norm(delta, order, dim=1).max() <= eps * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize(
    "attack", [PGD(steps=1, step_size="0.01"), Noise(), Foolbox("pgd", {"steps": 1})], ids=lambda a: type(a).__name__
)
def test_seed_reaches_the_attack(mlp: nn.Module, images: Images, attack: Attack) -> None:
    """RobustBench's `--seed` never did; AutoAttack takes the clock."""
    x, threat = images(10), ThreatModel("linf", 0.1)
    goal, ids = labels_of(mlp, x), [str(i) for i in range(10)]
    one, again, other = (attack(mlp, x, goal, threat, rng=Rng.of(seed, [], ids)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one != other).flatten(1).any(1).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_momentum_is_normalised_per_sample(mlp: nn.Module, images: Images, streams: Streams, norm: str) -> None:
    """torchattacks accumulated the momentum over the batch; a neighbour with huge gradients drowns the others."""
    x, threat, rng = images(6), ThreatModel(norm, EPS[norm]), streams(6)
    loud = torch.tensor([1.0, 1.0, 1e4, 1.0, 1.0, 1.0])[:, None]
    goal = labels_of(mlp, x)
    pgd = PGD(steps=8, momentum=1.0, loss="margin", early_stop=False)
    calm = pgd(mlp, x, goal, threat, rng=rng)
    mixed = pgd(lambda z: mlp(z) * loud, x, goal, threat, rng=rng)
    quiet = torch.tensor([0, 1, 3, 4, 5])
    torch.testing.assert_close(mixed[quiet], calm[quiet])


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize("attack", [*list(BUDGETED.values())[:3], LBFGS()], ids=lambda a: type(a).__name__)
def test_no_tensor_is_handed_to_numpy(
    mlp: nn.Module, images: Images, streams: Streams, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CleverHans' PGD called `np.all` on a tensor, which crashes on a GPU."""
    x = images(5)
    goal = labels_of(mlp, x)
    threat = unlimited("l2") if attack.minimal else ThreatModel("l2", 0.5)
    monkeypatch.setattr(Tensor, "__array__", refuse)
    monkeypatch.setattr(Tensor, "numpy", refuse)
    assert attack(mlp, x, goal, threat, rng=streams(5)).shape == x.shape


def test_two_classes_are_enough(linear: Callable[..., nn.Module], images: Images, streams: Streams) -> None:
    """AutoAttack's DLR loss is undefined below four classes."""
    network, x = linear(classes=2), images(10, 1, 3, 4)
    goal, threat = labels_of(network, x), ThreatModel("linf", 0.5)
    for attack in (FGSM(), FGSM(loss="margin"), PGD(steps=10), PGD(steps=10, loss="margin")):
        x_adv = attack(network, x, goal, threat, rng=streams(10))
        assert x_adv.isfinite().all()
        assert goal.reached(network(x_adv)).float().mean() > 0.5


@pytest.mark.gpu
@pytest.mark.parametrize("attack", [*BUDGETED.values(), LBFGS()], ids=lambda a: type(a).__name__)
def test_runs_on_a_gpu(mlp: nn.Module, images: Images, attack: Attack) -> None:
    network, x = mlp.to("cuda"), images(5).to("cuda")
    threat = unlimited("l2") if attack.minimal else ThreatModel("linf", 0.1)
    rng = Rng.of(0, [], "abcde", device="cuda")
    x_adv = attack(network, x, labels_of(network, x), threat, rng=rng)
    assert x_adv.device == x.device
    assert threat.within(x_adv, x).all()
