from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.goal import Goal
from attacks.losses import LOSSES, logits_and_gradient, loss_named

LABELS, TARGETS = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 3, 0, 2])
LOGITS = hnp.arrays(np.float64, (4, 5), elements=st.floats(-30, 30), unique=True).map(torch.tensor)
GOALS = pytest.mark.parametrize("goal", [Goal(LABELS), Goal(LABELS, TARGETS)], ids=["untargeted", "targeted"])


@GOALS
@pytest.mark.parametrize("name", LOSSES)
@given(logits=LOGITS)
@settings(deadline=None, derandomize=True)
def test_cotangent_is_the_derivative_of_the_value(name: str, goal: Goal, logits: Tensor) -> None:
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LOSSES[name].value(leaf, goal).sum(), leaf)
    assert torch.allclose(LOSSES[name].cotangent(logits, goal), expected, rtol=1e-9, atol=1e-13)  # autograd cancels


@pytest.mark.parametrize("name", LOSSES)
def test_cotangent_is_the_slope_of_the_value(name: str) -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    goal, h = Goal(LABELS, TARGETS), 1e-6
    for k in range(5):
        move = torch.zeros_like(logits)
        move[:, k] = h
        slope = (LOSSES[name].value(logits + move, goal) - LOSSES[name].value(logits - move, goal)) / (2 * h)
        assert torch.allclose(LOSSES[name].cotangent(logits, goal)[:, k], slope, atol=1e-7)


@given(logits=LOGITS)
@settings(deadline=None, derandomize=True)
def test_cross_entropy_is_that_of_torch(logits: Tensor) -> None:
    untargeted, targeted = Goal(LABELS), Goal(LABELS, TARGETS)
    ce = LOSSES["ce"].value
    assert torch.allclose(ce(logits, untargeted), F.cross_entropy(logits, LABELS, reduction="none"))
    assert torch.allclose(ce(logits, targeted), -F.cross_entropy(logits, TARGETS, reduction="none"))


@GOALS
@given(logits=LOGITS)
@settings(deadline=None, derandomize=True)
def test_margin_is_the_one_of_the_goal(goal: Goal, logits: Tensor) -> None:
    assert torch.equal(LOSSES["margin"].value(logits, goal), goal.margin(logits))


def test_the_logit_is_that_of_the_target_or_of_the_label_to_fall() -> None:
    logits = torch.arange(20.0).view(4, 5)
    assert torch.equal(LOSSES["logit"].value(logits, Goal(LABELS, TARGETS)), torch.tensor([1.0, 8.0, 10.0, 17.0]))
    assert torch.equal(LOSSES["logit"].value(logits, Goal(LABELS)), -torch.tensor([0.0, 6.0, 12.0, 18.0]))


@GOALS
@pytest.mark.parametrize("name", ["ce", "margin", "logit"])  # a step along dlr may widen its denominator instead
def test_a_step_along_the_cotangent_comes_nearer_to_the_goal(name: str, goal: Goal) -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    step = 0.01 * LOSSES[name].cotangent(logits, goal)
    assert (goal.margin(logits + step) > goal.margin(logits)).all()


def test_confident_network_keeps_its_gradient_in_float32() -> None:
    """1 - p is 0 in float32 for the first row; attacks that take it so see no gradient, and report robustness."""
    logits = torch.tensor([[40.0, 1.0, 0.0], [80.0, 0.0, 2.0]])
    goal = Goal(torch.zeros(2, dtype=torch.int64))
    exact = LOSSES["ce"].cotangent(logits.double(), goal)
    assert torch.allclose(LOSSES["ce"].cotangent(logits, goal).double(), exact, rtol=1e-5, atol=0)
    assert (exact[:, 0] < 0).all()


@GOALS
@pytest.mark.parametrize("name", LOSSES)
def test_row_depends_on_its_row_alone(name: str, goal: Goal) -> None:
    logits, index = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0])
    for function in (LOSSES[name].value, LOSSES[name].cotangent):
        assert torch.equal(function(logits[index], goal[index]), function(logits, goal)[index])


