from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, rosen, rosen_der
from torch import Tensor

from attacks.quasinewton import Reason, Settings, minimise
from tests.attacks.quadratics import INF, B, D, objective, quadratics

TIGHT = Settings(decrease=1e-14, gradient=1e-8)


def rosenbrock(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    del rows
    x = x.detach().requires_grad_()
    value = (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def scipy_values(fun, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
    values = []
    for i, x0 in enumerate(start):
        bounds = list(zip(low[i].tolist(), high[i].tolist(), strict=True))
        options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 5000, "maxfun": 50000}
        values.append(minimize(fun(i), x0.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options).fun)
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("half_width", [torch.inf, 0.3])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_convex_problems_agree_with_scipy(half_width: float, weight: float) -> None:
    a, b = quadratics(0)
    low, high = torch.full_like(INF, -half_width), torch.full_like(INF, half_width)
    c = torch.full((B,), weight, dtype=torch.float64)
    result = minimise(objective(a, b), torch.zeros_like(INF), low, high, c=c, evaluations=500, settings=TIGHT)

    def fun(i: int):
        ai, bi = a[i].numpy(), b[i].numpy()
        return lambda x: (0.5 * x @ ai @ x - bi @ x + weight * x @ x, ai @ x - bi + 2 * weight * x)

    torch.testing.assert_close(result.value, scipy_values(fun, torch.zeros_like(INF), low, high), rtol=1e-7, atol=1e-8)
    assert bool((result.reason == Reason.CONVERGED).all())
    assert bool(((result.point >= low) & (result.point <= high)).all())


@pytest.mark.parametrize("bounds", [(-torch.inf, torch.inf), (-0.5, 0.8)])
def test_rosenbrock_agrees_with_scipy(bounds: tuple[float, float]) -> None:
    noise = torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    low, high = torch.full_like(INF, bounds[0]), torch.full_like(INF, bounds[1])
    # Near x = 1: the function has a second minimum near x_1 = -1 in four dimensions and more.
    start = (1 + 0.2 * noise).clamp(*bounds)
    result = minimise(rosenbrock, start, low, high, evaluations=3000, settings=TIGHT)
    expected = scipy_values(lambda _: lambda x: (rosen(x), rosen_der(x)), start, low, high)
    torch.testing.assert_close(result.value, expected, rtol=1e-8, atol=1e-9)

    anywhere = minimise(rosenbrock, (0.4 * noise).clamp(*bounds), low, high, evaluations=3000, settings=TIGHT).point
    _, grad = rosenbrock(anywhere, torch.arange(B))
    assert float(((anywhere - grad).clamp(*bounds) - anywhere).abs().max()) < 1e-3  # stationary


def in_parts(seed: int, dim: int, bound: float, weight: float, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The solutions and evaluations of eleven quartics minimised together, and in three parts in another order."""
    g = torch.Generator().manual_seed(seed)
    k, b, start = (torch.randn(11, dim, dtype=dtype, generator=g) for _ in range(3))
    low, high, c = torch.full_like(b, -bound), torch.full_like(b, bound), torch.full_like(b[:, 0], weight)

    def run(rows: Tensor):
        def f(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            curvature, shift = k[rows][index].square(), b[rows][index]
            return (curvature * x * x / 2 + x * x * x * x - shift * x).sum(1), curvature * x + 4 * x * x * x - shift

        return minimise(f, start[rows], low[rows], high[rows], c=c[rows], evaluations=60)

    order = torch.randperm(11, generator=g)
    whole, parts = run(torch.arange(11)), [run(rows) for rows in order.split([1, 3, 7])]
    points, used = torch.cat([p.point for p in parts]), torch.cat([p.evaluations for p in parts])
    return whole.point[order], whole.evaluations[order], points, used


cases = given(
    seed=st.integers(0, 10**6),
    bound=st.sampled_from([0.05, 0.5, 5.0]),
    weight=st.sampled_from([0.0, 0.4]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)


@settings(deadline=None, max_examples=20)
@cases
def test_parts_of_a_batch_give_the_same_bits(seed: int, bound: float, weight: float, dtype: torch.dtype) -> None:
    # Vectors of a multiple of 64 bytes: libraries of linear algebra add up others by how they lie in memory.
    together, evaluations, points, used = in_parts(seed, 32, bound, weight, dtype)
    assert torch.equal(points, together)
    assert torch.equal(used, evaluations)


@settings(deadline=None, max_examples=20)
@cases
def test_parts_of_a_batch_of_any_width_agree(seed: int, bound: float, weight: float, dtype: torch.dtype) -> None:
    together, _, points, _ = in_parts(seed, 7, bound, weight, dtype)
    torch.testing.assert_close(points, together, rtol=0, atol=2e-3 if dtype == torch.float32 else 1e-6)


def test_nan_in_one_row_leaves_the_others_alone() -> None:
    a, b = quadratics(4)
    f = objective(a, b)

    def broken(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = f(x, rows)
        # Row 1 is never finite; row 2 is not where its first coordinate exceeds 0.01.
        bad = (rows == 1) | ((rows == 2) & (x[:, 0].abs() > 0.01))
        return torch.where(bad, torch.nan, value), torch.where(bad[:, None], torch.nan, grad)

    clean = minimise(f, torch.zeros_like(INF), -INF, INF)
    result = minimise(broken, torch.zeros_like(INF), -INF, INF)
    others = torch.tensor([i not in (1, 2) for i in range(B)])
    assert torch.equal(result.point[others], clean.point[others])
    assert torch.equal(result.evaluations[others], clean.evaluations[others])
    assert result.reason[1] == Reason.INVALID
    assert bool(torch.isfinite(result.point).all())
    assert abs(float(result.point[2, 0])) <= 0.01
    assert bool(torch.isfinite(result.value[2]))


def test_reasons_and_evaluations_are_those_of_each_row() -> None:
    calls = np.zeros(B, dtype=int)
    a, b = quadratics(5)
    f = objective(a, b)

    def counted(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        calls[rows.numpy()] += 1
        return f(x, rows)

    start = torch.zeros_like(INF)
    start[0] = torch.linalg.solve(a[0], b[0])
    result = minimise(counted, start, -INF, INF, evaluations=12, settings=TIGHT)
    assert result.reason[0] == Reason.CONVERGED
    assert int(result.evaluations[0]) == 1
    assert bool((result.reason[1:] == Reason.EXHAUSTED).all())
    np.testing.assert_array_equal(result.evaluations.numpy(), calls)


def test_each_row_stops_for_its_own_reason_and_leaves_the_others_alone() -> None:
    a, b = quadratics(7)
    f = objective(a, b)

    def mixed(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = f(x, rows)
        hard, slope = rosenbrock(x, rows)
        value = torch.where(rows == 0, torch.nan, torch.where(rows == 2, hard, value))
        return value, torch.where((rows == 1)[:, None], -grad, torch.where((rows == 2)[:, None], slope, grad))

    start = torch.zeros_like(INF)
    start[1] = 1.0
    result, clean = (minimise(g, start, -INF, INF, evaluations=60, settings=TIGHT) for g in (mixed, f))
    assert result.reason[:3].tolist() == [Reason.INVALID, Reason.STALLED, Reason.EXHAUSTED]
    assert torch.equal(result.reason[3:], clean.reason[3:])
    assert Reason.CONVERGED in result.reason[3:].tolist()
    torch.testing.assert_close(result.point[3:], clean.point[3:], rtol=0, atol=1e-9)


def test_a_wrong_gradient_stalls() -> None:
    a, b = quadratics(6)
    f = objective(a, b)
    result = minimise(lambda x, rows: (f(x, rows)[0], -f(x, rows)[1]), torch.ones_like(INF), -INF, INF)
    assert bool((result.reason == Reason.STALLED).all())
    torch.testing.assert_close(result.point, torch.ones_like(INF))


def test_a_slope_whose_square_overflows_is_followed_all_the_same() -> None:
    target = torch.tensor([[0.3, -0.2, 0.9]])

    def steep(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5e24 * (x - target).square().sum(1), 1e24 * (x - target)

    found = minimise(steep, torch.zeros(1, 3), torch.full((1, 3), -1.0), torch.ones(1, 3))
    torch.testing.assert_close(found.point, target, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"low": INF}, "every low must be at most its high"),
        ({"c": -torch.ones(B)}, r"c must be >= 0, got -1"),
        ({"evaluations": 0}, r"evaluations must be >= 1, got 0"),
        ({"start": torch.zeros_like(INF, dtype=torch.bfloat16)}, r"must be float32 or float64, got torch.bfloat16"),
    ],
)
def test_what_makes_no_sense_is_refused(changed: dict[str, object], says: str) -> None:
    given = {"start": torch.zeros_like(INF), "low": -INF, "high": INF, **changed}
    if "low" in changed:
        given["high"] = torch.zeros_like(INF)
    with pytest.raises(ValueError, match=says):
        minimise(objective(*quadratics(4)), **given)
