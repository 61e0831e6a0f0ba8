from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from attacks.hyperplanes import WAYS


def problem(seed: int, dim: int) -> tuple[Tensor, ...]:
    """Normals, what two points each lack, and the box around them: some coordinates without weight or without room."""
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(3, dim, dtype=torch.float64, generator=g) * (torch.rand(3, dim, generator=g) > 0.2)
    low, high = (torch.rand(3, 2, dim, dtype=torch.float64, generator=g) for _ in range(2))
    low, high = -low * (low > 0.2), high * (high > 0.2)
    inside = low + (high - low) * torch.rand(3, 2, dim, dtype=torch.float64, generator=g)
    return w, (w[:, None] * inside).sum(2), low, high


def program(norm: str, w: np.ndarray, lacking: float, low: np.ndarray, high: np.ndarray) -> float:
    """The shortest way by linear programming: q = up - down in L1, |q| <= t in Linf."""
    dim = len(w)
    if norm == "l1":
        bounds = [(0, h) for h in high] + [(0, -v) for v in low]
        found = linprog(np.ones(2 * dim), A_eq=[np.concatenate([w, -w])], b_eq=[lacking], bounds=bounds)
    else:
        eye, ones = np.eye(dim), np.ones((dim, 1))
        between = np.block([[eye, -ones], [-eye, -ones]])
        found = linprog(
            np.eye(dim + 1)[-1], A_ub=between, b_ub=np.zeros(2 * dim), A_eq=[np.append(w, 0)], b_eq=[lacking],
            bounds=[*zip(low, high, strict=True), (0, None)],
        )  # fmt: skip
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("norm", ["l1", "linf"])
@given(seed=st.integers(0, 10**6), dim=st.integers(2, 12))
@settings(deadline=None, max_examples=20)
def test_the_way_is_that_of_a_linear_program(norm: str, seed: int, dim: int) -> None:
    w, lacking, low, high = problem(seed, dim)
    q = WAYS[norm](w, lacking, low, high)
    assert bool(((q >= low - 1e-12) & (q <= high + 1e-12)).all())
    torch.testing.assert_close((w[:, None] * q).sum(2), lacking, rtol=1e-5, atol=1e-9)
    size = q.abs().sum(2) if norm == "l1" else q.abs().amax(2)
    for i in range(3):
        for j in range(2):
            best = program(norm, w[i].numpy(), float(lacking[i, j]), low[i, j].numpy(), high[i, j].numpy())
            assert abs(float(size[i, j]) - best) < 1e-5


@given(seed=st.integers(0, 10**6), dim=st.integers(2, 12))
@settings(deadline=None, max_examples=20)
def test_in_l2_every_free_coordinate_moves_in_proportion_to_its_weight(seed: int, dim: int) -> None:
    """The conditions of optimality: q = clip(t w, low, high) for one t."""
    w, lacking, low, high = problem(seed, dim)
    q = WAYS["l2"](w, lacking, low, high)
    torch.testing.assert_close((w[:, None] * q).sum(2), lacking, rtol=1e-5, atol=1e-9)
    for i in range(3):
        for j in range(2):
            free = (q[i, j] > low[i, j] + 1e-9) & (q[i, j] < high[i, j] - 1e-9) & (w[i] != 0)
            slope = q[i, j][free] / w[i][free]
            if len(slope) > 0:
                torch.testing.assert_close(slope, slope[:1].expand_as(slope), rtol=1e-4, atol=1e-7)
                clipped = torch.minimum(torch.maximum(slope[0] * w[i], low[i, j]), high[i, j])
                torch.testing.assert_close(q[i, j], clipped, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", WAYS)
def test_out_of_reach_the_corner_that_comes_closest(norm: str) -> None:
    w, _, low, high = problem(1, 9)
    q = WAYS[norm](w, torch.full((3, 2), 1e3, dtype=torch.float64), low, high)
    torch.testing.assert_close(q, torch.where(w[:, None] > 0, high, low) * (w != 0)[:, None], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", WAYS)
def test_nowhere_to_go_is_no_way(norm: str) -> None:
    low, high = -torch.ones(3, 2, 4), torch.ones(3, 2, 4)
    assert not WAYS[norm](torch.zeros(3, 4), torch.ones(3, 2), low, high).any()
    assert not WAYS[norm](torch.ones(3, 4), torch.zeros(3, 2), low, high).any()


@pytest.mark.parametrize("norm", WAYS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_scale_of_the_logits_does_not_matter(norm: str, scale: float) -> None:
    w, lacking, low, high = (t.float() for t in problem(2, 500))
    plain = WAYS[norm](w, lacking, low, high)
    torch.testing.assert_close(WAYS[norm](scale * w, scale * lacking, low, high), plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_problem_depends_on_itself_alone(norm: str, dtype: torch.dtype) -> None:
    """Those that are solved wait for the others, which may need more steps."""
    for seed in range(30):
        g = torch.Generator().manual_seed(seed)
        w = torch.randn(6, 300, generator=g, dtype=torch.float64) ** 3
        low, high = (torch.rand(6, 2, 300, generator=g, dtype=torch.float64) for _ in range(2))
        farthest = (w.abs()[:, None] * torch.where(w[:, None] > 0, high, low)).sum(2)
        lacking = farthest * torch.rand(6, 2, generator=g, dtype=torch.float64)
        problems = [t.to(dtype) for t in (w, lacking, -low, high)]
        whole = WAYS[norm](*problems)
        for i in range(6):
            assert torch.equal(WAYS[norm](*(t[i : i + 1] for t in problems))[0], whole[i])
