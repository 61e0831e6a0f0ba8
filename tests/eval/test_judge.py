from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attacks.goal import Goal
from attacks.threat import ThreatModel, unlimited
from eval.judge import judge, rank
from eval.meter import Meter


def brightness(x: Tensor) -> Tensor:
    """Class 1 exactly when the mean pixel is above one half."""
    mean = x.flatten(1).mean(1)
    return torch.stack([torch.full_like(mean, 0.5), mean], 1)


def image(value: float) -> Tensor:
    return torch.full((1, 1, 2, 2), value)


ZERO = Goal(torch.tensor([0]))


def test_success_needs_the_goal_the_box_and_the_budget():
    threat = ThreatModel("linf", 0.2)
    verdicts = {
        (start, end): judge(brightness, image(start), image(end), ZERO, threat)
        for start, end in [(0.4, 0.55), (0.4, 0.45), (0.3, 0.6), (0.9, 1.1)]
    }
    assert verdicts[0.4, 0.55]["success"].item()
    assert not verdicts[0.4, 0.45]["success"].item()  # not reached
    assert not verdicts[0.3, 0.6]["in_budget"].item()
    assert not verdicts[0.3, 0.6]["success"].item()
    assert not verdicts[0.9, 1.1]["in_box"].item()
    assert not verdicts[0.9, 1.1]["success"].item()


def test_a_candidate_with_nan_is_no_success():
    verdict = judge(brightness, image(0.4), image(math.nan), ZERO, unlimited("l2"))
    assert not verdict["in_box"].item()
    assert not verdict["success"].item()


def test_success_can_be_lost_to_rounding():
    def shifted(x: Tensor) -> Tensor:
        return brightness(x + 0.001)  # the boundary lies at 127.245 / 255

    verdict = judge(shifted, image(0.4), image(127.4 / 255), ZERO, unlimited("l2"))
    assert verdict["success"].item()
    assert not verdict["success_8bit"].item()
    assert judge(shifted, image(0.4), image(127.6 / 255), ZERO, unlimited("l2"))["success_8bit"].item()


def test_a_budget_is_kept_up_to_the_rounding_of_float32():
    x, eps = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 8 / 255
    at_the_edge = (x + eps * torch.sign(torch.randn(x.shape))).clamp(0, 1)
    goal = Goal(torch.zeros(64, dtype=torch.int64))
    assert judge(brightness, x, at_the_edge, goal, ThreatModel("linf", eps))["in_budget"].all()
    beyond = judge(brightness, x, x + eps * 1.001, goal, ThreatModel("linf", eps))
    assert not beyond["in_budget"].any()


def test_sizes_are_those_of_the_definitions():
    x = torch.zeros(1, 1, 2, 2)
    x_adv = torch.tensor([[[[0.3, 0.0], [0.4, 0.0]]]])
    verdict = {k: v.item() for k, v in judge(brightness, x, x_adv, ZERO, unlimited("l2")).items()}
    assert verdict["l0"] == 2
    assert verdict["l1"] == pytest.approx(0.7)
    assert verdict["l2"] == pytest.approx(0.5)
    assert verdict["linf"] == pytest.approx(0.4)
    assert verdict["rms"] == pytest.approx(0.25)


def test_a_targeted_goal_needs_the_target():
    goal = Goal(torch.tensor([0]), torch.tensor([2]))

    def three(x: Tensor) -> Tensor:
        return torch.cat([brightness(x), torch.full((len(x), 1), -1.0)], 1)

    verdict = judge(three, image(0.4), image(0.9), goal, unlimited("l2"))
    assert verdict["adv_pred"].item() == 1
    assert not verdict["success"].item()


def test_the_meter_charges_the_samples_that_rows_name():
    meter = Meter(brightness, 3, torch.device("cpu"))
    with torch.no_grad():
        meter(torch.rand(3, 1, 2, 2))
    leaf = torch.rand(3, 1, 2, 2, requires_grad=True)
    some = meter.rows(torch.tensor([2, 0, 2]))
    torch.autograd.grad(some(leaf).sum(), leaf)
    some.rows(torch.tensor([1]))(leaf[:1].detach())  # row 1 of those is sample 0
    assert meter.forwards.tolist() == [3, 1, 3]
    assert meter.backwards.tolist() == [1, 0, 2]


def test_the_meter_charges_those_who_were_named_when_it_was_asked():
    meter = Meter(brightness, 3, torch.device("cpu"))
    index, x = torch.tensor([0, 1]), torch.rand(3, 1, 2, 2)
    for _ in range(4):
        meter.rows(index)(x[:2])
    index += 1
    for _ in range(2):
        meter.rows(index)(x[:2])
    meter(x)
    meter(x)
    counted = meter.counted()
    meter.rows(index)(x[:2])
    assert meter.forwards.tolist() == [6, 9, 5]
    meter.recall(counted)
    assert meter.forwards.tolist() == counted[0].tolist() == [6, 8, 4]
    meter.rows(index)(x[:2])
    assert meter.per_sample()[0].tolist() == [6, 9, 5]


def test_the_meter_shares_out_rows_of_unknown_owner():
    meter = Meter(brightness, 4, torch.device("cpu"))
    meter(torch.rand(2, 1, 2, 2))
    assert meter.per_sample()[0].tolist() == [0.5] * 4


def test_the_meter_refuses_owners_that_do_not_fit():
    meter = Meter(brightness, 4, torch.device("cpu"))
    with pytest.raises(ValueError, match="one sample per row"):
        meter.rows(torch.tensor([1]))(torch.rand(2, 1, 2, 2))


def test_a_network_without_an_answer_predicts_nothing():
    def broken(x: Tensor) -> Tensor:
        return brightness(x) * torch.tensor([1.0, math.nan])

    verdict = judge(broken, image(0.4), image(0.6), ZERO, unlimited("l2"))
    assert verdict["adv_pred"].item() == -1
    assert not verdict["success"].item()


def test_a_candidate_outside_the_box_is_judged_where_there_is_none():
    free = ThreatModel("linf", 0.3, (-math.inf, math.inf))
    verdict = judge(brightness, image(0.3), image(0.55), ZERO, free)
    beyond = judge(brightness, image(0.9), image(1.15), Goal(torch.tensor([1])), free)

    assert verdict["success"].item()
    assert verdict["success_8bit"].item()  # nothing to round to
    assert beyond["in_box"].item()
    assert not beyond["success"].item()
    assert not judge(brightness, image(0.3), image(0.9), ZERO, free)["in_budget"].item()


@given(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=1, max_size=5), st.data())
def test_a_rank_counts_the_classes_before_the_label_and_is_0_where_it_is_predicted(rows, data):
    logits = torch.tensor(rows, dtype=torch.float32)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    expected = [sorted(range(4), key=lambda k, z=z: -z[k]).index(y) for z, y in zip(rows, labels.tolist(), strict=True)]
    assert rank(logits, labels).tolist() == expected  # sorted is stable: the first of equals comes first
    assert torch.equal(rank(logits, labels) == 0, logits.argmax(1) == labels)


def test_a_label_has_no_rank_where_a_logit_is_not_finite():
    logits = torch.tensor([[1.0, math.nan], [1.0, math.inf], [1.0, 0.0]])
    assert rank(logits, torch.tensor([0, 1, 1])).tolist() == [-1, -1, 1]