@GOALS
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_by_the_image_is_that_of_autograd(name: str, goal: Goal, mlp: nn.Module) -> None:
    network = mlp.double().requires_grad_(True)
    x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():  # a caller's mode must not matter
        logits, gradient = logits_and_gradient(network, x, LOSSES[name], goal)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LOSSES[name].value(network(leaf), goal).sum(), leaf)
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-14)
    assert torch.equal(logits, network(x).detach())
    assert not logits.requires_grad
    assert not x.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_two_classes_are_enough_for_every_loss() -> None:
    """Some losses of the field divide by the gap between the first and the third class."""
    logits, goal = torch.tensor([[1.0, 0.5], [0.0, 2.0]]), Goal(torch.tensor([0, 1]))
    for loss in LOSSES.values():
        assert loss.value(logits, goal).isfinite().all()
        assert loss.cotangent(logits, goal).isfinite().all()


def test_unknown_loss_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="loss: must be one of ce, margin, logit, dlr, got 'mse'"):
        loss_named("mse")


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, derandomize=True)
def test_dlr_is_that_of_the_paper(seed: int) -> None:
    """Written out from equation 6, and for a target, while the label is predicted, from equation 7."""
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.stack([logits.argsort(1)[:, -k] for k in (1, 1, 2, 5)], 1).diagonal()
    ordered, own = logits.sort(1, descending=True).values, logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    untargeted = -(own - other) / (ordered[:, 0] - ordered[:, 2])
    torch.testing.assert_close(LOSSES["dlr"].value(logits, Goal(labels)), untargeted)

    labels, targets = logits.argmax(1), logits.argsort(1)[:, 1]
    wanted = logits.gather(1, targets[:, None])[:, 0]
    targeted = -(ordered[:, 0] - wanted) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2)
    torch.testing.assert_close(LOSSES["dlr"].value(logits, Goal(labels, targets)), targeted)


def test_dlr_and_its_slope_are_those_of_torchattacks() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    leaf = torch.randn(50, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64).requires_grad_()
    labels, targets = leaf.argmax(1), leaf.argsort(1)[:, 2]
    away, towards = (attack(nn.Linear(6, 6)) for attack in (torchattacks.APGD, torchattacks.APGDT))
    for goal, theirs in (
        (Goal((labels + targets) % 6), away.dlr_loss(leaf, (labels + targets) % 6)),
        (Goal(labels, targets), towards.dlr_loss_targeted(leaf, labels, targets)),
    ):
        (slope,) = torch.autograd.grad(theirs.sum(), leaf)
        torch.testing.assert_close(LOSSES["dlr"].value(leaf.detach(), goal), theirs.detach())
        torch.testing.assert_close(LOSSES["dlr"].cotangent(leaf.detach(), goal), slope)


@GOALS
def test_dlr_knows_neither_scale_nor_level_of_the_logits(goal: Goal) -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    dlr = LOSSES["dlr"]
    for scale, level in ((1e4, 0.0), (1e-4, 7.0)):
        torch.testing.assert_close(dlr.value(scale * logits + level, goal), dlr.value(logits, goal))
        changed = dlr.cotangent(scale * logits + level, goal) * scale
        torch.testing.assert_close(changed, dlr.cotangent(logits, goal))


@GOALS
@pytest.mark.parametrize("gap", [0.0, 1e-30])
def test_dlr_of_equal_logits_is_finite_and_its_slope_leads_to_the_goal(goal: Goal, gap: float) -> None:
    logits = torch.zeros(4, 5)
    logits[:, 4] = gap
    assert LOSSES["dlr"].value(logits, goal).isfinite().all()
    slope = LOSSES["dlr"].cotangent(logits, goal)
    assert slope.isfinite().all()
    assert (slope.gather(1, goal.classes[:, None])[:, 0] * goal.direction > 0).all()


@pytest.mark.parametrize(("classes", "goal"), [(2, Goal(LABELS % 2)), (3, Goal(LABELS % 3, (LABELS + 1) % 3))])
def test_dlr_is_the_margin_where_there_are_too_few_classes(classes: int, goal: Goal) -> None:
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(3))
    assert torch.equal(LOSSES["dlr"].value(logits, goal), goal.margin(logits))
    assert torch.equal(LOSSES["dlr"].cotangent(logits, goal), LOSSES["margin"].cotangent(logits, goal))
