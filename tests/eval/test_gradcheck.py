"""Backprop beside central differences: every layer of image classifiers, every attack loss, and planted mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from attacks.goal import Goal
from attacks.losses import LOSSES, logits_and_gradient
from eval.gradcheck import check, directions, gradients_of
from eval.gradients import Off
from eval.studies.gradient_names import BOUND
from models.convnets import CNN
from models.maxout import Maxout
from models.paper import MLP

MAPS = (4, 6, 6)
LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    *((m, MAPS) for m in (
        nn.Conv2d(4, 3, 3), nn.Conv2d(4, 3, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
        nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding="same"),
        *(nn.Conv2d(4, 3, 3, padding=1, padding_mode=mode) for mode in ("circular", "reflect", "replicate")),
        nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1),
        nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm(MAPS), nn.LocalResponseNorm(3), nn.RMSNorm(6),
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1, dilation=2, ceil_mode=True), nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.LPPool2d(2, 2), nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d(4), nn.AdaptiveMaxPool2d(4), nn.FractionalMaxPool2d(2, 3, _random_samples=torch.full(
            (1, 4, 2), 0.3, dtype=torch.float64)),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(9, mode="bicubic"),
        nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2), nn.ZeroPad2d(1), nn.ReflectionPad2d(1),
        nn.ReplicationPad2d(1), nn.CircularPad2d(1), nn.ConstantPad2d(1, 0.5), nn.Dropout(), nn.Dropout2d(),
        nn.Flatten(), nn.Identity(), nn.Softmax(1), nn.LogSoftmax(1), nn.Softmax2d(), nn.Softmin(1), nn.GLU(1),
        nn.Unfold(3), nn.PReLU(4),
    )),
    *((m, (12,)) for m in (
        nn.Linear(12, 5), nn.BatchNorm1d(12), nn.LayerNorm(12), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.PReLU(),
        nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(), nn.Sigmoid(),
        nn.Tanh(), nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.Softplus(), nn.Softsign(), nn.Softshrink(),
        nn.Hardshrink(), nn.Tanhshrink(), nn.LogSigmoid(), nn.Threshold(0.1, 0.0), nn.RReLU(), nn.Unflatten(1, (3, 4)),
    )),
    (nn.Conv1d(3, 4, 3, padding=1), (3, 8)),
    (nn.MaxPool1d(2), (3, 8)),
    (nn.Conv3d(1, 2, 3), (1, 4, 6, 6)),
    (nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), (5, 8)),
]  # fmt: skip


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, 2 * x, x + 1)


LAYERS += [(Attention(), (5, 8)), (Scaled(), (5, 8))]


def points(shape: tuple[int, ...], number: int, seed: int) -> Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weighted(module: nn.Module, shape: tuple[int, ...], seed: int) -> Callable[[Tensor], Tensor]:
    """Two numbers of what a module returns: random sums."""
    with torch.no_grad():
        out = module(points(shape, 1, seed))
    weights = points(tuple(out.shape[1:]), 2, seed + 10)
    return lambda x: (module(x)[:, None] * weights).flatten(2).sum(2)


def prepared(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_floating_point() and "running_var" not in name:
            value.data = torch.randn(value.shape)
    return module.double().eval()


def checked(f: Callable[[Tensor], Tensor], x: Tensor, number: int = 6, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    gradients = gradients_of(f, x)
    return [check(f, x, v.expand_as(x), gradients) for v in directions(x.shape[1:], g, number, number)]


@pytest.mark.parametrize(("module", "shape"), LAYERS, ids=[f"{m!s:.60}" for m, _ in LAYERS])
def test_backprop_of_a_layer_is_the_derivative_by_its_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    f = weighted(prepared(module).requires_grad_(False), shape, 1)
    # one point a batch: fractional pools and attention have one set of places for all
    found = checked(f, points(shape, 1, 2))
    smooth = torch.cat([c.error[~c.kink & ~c.flat] for c in found])
    assert not any(c.wrong.any() for c in found)
    assert len(smooth) >= 0.7 * 24
    assert float(smooth.max()) < BOUND


PARAMETERS = [(m, s) for m, s in LAYERS if any(True for _ in m.parameters())]


@pytest.mark.parametrize(("module", "shape"), PARAMETERS, ids=[f"{m!s:.60}" for m, _ in PARAMETERS])
def test_backprop_of_a_layer_is_the_derivative_by_its_weights(module: nn.Module, shape: tuple[int, ...]) -> None:
    prepared(module)
    values = {name: p.detach().clone() for name, p in module.named_parameters()}
    x = points(shape, 1, 3)

    def of_weights(flat: Tensor) -> Tensor:
        rows = []
        for row in flat:
            parts = row.split([v.numel() for v in values.values()])
            own = {name: part.view_as(v) for (name, v), part in zip(values.items(), parts, strict=True)}
            rows.append(functional_call(module, own, (x,)).sin().sum().view(1))
        return torch.stack(rows)

    at = torch.cat([v.flatten() for v in values.values()])[None]
    found = checked(of_weights, at)
    assert not any(c.wrong.any() for c in found)
    assert sum(int((~c.kink & ~c.flat).sum()) for c in found) >= 6


@given(st.integers(0, 10_000), st.integers(2, 12), st.sampled_from(sorted(LOSSES)), st.booleans(), st.floats(0.1, 30))
@settings(deadline=None, max_examples=150)
def test_the_derivative_of_every_attack_loss_is_written_out_right(
    seed: int, classes: int, name: str, targeted: bool, spread: float
) -> None:
    g = torch.Generator().manual_seed(seed)
    z = spread * torch.randn(6, classes, generator=g, dtype=torch.float64)
    labels = torch.randint(0, classes, (6,), generator=g)
    goal = Goal(labels, (labels + 1) % classes if targeted else None)
    loss = LOSSES[name]
    terms = z.abs().amax(1, keepdim=True)
    for v in directions((classes,), g, 2, 2):
        found = check(
            lambda at: loss.value(at, goal)[:, None], z, v.expand_as(z), loss.cotangent(z, goal)[None], terms=terms
        )
        assert not found.wrong.any()


NETWORKS = [MLP([12], decay=[0.0]), CNN([3, 4], 8), Maxout([6])]


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_gradient_that_attacks_follow_is_that_of_the_loss(spec: object, name: str) -> None:
    torch.manual_seed(0)
    network = spec.build("n", (1, 8, 8), 10)["n"].classifier("n", (1, 8, 8)).double()  # type: ignore[attr-defined]
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    goal, loss = Goal(torch.arange(5)), LOSSES[name]
    gradient = logits_and_gradient(network, x, loss, goal)[1][None]
    for v in directions(x.shape[1:], torch.Generator().manual_seed(1), 3, 3):
        found = check(lambda at: loss.value(network(at), goal)[:, None], x, v.expand_as(x), gradient)
        assert not found.wrong.any()
        assert (~found.kink & ~found.flat).any()


def test_a_backward_that_is_off_by_a_thousandth_is_wrong() -> None:
    def f(x: Tensor) -> Tensor:
        return Off.apply(x.sin()).sum(1, keepdim=True)

    assert all(c.wrong.all() for c in checked(f, points((5,), 3, 0)))


def test_a_gradient_that_passes_straight_through_is_wrong() -> None:
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.round()

        @staticmethod
        def backward(ctx: object, *gradients: Tensor) -> Tensor:
            return gradients[0]

    found = checked(lambda x: Straight.apply(3 * x).sum(1, keepdim=True), points((5,), 3, 0))
    assert all(c.wrong.all() for c in found)


def test_a_gradient_that_is_masked_is_wrong() -> None:
    found = checked(lambda x: (x * x).detach().sum(1, keepdim=True) + 0 * x.sum(1, keepdim=True), points((5,), 3, 0))
    assert all(c.wrong.all() for c in found)


@pytest.mark.parametrize("offset", [0.0, 3e-8, -4e-8])
def test_at_a_kink_no_step_is_smooth(offset: float) -> None:
    x = torch.full((1, 1), offset, dtype=torch.float64)
    found = check(torch.relu, x, torch.ones_like(x), gradients_of(torch.relu, x))
    assert found.kink.all()
    assert not found.wrong.any()


@pytest.mark.parametrize("offset", [1e-6, 1e-5, 1e-3, 1.0, -1e-6])
def test_beside_a_kink_a_shorter_step_tells(offset: float) -> None:
    x = torch.full((1, 1), offset, dtype=torch.float64)
    found = check(torch.relu, x, torch.ones_like(x), gradients_of(torch.relu, x))
    assert not found.kink.any()
    assert float(found.error) < BOUND


def test_a_derivative_lost_in_rounding_is_flat_and_not_wrong() -> None:
    def f(x: Tensor) -> Tensor:
        return 1e9 + x

    x = torch.zeros(1, 1, dtype=torch.float64)
    found = check(f, x, torch.ones_like(x), torch.full((1, 1, 1), 1.5, dtype=torch.float64))
    assert bool((found.flat | found.kink).all())
    assert not found.wrong.any()


@pytest.mark.parametrize("none", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "f",
    [lambda at: at * at, lambda at: (at - 1).abs(), lambda at: 1e9 + at],
    ids=["smooth", "kink", "flat"],
)
def test_a_gradient_that_is_no_number_is_wrong(f: Callable[[Tensor], Tensor], none: float) -> None:
    x = torch.ones(1, 1, dtype=torch.float64)
    found = check(f, x, x, torch.full((1, 1, 1), none, dtype=torch.float64))
    assert bool(found.wrong)
    assert not bool(found.kink | found.flat)
    assert float(found.error) == math.inf


def test_a_network_that_is_no_number_itself_has_no_wrong_gradient() -> None:
    x = torch.ones(1, 1, dtype=torch.float64)
    found = check(lambda at: (at - 2).log(), x, x, torch.full((1, 1, 1), math.nan, dtype=torch.float64))
    assert bool(found.kink)
    assert not found.wrong.any()


def test_where_a_branch_that_is_not_taken_has_no_derivative_backprop_is_wrong() -> None:
    """The usual trap: the root of what `where` leaves out is NaN, and so is 0 times its derivative."""

    def f(x: Tensor) -> Tensor:
        return torch.where(x.abs() > 100, torch.sqrt(x.abs() - 100), x).sum(1, keepdim=True)

    assert all(c.wrong.all() for c in checked(f, points((5,), 3, 0)))


@pytest.mark.parametrize("gradient", [0.0, 1.0, 1e7, 1e8, 1e12])
@pytest.mark.parametrize(("offset", "kink"), [(3e-8, True), (1e-5, False)])
def test_what_is_a_kink_does_not_depend_on_what_backprop_says(offset: float, kink: bool, gradient: float) -> None:
    x = torch.full((1, 1), offset, dtype=torch.float64)
    found = check(torch.relu, x, torch.ones_like(x), torch.full((1, 1, 1), gradient, dtype=torch.float64))
    assert bool(found.kink) is kink
    assert bool(found.wrong) is (not kink and gradient != 1.0)


def test_central_differences_agree_with_a_closed_form() -> None:
    x = points((4,), 5, 0)
    v = directions((4,), torch.Generator().manual_seed(0), 1, 0).expand_as(x)
    found = check(lambda at: (at**3).sum(1, keepdim=True), x, v, (3 * x**2)[None])
    assert torch.allclose(found.central[:, 0], (3 * x**2 * v).sum(1), rtol=1e-7)


def test_directions_are_units_and_coordinates_differ() -> None:
    found = directions((2, 3), torch.Generator().manual_seed(0), 3, 99).flatten(1)
    assert found.shape == (9, 6)
    assert torch.allclose(found.norm(dim=1), torch.ones(9, dtype=torch.float64))
    assert torch.equal(found[3:].sum(0), torch.ones(6, dtype=torch.float64))
