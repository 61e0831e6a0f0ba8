from __future__ import annotations

import numpy as np
import pytest
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
    q = nearest(torch.stack([w1, w2], 1), torch.stack([o1, o2], 1), 4 * low, 4 * high, steps=40)[0]
    for i in range(4):
        normals, offsets = torch.stack([w1[i], w2[i]]).numpy(), torch.stack([o1[i], o2[i]]).numpy()
        best = quadratic_program(normals, offsets, 4 * low[i].numpy(), 4 * high[i].numpy())
        assert abs(float(q[i].norm()) - best) < 1e-4 * (1 + best)


def four(seed: int, dim: int, number: int = 30, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Four half-spaces that lean the same way, a few of them empty, and a box."""
    g = torch.Generator().manual_seed(seed)
    shared, own = torch.randn(number, 1, dim, generator=g), torch.randn(number, 4, dim, generator=g)
    low, high = -4 * torch.rand(number, dim, generator=g), 4 * torch.rand(number, dim, generator=g)
    inside = low + (high - low) * torch.rand(number, dim, generator=g)
    w = (0.7 * shared + 0.5 * own) * (torch.rand(number, 4, 1, generator=g) > 0.2)
    return tuple(x.to(dtype) for x in (w, (w * inside[:, None]).sum(2), low, high))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-12)])
def test_several_half_spaces_satisfy_the_conditions_of_optimality(dtype: torch.dtype, tolerance: float) -> None:
    w, offset, low, high = four(0, 200, dtype=dtype)
    q, multipliers = nearest(w, offset, low, high)
    over = (w @ q[:, :, None])[:, :, 0] - offset
    bound = tolerance * (1 + offset.abs())
    assert bool((over >= -bound).all())
    assert bool((multipliers >= 0).all())
    assert bool(((over <= bound) | (multipliers == 0)).all())
    combined = (multipliers[:, None] @ w)[:, 0].clamp(low, high)
    torch.testing.assert_close(q, combined, rtol=0, atol=tolerance)


def test_a_few_iterations_come_close_to_many() -> None:
    for seed in range(40):
        arguments = four(seed, 12)
        few, many = nearest(*arguments)[0], nearest(*arguments, steps=40)[0]
        torch.testing.assert_close(few.norm(dim=1), many.norm(dim=1), rtol=1e-3, atol=0)


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.0, 3.0])
def test_the_start_does_not_matter(factor: float) -> None:
    arguments = four(1, 100)
    q, multipliers = nearest(*arguments)
    torch.testing.assert_close(nearest(*arguments, start=factor * multipliers)[0], q, rtol=0, atol=1e-10)


def test_the_solution_as_a_start_is_taken_at_once() -> None:
    arguments = four(2, 100)
    q, multipliers = nearest(*arguments)
    torch.testing.assert_close(nearest(*arguments, start=multipliers, steps=0)[0], q, rtol=0, atol=1e-12)


def test_tiny_and_huge_normals_are_solved_alike() -> None:
    w, offset, low, high = four(3, 100, dtype=torch.float32)
    q = nearest(w, offset, low, high)[0]
    for factor in (1e-25, 1e25):
        torch.testing.assert_close(nearest(w * factor, offset * factor, low, high)[0], q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [1, 4])
def test_a_row_depends_on_itself_alone(dtype: torch.dtype, number: int) -> None:
    w, offset, low, high = four(4, 48, dtype=dtype)
    w, offset = w[:, :number], offset[:, :number]
    q, multipliers = nearest(w, offset, low, high)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 30)):
        alone = nearest(w[rows], offset[rows], low[rows], high[rows])
        assert torch.equal(alone[0], q[rows])
        assert torch.equal(alone[1], multipliers[rows])
    w[7], offset[7] = torch.nan, torch.nan
    others = torch.arange(30) != 7
    assert torch.equal(nearest(w, offset, low, high)[0][others], q[others])


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
