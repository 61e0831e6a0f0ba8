from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.inverse_hessian import free_coordinates, inverse_hessian_times

B, M, D = 20, 5, 16


def two_loops(q: Tensor, free: Tensor, initial: float, pairs: list[tuple[Tensor, Tensor]], c: float) -> Tensor:
    """Nocedal and Wright, algorithm 7.4, of one row, on its free coordinates; `pairs` are (s, dg), oldest first."""
    q = q[free]
    pairs = [(s[free], dg[free] + 2 * c * s[free]) for s, dg in pairs]
    pairs = [(s, y) for s, y in pairs if s @ y > 1e-6 * s.norm() * y.norm()]
    if c == 0 and pairs:
        s, y = pairs[-1]
        initial = float(s @ y / (y @ y))
    alphas = []
    for s, y in reversed(pairs):
        alphas.append(float(s @ q / (s @ y)))
        q = q - alphas[-1] * y
    r = initial * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - float(y @ r / (s @ y)))
    out = torch.zeros(len(free), dtype=q.dtype)
    out[free] = r
    return out


def problem(
    seed: int, dtype: torch.dtype = torch.float64
) -> tuple[tuple[Tensor, ...], list[list[tuple[Tensor, Tensor]]]]:
    """Arguments, with rings that are empty, part full and wrapped, and the pairs in them, oldest first."""
    g = torch.Generator().manual_seed(seed)
    free = torch.rand(B, D, generator=g) > 0.3
    q = torch.randn(B, D, dtype=dtype, generator=g) * free
    c = torch.where(torch.rand(B, generator=g) > 0.5, 0.7, 0.0).to(dtype)
    a = torch.randn(B, D, D, dtype=dtype, generator=g)
    a = a @ a.mT / D + 0.05 * torch.eye(D, dtype=dtype)
    pairs = torch.arange(B) % (2 * M + 1)
    history = torch.randn(B, 2 * M, D, dtype=dtype, generator=g)  # what has not been stored must not matter
    stored: list[list[tuple[Tensor, Tensor]]] = []
    for i in range(B):
        stored.append([])
        for k in range(int(pairs[i])):
            s = torch.randn(D, dtype=dtype, generator=g)
            dg = -3 * s if k % 3 == 2 else a[i] @ s  # now and then without positive curvature
            history[i, k % M], history[i, M + k % M] = s, dg
            stored[-1].append((s, dg))
        stored[-1] = stored[-1][-M:]
    initial = torch.where(c > 0, 0.5 / c, 1.0)
    return (q, free.to(dtype), initial, history, c, pairs), stored


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_it_is_the_two_loop_recursion(dtype: torch.dtype, tolerance: float) -> None:
    for seed in range(5):
        arguments, stored = problem(seed, dtype)
        q, free, initial, _, c, _ = arguments
        result = inverse_hessian_times(*arguments)
        for i in range(B):
            expected = two_loops(q[i], free[i] > 0, float(initial[i]), stored[i], float(c[i]))
            torch.testing.assert_close(
                result[i], expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
            )


def test_pairs_of_a_badly_scaled_problem_stay_accurate_in_single_precision() -> None:
    g = torch.Generator().manual_seed(0)
    curvatures = torch.logspace(-3, 3, 200)
    x = torch.randn(200, generator=g)
    pairs = []
    for k in range(8):  # ever shorter steps, as near a solution
        s = 10.0 ** -(k / 2) * torch.randn(200, generator=g) / curvatures.sqrt()
        pairs.append((s, curvatures * s))
    history = torch.stack([s for s, _ in pairs] + [y for _, y in pairs])[None]
    one, zero = torch.ones(1), torch.zeros(1)
    result = inverse_hessian_times(x[None], torch.ones(1, 200), one, history, zero, torch.tensor([8]))[0]
    doubles = [(s.double(), y.double()) for s, y in pairs]
    exact = two_loops(x.double(), torch.ones(200, dtype=torch.bool), 1.0, doubles, 0.0)
    single = two_loops(x, torch.ones(200, dtype=torch.bool), 1.0, pairs, 0.0)
    assert float((result - exact).norm()) < 3 * float((single - exact).norm()) + 1e-6 * float(exact.norm())


def test_it_satisfies_the_secant_equation_of_the_newest_pair() -> None:
    g = torch.Generator().manual_seed(1)
    s = torch.randn(B, M, D, dtype=torch.float64, generator=g)
    dg = s * torch.rand(B, 1, D, dtype=torch.float64, generator=g)
    c = torch.full((B,), 0.3, dtype=torch.float64)
    history, pairs = torch.cat([s, dg], 1), torch.full((B,), M)
    y = dg[:, -1] + 2 * c[:, None] * s[:, -1]
    result = inverse_hessian_times(y, torch.ones_like(y), 0.5 / c, history, c, pairs)
    torch.testing.assert_close(result, s[:, -1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_depends_on_itself_alone(dtype: torch.dtype) -> None:
    arguments = problem(3, dtype)[0]
    together = inverse_hessian_times(*arguments)
    for rows in (slice(0, 1), slice(1, 4), slice(4, B)):
        assert torch.equal(inverse_hessian_times(*(x[rows] for x in arguments)), together[rows])
    arguments[0][5], arguments[3][5] = torch.nan, torch.nan
    others = torch.arange(B) != 5
    assert torch.equal(inverse_hessian_times(*arguments)[others], together[others])


def test_coordinates_at_a_bound_are_held_when_descent_leads_outward() -> None:
    point = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0]])
    gradient = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, 0.0, 0.0]])
    free = free_coordinates(point, gradient, torch.zeros_like(point), torch.ones_like(point))
    assert free.tolist() == [[0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]]
