from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, stats
from torch import Tensor

from attacks.norms import NORMS, rms
from attacks.rng import Rng

ROWS, DIM = 3, 5
Case = tuple[Tensor, float, Tensor, Tensor]
Array = np.ndarray[Any, Any]


def arrays(low: float, high: float) -> st.SearchStrategy[Tensor]:
    """Rows whose coordinates are 0 or at least 1e-6: squares of smaller ones underflow."""
    rows = hnp.arrays(np.float32, (ROWS, DIM), elements=st.floats(low, high, width=32))
    return rows.map(lambda a: torch.tensor(np.where(np.abs(a) < 1e-6, np.float32(0), a)))


def cases(norm: str, reach: float = 3.0) -> st.SearchStrategy[Case]:
    """A vector, a radius and the room of the box, each possibly 0 or on the edge."""
    eps = st.integers(1, DIM + 1).map(float) if norm == "l0" else st.floats(0.01, 4.0)
    return st.tuples(arrays(-reach, reach), eps, arrays(-1, 0), arrays(0, 1))


def inside(norm: str, delta: Tensor, eps: float, low: Tensor, high: Tensor) -> bool:
    size = NORMS[norm].size(delta.double())
    return bool((delta >= low).all() and (delta <= high).all() and (size <= eps * (1 + 1e-5) + 1e-6).all())


