from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from attacks.halfspaces import nearest


def problem(seed: int, dim: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    w1 = torch.randn(4, dim, dtype=torch.float64, generator=g)
    w2 = 0.7 * w1 + 0.5 * torch.randn(4, dim, dtype=torch.float64, generator=g)
    low = -torch.rand(4, dim, dtype=torch.float64, generator=g)
    high = torch.rand(4, dim, dtype=torch.float64, generator=g)
    inside = low + (high - low) * torch.rand(4, dim, dtype=torch.float64, generator=g)  # so that a solution exists
    return w1, (w1 * inside).sum(1), w2, (w2 * inside).sum(1), low, high


def quadratic_program(normals: np.ndarray, offsets: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    constraint = {"type": "ineq", "fun": lambda q: normals @ q - offsets, "jac": lambda q: normals}
    result = minimize(
        lambda q: (q @ q, 2 * q), np.zeros(len(low)), jac=True, method="SLSQP", constraints=[constraint],
        bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert result.success
    return float(np.sqrt(result.fun))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), dim=st.integers(2, 12))
def test_one_half_space_is_solved_as_by_a_quadratic_program(seed: int, dim: int) -> None:
    w, offset, _, _, low, high = problem(seed, dim)
    q, multiplier = nearest(w[:, None], offset[:, None], low, high)
    assert bool(((q >= low) & (q <= high)).all())
    assert bool(((w * q).sum(1) >= offset - 1e-9).all())
    torch.testing.assert_close(q, torch.minimum(torch.maximum(multiplier * w, low), high))
    for i in range(4):
        best = quadratic_program(w[i : i + 1].numpy(), offset[i : i + 1].numpy(), low[i].numpy(), high[i].numpy())
        assert abs(float(q[i].norm()) - best) < 1e-5


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), dim=st.integers(3, 12))
def test_two_half_spaces_are_solved_as_by_a_quadratic_program(seed: int, dim: int) -> None:
    w1, o1, w2, o2, low, high = problem(seed, dim)
    q = nearest(torch.stack([w1, w2], 1), torch.stack([o1, o2], 1), 4 * low, 4 * high, steps=40, sweeps=40)[0]
    for i in range(4):
        normals, offsets = torch.stack([w1[i], w2[i]]).numpy(), torch.stack([o1[i], o2[i]]).numpy()
        best = quadratic_program(normals, offsets, 4 * low[i].numpy(), 4 * high[i].numpy())
        assert abs(float(q[i].norm()) - best) < 1e-4 * (1 + best)


def test_a_few_sweeps_come_close_to_many() -> None:
    for seed in range(40):
        w1, o1, w2, o2, low, high = problem(seed, 8)
        arguments = torch.stack([w1, w2], 1), torch.stack([o1, o2], 1), 4 * low, 4 * high
        few, many = nearest(*arguments)[0], nearest(*arguments, steps=40, sweeps=40)[0]
        torch.testing.assert_close(few.norm(dim=1), many.norm(dim=1), rtol=1e-3, atol=0)


def test_without_a_box_it_is_the_projection() -> None:
    w = torch.tensor([[3.0, 4.0]])
    wide = torch.full_like(w, torch.inf)
    q, multiplier = nearest(w[:, None], torch.tensor([[10.0]]), -wide, wide)
    torch.testing.assert_close(q, torch.tensor([[1.2, 1.6]]))
    torch.testing.assert_close(multiplier, torch.tensor([[0.4]]))


def test_zero_satisfies_a_non_positive_offset() -> None:
    w = torch.randn(3, 5)
    wide = torch.ones_like(w)
    assert not bool(nearest(w[:, None], torch.tensor([[-1.0], [0.0], [-5.0]]), -wide, wide)[0].any())


def test_a_half_space_out_of_reach_gives_the_corner() -> None:
    w = torch.tensor([[1.0, -2.0, 0.5]])
    q, _ = nearest(w[:, None], torch.tensor([[100.0]]), -torch.ones_like(w), torch.ones_like(w))
    torch.testing.assert_close(q, w.sign())


def test_a_zero_normal_gives_zero() -> None:
    zero = torch.zeros(1, 3)
    q, multiplier = nearest(zero[:, None], torch.tensor([[1.0]]), zero - 1, zero + 1)
    assert bool(torch.isfinite(multiplier).all())
    assert not bool(q.any())
