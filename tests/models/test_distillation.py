"""Defensive distillation, against its definition and what it does to gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from models.distillation import distillation
from models.errors import ModelError


def test_without_a_teacher_it_is_the_cross_entropy_of_cooled_logits() -> None:
    z, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    by_hand = -log_softmax(z / 20, dim=1)[torch.arange(6), y].mean()
    torch.testing.assert_close(distillation(20.0)(torch.zeros(6, 1), z, y), by_hand)


def test_with_a_teacher_it_is_least_where_the_answers_agree() -> None:
    teacher = torch.nn.Linear(5, 3)
    x, labels = torch.randn(8, 5), torch.zeros(8, dtype=torch.int64)
    loss = distillation(10.0, teacher)
    own = teacher(x).detach()
    soft = (own / 10).softmax(1)
    entropy = -(soft * soft.log()).sum(1).mean()
    torch.testing.assert_close(loss(x, own, labels), entropy)
    other = own + torch.randn_like(own)
    gap = kl_div(log_softmax(other / 10, dim=1), soft, reduction="batchmean")
    torch.testing.assert_close(loss(x, other, labels) - entropy, gap)
    z = other.requires_grad_()
    loss(x, z, labels).backward()
    assert teacher.weight.grad is None


def test_a_temperature_below_1_is_refused() -> None:
    with pytest.raises(ModelError, match=r"temperature: must be >= 1, got 0\.5"):
        distillation(0.5)
