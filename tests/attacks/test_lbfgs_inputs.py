from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.threat import unlimited
from eval.memory import LiveStorage
from tests.attacks.small_networks import (
    MARGIN,
    PAPER,
    QUICK,
    SHAPE,
    STRONG,
    Counter,
    images,
    length,
    run,
    smooth,
)

EACH = pytest.mark.parametrize(
    "form",
    [LBFGS(), PAPER, QUICK, replace(STRONG, patience=3), MARGIN],
    ids=["default", "paper", "quick", "strong", "margin"],
)


@EACH
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("box", [(-1.0, 1.0), (0.0, 255.0), (-2.5, 3.0)])
def test_units_of_the_box_change_nothing(form: LBFGS, box: tuple[float, float], targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal, width = Goal(labels, targets if targeted else None), box[1] - box[0]
    scaled = x * width + box[0]
    x_adv = run(form, lambda v: net((v - box[0]) / width), scaled, goal, box)
    assert bool(goal.reached(net((x_adv - box[0]) / width)).all())
    mean, usual = length(x_adv, scaled).mean() / width, length(run(form, net, x, goal), x).mean()
    assert float(mean) == pytest.approx(float(usual), rel=0.02)


@EACH
@pytest.mark.parametrize("targeted", [False, True])
def test_no_images_images_that_are_done_and_a_network_of_nan(form: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    assert run(form, net, x[:0], goal[torch.arange(0)]).shape == (0, *SHAPE)
    done = Goal((labels + 1) % 10, labels if targeted else None)
    assert torch.equal(run(form, net, x, done), x)
    assert torch.equal(run(form, lambda v: net(v) * torch.nan, x, goal), x)


@EACH
def test_two_classes_are_one_goal(form: LBFGS) -> None:
    net = smooth(classes=2)
    x = torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(2))
    labels = net(x).argmax(1)
    away, to = run(form, net, x, Goal(labels)), run(form, net, x, Goal(labels, 1 - labels))
    assert bool(Goal(labels).reached(net(away)).all())
    assert bool(Goal(labels).reached(net(to)).all())
    assert float(length(to, x).mean()) == pytest.approx(float(length(away, x).mean()), rel=1e-3)


@EACH
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_the_fewest_evaluations_are_not_exceeded(form: LBFGS, targeted: bool, most: int) -> None:
    net = smooth()
    x, labels, targets = images(net)
    counter = Counter(net, len(x))
    x_adv = run(replace(form, evaluations=most), counter, x, Goal(labels, targets if targeted else None))
    assert bool(torch.isfinite(x_adv).all())
    assert float(counter.forwards.max()) <= 1 + most
    compared = 1 if targeted else form.candidates
    assert float(counter.backwards.max()) <= most - 1 + compared


@EACH
@pytest.mark.parametrize(
    ("images_in", "logits_in"),
    [
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
    ],
)
def test_logits_of_another_type_than_the_images(form: LBFGS, images_in: torch.dtype, logits_in: torch.dtype) -> None:
    net = smooth()
    x = images(net)[0].to(images_in)

    def cast(v: Tensor) -> Tensor:
        return net(v.float()).to(logits_in)

    goal = Goal(cast(x).argmax(1))
    x_adv = run(form, cast, x, goal)
    assert x_adv.dtype == images_in
    assert bool(goal.reached(cast(x_adv)).all())
    usual = run(form, net, x.float(), goal)
    rel = 0.05 if logits_in == torch.bfloat16 else 0.005
    assert float(length(x_adv, x).mean()) == pytest.approx(float(length(usual, x.float()).mean()), rel=rel)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("memory", [1, 8, 16])
def test_memory_is_what_the_docstring_says(memory: int, targeted: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4096, 10)).eval().requires_grad_(False)
    x = torch.rand(32, 1, 64, 64)
    labels, targets = net(x).argmax(1), net(x).argsort(1, descending=True)[:, 2]
    with LiveStorage() as live:
        run(LBFGS(memory=memory), net, x, Goal(labels, targets if targeted else None))
    assert 2 * memory + 10 <= live.peak / (4 * x.numel()) <= max(2 * memory + 19.1, 26)


@pytest.mark.parametrize("classes", [1, 2, 9])
def test_memory_grows_with_the_classes_that_the_search_goes_to(classes: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4096, 20)).eval().requires_grad_(False)
    net[1].bias.data.zero_()[0] = 10.0  # all other classes are about equally near
    x = torch.rand(32, 1, 64, 64)
    with LiveStorage() as live:
        run(LBFGS(classes=classes), net, x, Goal(net(x).argmax(1)))
    assert live.peak / (4 * x.numel()) <= max(2 * 8 + 17.1 + classes, 26)


@pytest.mark.parametrize("form", [LBFGS(), QUICK, PAPER])
@pytest.mark.parametrize("mask", [-torch.inf, torch.finfo(torch.float32).min, -1e9, -1e4])
def test_a_class_that_is_masked_out_is_no_obstacle(form: LBFGS, mask: float) -> None:
    net = smooth()
    masked = torch.zeros(10).index_fill(0, torch.tensor([4, 7]), mask)
    x, labels, _ = images(net)
    labels = (net(x) + masked).argmax(1)
    goal = Goal(labels)
    x_adv = run(form, lambda v: net(v) + masked, x, goal)
    assert bool(goal.reached(net(x_adv) + masked).all())
    kept = torch.tensor([k for k in range(10) if k not in (4, 7)])
    of_eight = torch.searchsorted(kept, labels)
    without = run(form, lambda v: net(v)[:, kept], x, Goal(of_eight))
    assert float(length(x_adv, x).mean()) == pytest.approx(float(length(without, x).mean()), rel=1e-3)


