from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from attacks.quasinewton import Reason, Rows, Settings
from eval.memory import LiveStorage
from tests.attacks.quadratics import INF, B, D, objective, quadratics


@pytest.mark.parametrize("held", [0, 4])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_directions_are_those_of_a_dense_bfgs(weight: float, held: int) -> None:
    a, b = quadratics(1)
    high = INF.clone()
    high[:, :held] = 0.0
    b[:, :held] = 100.0  # so these coordinates stay at their bound
    f, everyone, ids = objective(a, b), torch.ones(B, dtype=torch.bool), torch.arange(B)
    s = Settings(memory=20, decrease=0.0, gradient=0.0)
    rows = Rows.start(torch.zeros_like(INF), -INF, high, torch.full((B,), weight, dtype=torch.float64), s)
    path: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(B)]  # points and gradients of F, of each row
    for _ in range(7):
        accepted = rows.tell(*f(rows.trial, ids), everyone, s)
        for i in accepted.nonzero()[:, 0].tolist():
            path[i].append((rows.point[i].clone(), rows.grad[i] + 2 * weight * rows.point[i]))
    rows.trial  # noqa: B018 (the directions are found when they are needed)
    eye = torch.eye(D - held, dtype=torch.float64)
    for i in range(B):
        moves = [(q - p)[held:] for (p, _), (q, _) in pairwise(path[i])]
        turns = [(q - p)[held:] for (_, p), (_, q) in pairwise(path[i])]
        assert len(moves) >= 3
        h = eye / (2 * weight) if weight else eye * (moves[-1] @ turns[-1]) / (turns[-1] @ turns[-1])
        for move, turn in zip(moves, turns, strict=True):  # Nocedal and Wright, equation 6.17
            rho = 1 / (move @ turn)
            v = eye - rho * turn[:, None] * move
            h = v.T @ h @ v + rho * move[:, None] * move
        torch.testing.assert_close(rows.direction[i, held:], -h @ path[i][-1][1][held:], rtol=1e-6, atol=1e-9)
        assert not bool(rows.direction[i, :held].any())


def test_history_survives_a_change_of_c() -> None:
    a, b = quadratics(2, dim=6)
    low, high = torch.full((B, 6), -torch.inf, dtype=torch.float64), torch.full((B, 6), torch.inf, dtype=torch.float64)
    s = Settings(memory=20, decrease=1e-15, gradient=1e-7)
    f, ids, everyone = objective(a, b), torch.arange(B), torch.ones(B, dtype=torch.bool)

    def run(rows: Rows) -> Tensor:
        before = rows.evaluations
        while bool(rows.running.any()):
            rows.tell(*f(rows.trial, ids), everyone, s)
        return rows.evaluations - before

    c = torch.full((B,), 0.5, dtype=torch.float64)
    warm = Rows.start(torch.zeros_like(low), low, high, c, s)
    run(warm)
    cold = Rows.start(warm.point, low, high, 2 * c, s)
    warm.reweigh(everyone, 2 * c, s)
    assert float(run(warm).double().mean()) < 0.7 * float(run(cold).double().mean())
    exact = torch.linalg.solve(a + 2 * torch.eye(6), b)
    torch.testing.assert_close(warm.point, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("memory", [4, 16])
def test_memory_is_what_the_docstring_says(memory: int) -> None:
    number, dim = 32, 1024
    settings = Settings(memory=memory, decrease=0.0, gradient=0.0)
    everyone, c = torch.ones(number, dtype=torch.bool), torch.full((number,), 0.3)
    b = torch.randn(number, dim, generator=torch.Generator().manual_seed(0))
    with LiveStorage() as live:
        low, high = torch.full_like(b, -0.5), torch.full_like(b, 0.5)
        rows = Rows.start(torch.zeros_like(b), low, high, c, settings)
        most = 0
        for _ in range(2 * memory):
            grad = rows.trial - b
            most, live.peak = max(most, live.peak), 0
            value = 0.5 * grad.square().sum(1)
            live.peak = live.live  # what f itself takes is not ours
            rows.tell(value, grad, everyone, settings)
            del grad
    most = max(most, live.peak)
    assert 2 * memory + 6 <= most / (4 * number * dim) <= 2 * memory + 11.2


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="memory and trials must be >= 1"):
        Settings(memory=0)
    with pytest.raises(ValueError, match="tolerances must be >= 0"):
        Settings(decrease=-1.0)