def of_box(fraction: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.where(fraction < 0, -fraction * low, fraction * high)


def bisect_down(size: Any, target: float) -> float:
    """The least t of [0, 1] with size(t) <= target, for a decreasing size."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if size(middle) <= target else (middle, high)
    return high


def nearest(norm: str, d: Array, eps: float, low: Array, high: Array) -> Array:
    """The projection of one vector, by the textbook, in float64."""
    inner = np.clip(d, low, high)
    if norm == "linf":
        return np.clip(d, np.maximum(low, -eps), np.minimum(high, eps))
    if norm == "l0":
        keep = min(int(eps), len(d))
        points = [inner * np.isin(np.arange(len(d)), s) for s in itertools.combinations(range(len(d)), keep)]
        return min(points, key=lambda p: float(((p - d) ** 2).sum()))
    if norm == "l2":
        return np.clip(d * (1 - bisect_down(lambda t: np.linalg.norm(np.clip(d * (1 - t), low, high)), eps)), low, high)

    def shrunk(t: float) -> Array:
        return np.clip(np.sign(d) * np.maximum(np.abs(d) - t * np.abs(d).max(), 0), low, high)

    return shrunk(bisect_down(lambda t: np.abs(shrunk(t)).sum(), eps))


@pytest.mark.parametrize("norm", NORMS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_projection_lies_in_ball_and_box(norm: str, data: st.DataObject) -> None:
    delta, eps, low, high = data.draw(cases(norm))
    assert inside(norm, NORMS[norm].project(delta, eps, low, high), eps, low, high)


@pytest.mark.parametrize("norm", NORMS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_projection_is_idempotent(norm: str, data: st.DataObject) -> None:
    delta, eps, low, high = data.draw(cases(norm))
    once = NORMS[norm].project(delta, eps, low, high)
    assert torch.allclose(NORMS[norm].project(once, eps, low, high), once, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_projection_leaves_points_inside_where_they_are(norm: str, data: st.DataObject) -> None:
    fraction, eps, low, high = data.draw(cases(norm, reach=1.0))
    delta = of_box(fraction, low, high)
    size = NORMS[norm].size(delta)[:, None]
    delta = torch.where(size > 0.999 * eps, torch.zeros_like(delta), delta) if norm != "l0" else delta * (size <= eps)
    assert torch.equal(NORMS[norm].project(delta, eps, low, high), delta)


@pytest.mark.parametrize("norm", NORMS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_projection_is_the_nearest_point(norm: str, data: st.DataObject) -> None:
    delta, eps, low, high = data.draw(cases(norm))
    point = NORMS[norm].project(delta, eps, low, high)
    for row in range(ROWS):
        d = delta[row].double().numpy()
        reference = nearest(norm, d, eps, low[row].double().numpy(), high[row].double().numpy())
        ours, best = np.linalg.norm(point[row].double().numpy() - d), np.linalg.norm(reference - d)
        assert ours <= best + 2e-6 * (1 + best)
        if norm != "l0":  # there two points may be equally near
            assert np.allclose(point[row].numpy(), reference, rtol=0, atol=2e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_projection_agrees_with_a_solver(norm: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        d, low, high, eps = rng.normal(size=6), -rng.random(6), rng.random(6), 0.8

        def point(parts: Array) -> Array:  # L1 is smooth in what is above and what is below zero
            return parts[:6] - parts[6:] if norm == "l1" else parts

        def distance(parts: Array, d: Array = d) -> float:
            return float(((point(parts) - d) ** 2).sum())

        def slack(parts: Array, eps: float = eps) -> float:
            return eps - float(parts.sum()) if norm == "l1" else eps**2 - float((parts**2).sum())

        split = [(0, h) for h in high] + [(0, -b) for b in low]
        bounds = split if norm == "l1" else list(zip(low, high, strict=True))
        solved = optimize.minimize(
            distance,
            np.full(len(bounds), 0.01),
            bounds=bounds,
            constraints={"type": "ineq", "fun": slack},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert solved.success
        as_rows = [torch.tensor(a)[None] for a in (d, low, high)]
        ours = NORMS[norm].project(as_rows[0], eps, as_rows[1], as_rows[2])[0]
        assert np.allclose(ours.numpy(), point(solved.x), atol=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95])
def test_l2_projection_where_one_coordinate_after_another_meets_the_box(ratio: float) -> None:
    """Each Newton step finds the next coordinates clipped: the case that takes the most of them."""
    high = torch.tensor([[ratio**i for i in range(60)]], dtype=torch.float64)
    delta, eps = torch.ones_like(high), 0.9 * float(high.norm())
    point = NORMS["l2"].project(delta, eps, -high, high)
    reference = nearest("l2", delta[0].numpy(), eps, -high[0].numpy(), high[0].numpy())
    assert np.allclose(point[0].numpy(), reference, rtol=0, atol=1e-4)


def best_linear(norm: str, g: Array, eps: float, low: Array, high: Array) -> float:
    """The maximum of <g, point> over ball and box, by a solver or by trying everything."""
    if norm == "linf":
        return float(np.maximum(g * np.maximum(low, -eps), g * np.minimum(high, eps)).sum())
    if norm == "l0":
        gains = np.sort(np.maximum(g * low, g * high))[::-1]
        return float(gains[: int(eps)].sum())
    if norm == "l1":
        bounds = [(0, h) for h in high] + [(0, -b) for b in low]
        solved = optimize.linprog(-np.concatenate([g, -g]), A_ub=np.ones((1, 2 * len(g))), b_ub=[eps], bounds=bounds)
        assert solved.success
        return float(-solved.fun)
    corner = np.where(g > 0, high, np.where(g < 0, low, 0))
    if np.linalg.norm(corner) <= eps:
        return float(g @ corner)
    # Lagrange: clip(s * g) with the s for which the norm is eps; s = t / (1 - t) to search in [0, 1).
    unit = g / np.abs(g).max()
    t = bisect_down(lambda t: -np.linalg.norm(np.clip(unit * t / max(1 - t, 1e-300), low, high)), -eps)
    return float(g @ np.clip(unit * t / max(1 - t, 1e-300), low, high))


@pytest.mark.parametrize("norm", NORMS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_steepest_point_is_the_best_of_ball_and_box(norm: str, data: st.DataObject) -> None:
    gradient, eps, low, high = data.draw(cases(norm))
    point = NORMS[norm].steepest(gradient, eps, low, high)
    assert inside(norm, point, eps, low, high)
    for row in range(ROWS):
        g = gradient[row].double().numpy()
        best = best_linear(norm, g, eps, low[row].double().numpy(), high[row].double().numpy())
        assert float(g @ point[row].double().numpy()) >= best - 1e-5 * (1 + abs(best))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_steepest_point_does_not_depend_on_the_gradients_scale(norm: str, scale: float) -> None:
    gradient = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    room = torch.full_like(gradient, 0.4)
    args = (2.0, -room, room)
    assert torch.allclose(
        NORMS[norm].steepest(gradient * scale, *args), NORMS[norm].steepest(gradient, *args), atol=1e-5
    )


@pytest.mark.parametrize(("norm", "length"), [("l0", 3.0), ("l1", 0.7), ("l2", 0.7), ("linf", 0.2)])
def test_step_has_the_length_asked_for_and_goes_uphill(norm: str, length: float) -> None:
    gradient = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    room = torch.full_like(gradient, 0.5)
    step = NORMS[norm].step(gradient, length, torch.zeros_like(gradient), -room, room, 1.0)
    assert torch.allclose(NORMS[norm].size(step), torch.full((4,), length), rtol=1e-5)
    assert ((step * gradient) >= 0).all()


def test_l1_step_is_spread_over_as_many_coordinates_as_asked() -> None:
    gradient = torch.arange(1.0, 21.0)[None]
    room = torch.ones_like(gradient)
    step = NORMS["l1"].step(gradient, 0.5, torch.zeros_like(gradient), -room, room, 5.0)
    assert torch.allclose(step, torch.tensor([[0.0] * 15 + [0.1] * 5]))


def test_l1_step_passes_over_coordinates_at_the_edge_of_the_box() -> None:
    gradient, high = torch.tensor([[3.0, 2.0, -1.0]]), torch.tensor([[0.0, 0.2, 1.0]])
    assert torch.allclose(NORMS["l1"].steepest(gradient, 0.5, -high, high), torch.tensor([[0.0, 0.2, -0.3]]))


@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradient_makes_no_nan(norm: str) -> None:
    zero, room = torch.zeros(2, 6), torch.ones(2, 6)
    for point in (NORMS[norm].steepest(zero, 2.0, -room, room), NORMS[norm].step(zero, 2.0, zero, -room, room, 1.0)):
        assert point.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_without_a_budget_projection_is_the_box(norm: str) -> None:
    delta = 3 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    room = torch.ones_like(delta)
    assert torch.equal(NORMS[norm].project(delta, math.inf, -room, room), delta.clamp(-1, 1))


@pytest.mark.parametrize("norm", NORMS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=30)
def test_sample_lies_in_ball_and_box(norm: str, data: st.DataObject) -> None:
    _, eps, low, high = data.draw(cases(norm))
    rng = Rng.of(data.draw(st.integers(0, 1000)), [], ["a", "b", "c"])
    assert inside(norm, NORMS[norm].sample(rng, eps, low, high), eps, low, high)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_sample_is_uniform_in_the_ball(norm: str) -> None:
    """Of a uniform point of a ball in n dimensions, (|point| / eps)^n is uniform; and no orthant is preferred."""
    n, room = 4, torch.full((4000, 4), 10.0)
    points = NORMS[norm].sample(Rng.of(1, [], map(str, range(4000))), 2.0, -room, room)
    assert stats.kstest(((NORMS[norm].size(points) / 2.0) ** n).numpy(), "uniform").pvalue > 1e-3
    orthant = ((points > 0) * torch.tensor([1, 2, 4, 8])).sum(1)
    assert stats.chisquare(torch.bincount(orthant, minlength=16).numpy()).pvalue > 1e-3


def test_sizes_are_those_of_torch() -> None:
    delta = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).masked_fill(torch.eye(5, 7) > 0, 0)
    for norm, p in (("l0", 0), ("l1", 1), ("l2", 2), ("linf", math.inf)):
        assert torch.allclose(NORMS[norm].size(delta), torch.linalg.vector_norm(delta, p, dim=1))


def test_rms_is_the_distortion_of_the_paper() -> None:
    assert torch.allclose(rms(torch.tensor([[3.0, 4.0, 0.0, 0.0]])), torch.tensor([2.5]))
