from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from attacks.goal import Goal

LABELS, TARGETS = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 3, 0, 2])
LOGITS = hnp.arrays(np.float32, (4, 4), elements=st.floats(-50, 50, width=32)).map(torch.tensor)
GOALS = pytest.mark.parametrize("goal", [Goal(LABELS), Goal(LABELS, TARGETS)], ids=["untargeted", "targeted"])


@GOALS
@given(logits=LOGITS)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_margin_is_positive_exactly_when_reached(goal: Goal, logits: Tensor) -> None:
    margin, reached = goal.margin(logits), goal.reached(logits)
    assert torch.equal((margin > 0)[margin != 0], reached[margin != 0])  # at a tie argmax decides


@given(logits=LOGITS)
@settings(deadline=None, derandomize=True)
def test_untargeted_is_reached_where_the_prediction_is_wrong(logits: Tensor) -> None:
    assert torch.equal(Goal(LABELS).reached(logits), logits.argmax(1) != LABELS)


@given(logits=LOGITS)
@settings(deadline=None, derandomize=True)
def test_targeted_is_reached_only_at_the_target(logits: Tensor) -> None:
    goal = Goal(LABELS, TARGETS)
    assert torch.equal(goal.reached(logits), logits.argmax(1) == TARGETS)
    assert Goal(LABELS).reached(logits)[goal.reached(logits)].all()


def test_third_class_reaches_the_untargeted_goal_alone() -> None:
    logits = torch.tensor([[0.0, 1.0, 5.0]])
    labels, targets = torch.tensor([0]), torch.tensor([1])
    assert Goal(labels).reached(logits)
    assert not Goal(labels, targets).reached(logits)
    assert Goal(labels).margin(logits) == 5.0
    assert Goal(labels, targets).margin(logits) == -4.0


@GOALS
def test_margin_does_not_depend_on_a_shift_of_the_logits(goal: Goal) -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(goal.margin(logits), goal.margin(logits + 7))


@GOALS
def test_nan_reaches_no_goal(goal: Goal) -> None:
    logits = torch.eye(4)[[1, 3, 0, 2]]
    assert goal.reached(logits).all()
    for column in range(4):
        broken = logits.index_fill(1, torch.tensor([column]), torch.nan)
        assert not goal.reached(broken).any()
        assert not (goal.margin(broken) > 0).any()


@GOALS
def test_rows_are_taken_together(goal: Goal) -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    for index in (torch.tensor([2, 0, 2]), torch.tensor([True, False, False, True])):
        assert torch.equal(goal[index].margin(logits[index]), goal.margin(logits)[index])
    assert len(goal[torch.tensor([1])]) == 1
    assert len(goal) == 4


def test_classes_and_direction_say_which_logit_should_go_where() -> None:
    assert torch.equal(Goal(LABELS).classes, LABELS)
    assert Goal(LABELS).direction == -1.0
    assert torch.equal(Goal(LABELS, TARGETS).classes, TARGETS)
    assert Goal(LABELS, TARGETS).direction == 1.0


@pytest.mark.parametrize(
    ("labels", "targets", "message"),
    [
        (torch.zeros(3), None, r"labels must be int64 of shape \(B,\), got torch.float32 \(3,\)"),
        (torch.zeros(3, 1, dtype=torch.int64), None, r"labels must be int64 of shape \(B,\), got .* \(3, 1\)"),
        (LABELS, TARGETS[:2], r"targets must be int64 of shape \(4,\), got torch.int64 \(2,\)"),
        (LABELS, TARGETS.float(), r"targets must be int64 of shape \(4,\), got torch.float32"),
        (LABELS, LABELS, "a target equals the true class"),
    ],
)
def test_goal_that_makes_no_sense_is_one_clear_line(labels: Tensor, targets: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Goal(labels, targets)