def test_a_row_that_was_invalid_is_not_revived_by_another_c() -> None:
    a, b = quadratics(4)
    settings = Settings()
    rows = Rows.start(torch.zeros_like(INF), -INF, INF, torch.ones(B, dtype=torch.float64), settings)
    everyone = torch.ones(B, dtype=torch.bool)
    value, grad = objective(a, b)(rows.trial, torch.arange(B))
    value[3] = torch.nan
    rows.tell(value, grad, everyone, settings)
    rows.reweigh(everyone, 2 * rows.c, settings)
    assert rows.reason[3] == Reason.INVALID
    assert bool(rows.running[torch.arange(B) != 3].all())


def test_a_history_that_misleads_is_dropped_before_the_row_is() -> None:
    """Pairs of the opposite scale: no step along their direction helps, the steepest descent does."""
    a, b = quadratics(5)
    settings = Settings(trials=3)
    rows = Rows.start(torch.zeros_like(INF), -INF, INF, torch.zeros(B, dtype=torch.float64), settings)
    everyone, f = torch.ones(B, dtype=torch.bool), objective(a, b)
    for _ in range(4):
        rows.tell(*f(rows.trial, torch.arange(B)), everyone, settings)
    assert bool((rows.pairs > 0).all())
    rows.history[:, settings.memory :] *= 1e-9  # as if nothing curved: steps a thousand million times too long
    rows.turning |= everyone
    rows.placed = False
    for _ in range(settings.trials):
        assert bool((rows.pairs > 0).all())
        rows.tell(*f(rows.trial, torch.arange(B)), everyone, settings)
    assert rows.pairs.tolist() == [0] * B
    assert bool(rows.running.all())
    before = rows.total
    for _ in range(settings.trials):
        rows.tell(*f(rows.trial, torch.arange(B)), everyone, settings)
    assert bool((rows.total < before).any())


def one_row(value: float, grad: float, dtype: torch.dtype = torch.float64) -> tuple[Rows, Settings]:
    """A search on a line that has been told of its start, and looks ahead to 1."""
    settings = Settings(decrease=0.0, gradient=0.0)
    edge = torch.full((1, 1), torch.inf, dtype=dtype)
    rows = Rows.start(torch.zeros(1, 1, dtype=dtype), -edge, edge, torch.zeros(1, dtype=dtype), settings)
    tell(rows, settings, value, grad)
    return rows, settings


def tell(rows: Rows, settings: Settings, value: float, grad: float) -> bool:
    answer = rows.point.new_tensor([value]), rows.point.new_tensor([[grad]])
    return bool(rows.tell(*answer, torch.ones(1, dtype=torch.bool), settings))


@pytest.mark.parametrize(("lower", "accepted"), [(2e-4, True), (0.5e-4, False), (-1e-4, False)])
def test_a_step_counts_where_it_lowers_f_by_a_part_of_what_the_slope_promises(lower: float, accepted: bool) -> None:
    rows, settings = one_row(0.0, -1.0)
    assert float(rows.trial) == 1.0  # the slope promises 1, of which Armijo's condition asks for 1e-4
    assert tell(rows, settings, -lower, 0.0) is accepted


@pytest.mark.parametrize(("above", "accepted"), [(2e-7, True), (2e-6, False)])
def test_rounding_of_the_value_stops_no_search(above: float, accepted: bool) -> None:
    rows, settings = one_row(1.0, -1e-9, torch.float32)
    assert rows.trial.dtype == torch.float32
    assert tell(rows, settings, 1.0 + above, 0.0) is accepted


@pytest.mark.parametrize(("grad", "pairs"), [(-0.5, 1), (-2.0, 0)])
def test_a_pair_whose_curvature_is_not_positive_is_passed_over(grad: float, pairs: int) -> None:
    rows, settings = one_row(0.0, -1.0)
    assert float(rows.trial) == 1.0
    assert tell(rows, settings, -0.9, grad)
    assert int(rows.pairs) == pairs