def test_a_constant_network_and_an_empty_batch() -> None:
    x = torch.rand(3, *SHAPE)
    constant = lambda v: v.flatten(1)[:, :3] * 0 + torch.tensor([2.0, 1.0, 0.0])  # noqa: E731
    zero = Goal(torch.zeros(3, dtype=torch.int64))
    assert bool(torch.isfinite(run(LBFGS(), constant, x, zero)).all())
    assert run(LBFGS(), constant, x[:0], zero[torch.arange(0)]).shape == (0, *SHAPE)


def test_a_network_that_never_gives_in_returns_a_finite_try() -> None:
    def stubborn(v: Tensor) -> Tensor:
        flat = v.flatten(1)
        return torch.stack([flat.sum(1) * 0 + 5.0, flat.mean(1)], 1)

    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    goal = Goal(torch.zeros(3, dtype=torch.int64))
    x_adv = run(LBFGS(), stubborn, x, goal)
    assert bool(unlimited("l2").inside_box(x_adv).all())
    best = goal.margin(torch.tensor([[5.0, 1.0]]).expand(3, 2))  # where all pixels are 1
    torch.testing.assert_close(goal.margin(stubborn(x_adv)), best, rtol=0, atol=1e-3)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("form", [LBFGS(), PAPER, QUICK, STRONG, MARGIN])
def test_a_row_whose_logits_are_nan_leaves_the_others_alone(form: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    bad = x[3, 0, 0, 0]

    def broken(v: Tensor) -> Tensor:
        # The network fails for the fourth image, as soon as it moves.
        near = (v[:, 0, 3:] - x[3, 0, 3:]).flatten(1).norm(dim=1) < 1.0
        moved = near & (v[:, 0, 0, 0] != bad)
        return torch.where(moved[:, None], torch.nan, net(v))

    goal = Goal(labels, targets if targeted else None)
    fine, x_adv = run(form, net, x, goal), run(form, broken, x, goal)
    assert bool(torch.isfinite(x_adv).all())
    others = torch.arange(len(x)) != 3
    torch.testing.assert_close(length(x_adv, x)[others], length(fine, x)[others], rtol=3e-3, atol=0)


def tied(v: Tensor) -> Tensor:
    """Logits [0, a, a / 2 - 1]: where a = 0 the first two are the same."""
    a = (v.flatten(1) - 0.5) @ torch.linspace(-1, 1, 36)
    return torch.stack([torch.zeros_like(a), a, a * 0.5 - 1], 1)


@pytest.mark.parametrize("form", [LBFGS(), QUICK, STRONG, PAPER])
@pytest.mark.parametrize("targeted", [False, True])
def test_a_tie_lies_on_the_boundary_and_no_search_leaves_the_numbers(form: LBFGS, targeted: bool) -> None:
    x = torch.cat([torch.full((2, *SHAPE), 0.5), torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))])
    labels = tied(x).argmax(1)
    labels[:2] = 0
    assert tied(x)[0, 0] == tied(x)[0, 1]

    def strict(v: Tensor) -> Tensor:
        assert bool(torch.isfinite(v).all())
        return tied(v)

    goal = Goal(labels, 1 - labels if targeted else None)
    x_adv = run(form, strict, x, goal)
    assert bool(goal.reached(tied(x_adv)).all())
    assert float(length(x_adv, x)[:2].max()) < 1e-4


def test_ties_of_coarse_logits_take_no_batch_down() -> None:
    net = smooth()

    def coarse(v: Tensor) -> Tensor:
        assert bool(torch.isfinite(v).all())
        z = net(v)
        return (z * 4).round() / 4 + (z - z.detach())  # the gradient of those that are not rounded

    x = torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(5))
    top = coarse(x).topk(2, 1).values
    ties = top[:, 0] == top[:, 1]
    assert int(ties.sum()) > 5
    goal = Goal(coarse(x).argmax(1))
    x_adv = run(LBFGS(), coarse, x, goal)
    assert bool(goal.reached(coarse(x_adv)).all())
    rest = length(run(LBFGS(), coarse, x[~ties], goal[~ties]), x[~ties])
    torch.testing.assert_close(length(x_adv, x)[~ties].mean(), rest.mean(), rtol=1e-3, atol=0)
    assert float(length(x_adv, x)[ties].mean()) < 0.2 * float(rest.mean())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_of_16_bits_are_refused_in_one_line(dtype: torch.dtype) -> None:
    x = torch.rand(2, *SHAPE, dtype=dtype)
    with pytest.raises(ValueError, match=r"images must be float32 or float64, got torch\..*; cast them"):
        run(LBFGS(), lambda v: smooth()(v.float()), x, Goal(torch.zeros(2, dtype=torch.int64)))


def test_logits_that_no_pixel_has_a_part_in_are_no_error() -> None:
    def deaf(v: Tensor) -> Tensor:
        return torch.zeros(len(v), 3, requires_grad=True) + torch.tensor([1.0, 0.5, 0.0])

    x = torch.rand(3, *SHAPE)
    assert torch.equal(run(LBFGS(), deaf, x, Goal(torch.zeros(3, dtype=torch.int64))), x)
